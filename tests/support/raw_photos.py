"""A folder of people made of the outside photos, with something wrong in many of them."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from simswap_jax.io.images import read_picture

GROUP = {"ana": (586, 516), "ben": (1507, 384), "eve": (989, 433)}  # faces of multi_people.jpg
OWN = {"ana": "specific3.png", "ben": "specific2.png", "eve": "specific1.png"}


def write_tree(root: Path, photos: Path) -> dict[str, str]:
    """Write the folder; returns file → the reason for which it is left out, "" where it is kept."""
    one = read_picture(photos / "one_000114.jpg")
    group = read_picture(photos / "multi_people.jpg")
    own = {name: read_picture(photos / file) for name, file in OWN.items()}
    expected: dict[str, str] = {}

    def write(file: str, picture: np.ndarray, reason: str = "") -> None:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(picture)).save(root / file)
        expected[file] = reason

    for name, (x, y) in GROUP.items():
        crop = group[y - 150 : y + 150, x - 130 : x + 130]
        write(f"{name}/group.png", crop)
        write(f"{name}/mirror.png", crop[:, ::-1])
        write(f"{name}/own.png", own[name])
    again = group[366:666, 456:716]
    write("ana/again.jpg", cv2.resize(again, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA), "duplicate")
    write("ana/other.png", own["eve"][:, ::-1], "wrong person")
    write("ben/other.png", one, "wrong person")
    write("fay/shared.png", one, "two people")
    write("gus/shared.jpg", one, "two people")
    write("gus/alone.png", read_picture(photos / "one_000180.jpg"))
    write("odd/black.png", np.zeros((300, 300, 3), np.uint8), "no face")
    write("odd/blurred.png", cv2.GaussianBlur(one, (0, 0), 4), "blurred")
    write("odd/crowd.png", group, "several faces")
    write("odd/cut.png", one[:, :250], "cut off")
    write("odd/doubtful.png", one[:, :240], "doubtful face")
    far = np.full((300, 300, 3), 128, np.uint8)
    small = cv2.resize(one, None, fx=0.2, fy=0.2, interpolation=cv2.INTER_AREA)
    far[100 : 100 + small.shape[0], 100 : 100 + small.shape[1]] = small
    write("odd/far.png", far, "small face")
    write("odd/thumbnail.png", one[::4, ::4], "small picture")
    write("odd/turned.png", read_picture(photos / "two_054292.jpg"), "turned away")
    (root / "odd/text.jpg").write_text("no picture")
    (root / "odd/torn.jpg").write_bytes((photos / "one_000114.jpg").read_bytes()[:20_000])
    expected |= {"odd/text.jpg": "unreadable", "odd/torn.jpg": "unreadable"}
    return expected
