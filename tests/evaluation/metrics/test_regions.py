"""Sharpness and light of pictures made for it."""

import cv2
import numpy as np

from simswap_jax.evaluation import candidates
from simswap_jax.evaluation.metrics import regions


def test_laplacian_energy_falls_with_blur_and_looks_at_the_face_only():
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    masks = regions.face_masks(None, 2, 64)
    soft = np.stack([candidates.half_resolution(picture) for picture in noise])
    assert (regions.laplacian_energy(soft, masks) < 0.2 * regions.laplacian_energy(noise, masks)).all()
    outside = np.where(masks[..., None] > 0, np.uint8(128), noise)
    outside[masks > 0] = 128
    inner = cv2.erode(masks[0], np.ones((3, 3)))[None].repeat(2, 0)
    assert regions.laplacian_energy(outside, inner).max() < 0.05 * regions.laplacian_energy(noise, inner).min()


def test_light_has_the_direction_it_is_drawn_with():
    ramp = np.linspace(60, 180, 64)
    right = np.broadcast_to(ramp[None, :, None], (64, 64, 3)).astype(np.uint8)
    pictures = np.stack([right, right[:, ::-1], right.transpose(1, 0, 2)])
    slopes = regions.light(pictures, regions.face_masks(None, 3, 64))
    np.testing.assert_allclose(slopes, [[1, 0], [-1, 0], [0, 1]], atol=0.1)
    brighter = np.clip(pictures.astype(int) * 1.3, 0, 255).astype(np.uint8)
    np.testing.assert_allclose(regions.light(brighter, regions.face_masks(None, 3, 64)), slopes, atol=0.02)


def test_nearer_judges_only_where_the_two_drawings_differ():
    wanted, unwanted = np.full((4, 8, 8, 3), 100, np.uint8), np.full((4, 8, 8, 3), 100, np.uint8)
    unwanted[:3, 2:4, 2:5] = 200  # six pixels
    unwanted[3, 0, 0] = 200  # one pixel, which is too few
    pictures = np.full((4, 8, 8, 3), 120, np.uint8)
    pictures[1, 2:4, 2:5] = 180
    pictures[2, 5:] = 0  # elsewhere: it does not count
    np.testing.assert_array_equal(regions.nearer(pictures, wanted, unwanted), [1.0, 0.0, 1.0, np.nan])
