"""Temporal stability of clips made for it."""

import cv2
import numpy as np
import pytest

from simswap_jax.evaluation import clip
from simswap_jax.evaluation.metrics import regions


def moving(count=10, step=2):
    wide = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (96, 160, 3)).astype(np.uint8), (0, 0), 2.5)
    wide = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX)
    return np.stack([wide[:, step * i : step * i + 96] for i in range(count)])


def test_a_steady_clip_does_not_flicker_and_a_trembling_one_does():
    target = moving()
    masks = regions.face_masks(None, len(target), 96)
    random = np.random.default_rng(1)
    levels = random.integers(-25, 26, (len(target), 1, 1, 1))
    trembling = np.clip(target.astype(int) + levels, 0, 255).astype(np.uint8)
    steady = 255 - target  # another picture that moves alike
    calm, of_steady, of_trembling = (clip.warp_error(c, target, masks).mean() for c in (target, steady, trembling))
    assert of_steady == pytest.approx(calm, abs=0.01)
    assert calm < 0.02
    assert of_trembling > calm + 0.03
    still = clip.warp_error(np.repeat(target[:1], len(target), axis=0), target, masks).mean()
    assert still > calm + 0.03  # it does not move as asked


def test_jitter_leaves_steady_motion_alone():
    steady = np.arange(6)[:, None] * np.array([1.0, 2.0, 0.0])
    np.testing.assert_allclose(clip.jitter(steady), 0, atol=1e-12)
    shaken = steady.copy()
    shaken[3] += 1
    assert clip.jitter(shaken).max() == pytest.approx(2 * np.sqrt(3))
    vectors = np.array([[1.0, 0], [1, 0], [0, 1]])
    np.testing.assert_allclose(clip.identity_jitter(vectors), [0, 1])
    np.testing.assert_array_equal(clip.blocks(9), [0] * 8 + [1])
