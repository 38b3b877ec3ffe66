"""The example faces of the web page: rendered, so they belong to nobody."""

from pathlib import Path

import cv2
import numpy as np

from simswap_jax.contrib.rendered.face_parameters import sample_attributes, sample_people
from simswap_jax.contrib.rendered.renderer import render
from simswap_jax.io.images import encode_png

SEED = 11
SHOWN = (0, 2, 5, 9, 10, 11)  # of those sampled with this seed, some that YuNet takes for faces
PAIRS = ((3, 5), (0, 4))  # of the shown ones, side by side as targets with two faces
SIZE = 288


def draw(folder: Path, photos: bool) -> tuple[list[Path], list[Path]]:
    """Render the example sources and targets into a folder.

    Args:
      folder: is there.
      photos: whether targets may be more than a single face's crop.

    Returns:
      Source and target files, PNG.
    """
    faces = example_faces(SIZE)
    sources = [save(folder / f"face {number}.png", face) for number, face in enumerate(faces, 1)]
    if not photos:
        return sources, sources
    targets = [
        save(folder / f"two faces {number}.png", framed(np.concatenate([faces[i] for i in pair], axis=1)))
        for number, pair in enumerate(PAIRS, 1)
    ]
    return sources, [*targets, *sources[:3]]


def example_faces(size: int) -> np.ndarray:
    """The faces themselves, uint8 RGB [6, size, size, 3]."""
    rows, count = list(SHOWN), max(SHOWN) + 1
    return render(sample_people(SEED, count)[rows], sample_attributes(SEED, count)[rows], size)


def framed(picture: np.ndarray) -> np.ndarray:
    """A picture with some room around it, uint8 RGB."""
    edge = SIZE // 6
    return cv2.copyMakeBorder(picture, edge, edge, edge, edge, cv2.BORDER_REPLICATE)


def save(path: Path, picture: np.ndarray) -> Path:
    """Write a PNG and give its path back."""
    path.write_bytes(encode_png(picture))
    return path
