"""What marking costs next to swapping: a frame's face at 1080p, on one core and on all of them.

    python benchmarks/marks.py --photo PHOTO [--model FOLDER]

Without a model the paper's generator at 224 pixels and ResNet-50-like recognition with random weights are taken: their
time does not depend on the weights. YuNet is looked for as always (SIMSWAP_JAX_WEIGHTS).
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from swap_batch import random_model

from simswap_jax import FaceSwapper
from simswap_jax.io.images import read_picture
from simswap_jax.provenance import c2pa, writer
from simswap_jax.provenance.certificates import local_credentials
from simswap_jax.provenance.label_xmp import Provenance, draw_label, xmp_packet
from simswap_jax.provenance.watermark import detect, embed


def main() -> None:
    parse = argparse.ArgumentParser()
    parse.add_argument("--photo", type=Path, required=True)
    parse.add_argument("--model", type=Path)
    parse.add_argument("--repeats", type=int, default=9)
    options = parse.parse_args()
    frame = cv2.resize(read_picture(options.photo), (1920, 1080), interpolation=cv2.INTER_AREA)
    swapper = FaceSwapper.from_pretrained(options.model) if options.model else FaceSwapper(random_model("224"))
    vector = np.ones(swapper.identity_size, np.float32)

    def swap() -> np.ndarray:
        return swapper.swap(frame, vector, faces="largest")

    rows: dict[str, Callable[[], object]] = {
        "swapping the largest face of 1920×1080": swap,
        "label": lambda: draw_label(frame),
        "invisible watermark": lambda: embed(frame),
        "XMP packet": packet,
        "looking for the invisible watermark": lambda: detect(frame),
    }
    taken = {name: milliseconds(action, options.repeats) for name, action in rows.items()}
    if c2pa.available():
        taken["signing a JPEG of it"] = signing(frame, options.repeats)
    for name, each in taken.items():
        print(f"{name:<40} {each[0]:8.1f} ms by the clock, {each[1]:8.1f} ms of cores")
    share = (taken["label"] + taken["invisible watermark"]) / taken["swapping the largest face of 1920×1080"]
    print(f"label and invisible watermark, of swapping    {share[0]:11.1%}               {share[1]:11.1%}")


def packet() -> bytes:
    return xmp_packet(Provenance(inputs=(("source", "ab" * 32), ("target", "cd" * 32))))


def signing(frame: np.ndarray, repeats: int) -> np.ndarray:
    """Milliseconds that the manifest adds to a written file."""
    credentials = local_credentials()
    with tempfile.TemporaryDirectory() as folder:
        plain, path = Path(folder) / "plain.jpg", Path(folder) / "x.jpg"
        writer.write_picture(plain, frame)

        def sign() -> None:
            path.write_bytes(plain.read_bytes())
            c2pa.sign(path, Provenance(), credentials)

        return milliseconds(sign, repeats)


def milliseconds(action: Callable[[], object], repeats: int) -> np.ndarray:
    """By the clock and of all cores together: the medians of several runs, after one that is not counted."""
    action()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        action()
        taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return 1000 * np.median(taken, axis=0)


if __name__ == "__main__":
    main()
