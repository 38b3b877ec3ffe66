"""Temporal stability of clips made for it."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from simswap_jax.evaluation import clip
from simswap_jax.evaluation.geometry import crop_template
from simswap_jax.evaluation.judges.evaluators import Evaluators
from simswap_jax.evaluation.metrics import regions
from tests.support.errors import raises_user_error


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


def test_a_clip_is_long_enough_for_intervals():
    assert list(np.bincount(clip.blocks(clip.LEAST - 2))) == [clip.BLOCK, clip.BLOCK]  # second differences
    frames = list(moving(clip.LEAST - 1))
    with raises_user_error("clip-too-short", "clip.mp4", clip.LEAST - 1, clip.LEAST):
        clip.clip_inputs(frames, frames[0], None, Path("clip.mp4"), 64)


def test_a_clip_is_masked_by_the_template_of_the_models_crops(tmp_path, monkeypatch):
    for number, frame in enumerate(moving(clip.LEAST)):
        Image.fromarray(frame).save(tmp_path / f"{number:02d}.png")
    swapper = SimpleNamespace(
        model=SimpleNamespace(alignment="ffhq"),
        identity=lambda source, aligned: np.ones(4),
        swap_faces=lambda targets, vectors: targets,
    )
    recogniser = SimpleNamespace(embed=lambda pictures: np.ones((len(pictures), 4)))
    given, masks = [], regions.face_masks
    monkeypatch.setattr(regions, "face_masks", lambda points, *rest: given.append(points) or masks(points, *rest))
    model = SimpleNamespace(key="ours", strength=1.0, swapper=swapper)
    clip.measure_clip(tmp_path, tmp_path / "00.png", model, Evaluators(recogniser), 96)
    np.testing.assert_array_equal(given[0], np.stack([crop_template("ffhq", 96)] * clip.LEAST))
