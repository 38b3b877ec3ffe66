"""Temporal stability of clips made for it."""

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


def write(folder, frames):
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:02d}.png")


def test_a_clip_is_long_enough_for_intervals(tmp_path):
    assert list(np.bincount(clip.blocks(clip.LEAST - 2))) == [clip.BLOCK, clip.BLOCK]  # second differences
    write(tmp_path, moving(clip.LEAST - 1))
    with raises_user_error("clip-too-short", tmp_path, clip.LEAST - 1, clip.LEAST):
        clip.clip_inputs(tmp_path, tmp_path / "00.png", None, 64)


def test_frames_are_cut_while_they_are_read_at_the_largest_face_of_the_first(tmp_path, monkeypatch):
    write(tmp_path, moving(clip.LEAST)[:, :80])
    events, read = [], clip.frames_of
    monkeypatch.setattr(clip, "frames_of", lambda path: (events.append("read") or frame for frame in read(path)))

    def face(start, area):
        def crop(frame):
            events.append("cut")
            return frame[start : start + 16, start : start + 16]

        return SimpleNamespace(face=SimpleNamespace(area=area), crop=crop)

    swapper = SimpleNamespace(
        photos=SimpleNamespace(find_faces=lambda frame: [face(0, 1), face(8, 2)]),
        identity=lambda source, aligned: aligned,
    )
    crops, aligned = clip.clip_inputs(tmp_path, tmp_path / "00.png", swapper, 16)
    np.testing.assert_array_equal(crops, moving(clip.LEAST)[:, 8:24, 8:24])
    assert events == ["read", "cut"] * clip.LEAST
    assert not aligned


def test_a_clip_is_masked_by_the_template_of_the_models_crops(tmp_path, monkeypatch):
    write(tmp_path, moving(clip.LEAST))
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
