"""The model that ships, on stored crops and identity vectors: the same pictures as when they were stored.

It needs no outside file: the identity network is left out, and its vectors are stored.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from simswap_jax import FaceSwapper
from simswap_jax.inference.swapper import DEFAULT_MODEL, PRETRAINED
from simswap_jax.io.images import encode_png, read_picture
from simswap_jax.weights import model_folder

CROPS = Path(__file__).parents[1] / "golden_crops"
PEOPLE = ("001", "003", "005")
LEAST_PSNR = 45.0  # dB


@pytest.fixture(scope="module")
def swapper():
    return FaceSwapper(model_folder.read(PRETRAINED / DEFAULT_MODEL, with_identity=False))


def crops():
    return np.stack([read_picture(CROPS / f"{person}.png") for person in PEOPLE])


def test_stored_crops_are_swapped_as_they_were(swapper):
    targets = crops()
    results = swapper.swap_aligned(targets, np.load(CROPS / "vectors.npz")["vectors"])
    for person, target, result in zip(PEOPLE, targets, results):
        stored = read_picture(CROPS / f"result_{person}.png")
        assert cv2.PSNR(result, stored) >= LEAST_PSNR, person
        assert cv2.PSNR(target, stored) < 30  # the identity was changed


def test_stored_crops_are_small():
    assert sum(path.stat().st_size for path in CROPS.iterdir()) < 300_000


def store(london_set):
    """Make the stored files again."""
    swapper = FaceSwapper.from_pretrained()
    photos = [read_picture(london_set / person / "neutral.jpg") for person in PEOPLE]
    targets = np.stack([swapper.photos.choose_face(photo, "target").picture for photo in photos])
    vectors = np.roll(swapper.identity_vectors(list(targets)), -1, axis=0)
    results = swapper.swap_aligned(targets, vectors)
    np.savez(CROPS / "vectors.npz", vectors=vectors)
    for person, target, result in zip(PEOPLE, targets, results):
        (CROPS / f"{person}.png").write_bytes(encode_png(target))
        (CROPS / f"result_{person}.png").write_bytes(encode_png(result))


if __name__ == "__main__":
    store(Path(sys.argv[1]))
