"""Swaps of rendered faces against their ground truth, and the pose network that ships."""

import logging

import cv2
import numpy as np
import pytest

from simswap_jax.contrib.rendered import cli, pose_judge
from simswap_jax.contrib.rendered.dataset import PERSON, Labels, pose, render, sample_attributes, sample_people
from simswap_jax.contrib.rendered.pose_judge import PoseRegressor
from simswap_jax.contrib.rendered.scoring import (
    PARTS,
    attribute_transfer,
    colour_shift,
    draw_rendered_pairs,
    pose_r2,
    truth_metrics,
)
from tests.support.errors import raises_user_error

SIZE = 64


@pytest.fixture(scope="module")
def labels() -> Labels:
    names = [f"p{index}" for index in range(12)]
    files = [f"{name}/{index}.png" for name in names for index in range(5)]
    person = np.repeat(np.arange(12, dtype=np.int32), 5)
    return Labels(names, sample_people(50, 12), files, person, sample_attributes(50, 60))


@pytest.fixture(scope="module")
def judge() -> PoseRegressor:
    return PoseRegressor.pretrained()


def picture(labels: Labels, rows: np.ndarray) -> np.ndarray:
    return render(labels.people[labels.person[rows]], labels.attributes[rows], SIZE)


def test_pairs_are_of_different_held_out_people(labels):
    held = labels.names[2:]
    drawn = draw_rendered_pairs(labels, held, 30, seed=4)
    assert len(drawn) == 30
    assert (drawn.source_person != drawn.target_person).all()
    np.testing.assert_array_equal(labels.person[drawn.source], drawn.source_person)
    for who in (drawn.source_person, drawn.target_person):
        np.testing.assert_array_equal(np.bincount(who, minlength=12), [0, 0] + 10 * [3])
    np.testing.assert_array_equal(draw_rendered_pairs(labels, held, 30, seed=4).source, drawn.source)
    assert (draw_rendered_pairs(labels, held, 30, seed=5).source != drawn.source).any()
    np.testing.assert_array_equal(drawn.pose(), pose(labels.attributes[drawn.target]))
    with raises_user_error("too-few-people"):
        draw_rendered_pairs(labels, held[:1], 3)


def test_the_ground_truth_scores_best(labels, judge):
    drawn = draw_rendered_pairs(labels, labels.names, 24)
    sources, targets = picture(labels, drawn.source), picture(labels, drawn.target)
    best = truth_metrics(drawn.ground_truth(SIZE), sources, targets, drawn, judge)
    assert best["psnr_result"] == 99
    assert best["pose_r2"] > 0.8
    assert 8 < best["psnr_target"] < 20
    assert best["psnr_colour_shift"] < best["psnr_result"]
    untouched = truth_metrics(targets, sources, targets, drawn, judge)
    assert untouched["psnr_result"] == untouched["psnr_target"] == best["psnr_target"]
    # The source's own picture has another pose.
    assert truth_metrics(sources, sources, targets, drawn, judge)["pose_r2"] < 0


@pytest.mark.slow
def test_the_parts_say_whose_each_is(labels):
    drawn = draw_rendered_pairs(labels, labels.names, 24)
    assert attribute_transfer(drawn.ground_truth(SIZE), drawn) == dict.fromkeys(PARTS, 1.0)
    assert max(attribute_transfer(picture(labels, drawn.target), drawn).values()) < 0.4
    # One part left as the target's.
    for part, beginnings in PARTS.items():
        mixed = drawn.truth_person.copy()
        columns = [i for i, name in enumerate(PERSON) if name.startswith(beginnings)]
        mixed[:, columns] = drawn.kept_person[:, columns]
        found = attribute_transfer(render(mixed, drawn.truth_attributes, SIZE), drawn)
        assert found[part] == 0.0
        assert min(share for name, share in found.items() if name != part) > 0.75


def test_a_colour_shift_moves_each_channel(labels):
    rows = np.arange(4)
    sources, targets = picture(labels, rows), picture(labels, rows + 20) // 2 + 40
    flat = np.clip(sources // 3 + 80, 0, 255).astype(np.uint8)
    shifted = colour_shift(targets, flat).astype(float)
    np.testing.assert_allclose(shifted.mean(axis=(1, 2)), flat.mean(axis=(1, 2)), atol=1.0)
    np.testing.assert_allclose(shifted.std(axis=(1, 2)), flat.std(axis=(1, 2)), atol=1.0)
    np.testing.assert_array_equal(colour_shift(targets, targets), targets)
    plain = np.full_like(targets, 90)
    assert np.isfinite(colour_shift(plain, sources)).all()


def test_pose_r2_by_hand():
    truth = np.array([[0, 1, 2], [2, 3, 4], [4, 5, 9.0]])
    assert pose_r2(truth, truth) == 1
    assert pose_r2(np.broadcast_to(truth.mean(axis=0), truth.shape), truth) == pytest.approx(0)
    # yaw off by one three times over a total of 8: 1 - 3/8; the others perfect.
    assert pose_r2(truth + np.array([1, 0, 0]), truth) == pytest.approx((1 - 3 / 8 + 2) / 3)


def test_the_judge_reads_pose_of_people_it_has_not_seen(judge):
    unseen, truth = pose_judge.rendered(pose_judge.UNSEEN_SEED, 99, 60, 4)
    read = judge(unseen)
    assert read.shape == (240, 3)
    for axis in range(3):
        assert np.corrcoef(read[:, axis], truth[:, axis])[0, 1] > 0.93
    assert pose_r2(read, truth) > 0.88
    # A swap is softer than what it was trained on, and another size changes little.
    soft = np.stack([cv2.GaussianBlur(face, (0, 0), 1.2) for face in unseen])
    assert pose_r2(judge(soft), truth) > 0.85
    large = np.stack([cv2.resize(face, (96, 96), interpolation=cv2.INTER_CUBIC) for face in unseen])
    assert pose_r2(judge(large), truth) > 0.85


@pytest.mark.slow
def test_the_command_writes_what_is_read_again(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    output = tmp_path / "judges" / "pose.safetensors"
    monkeypatch.setattr(pose_judge, "UNSEEN_PEOPLE", 20)
    assert cli.main(["pose-judge", "--output", str(output), "--people", "8", "--steps", "2"]) == 0
    assert output.stat().st_size <= 200_000
    assert "R²" in caplog.messages[-1]
    monkeypatch.setattr(pose_judge, "WEIGHTS", output)
    faces, degrees = pose_judge.rendered(pose_judge.PEOPLE_SEED, pose_judge.ATTRIBUTE_SEED, 8, 8)
    same = pose_judge.train(faces, degrees, 2, seed=0)
    np.testing.assert_array_equal(PoseRegressor.pretrained()(faces), same(faces))
    monkeypatch.setattr(pose_judge, "WEIGHTS", tmp_path / "nothing.safetensors")
    with raises_user_error("package-file-missing", "nothing.safetensors"):
        PoseRegressor.pretrained()


@pytest.mark.slow
def test_training_learns():
    faces, truth = pose_judge.rendered(1, 1, 8, 8)
    little, more = (pose_judge.train(faces, truth, steps, seed=3)(faces) for steps in (1, 60))
    assert pose_r2(more, truth) > pose_r2(little, truth) + 0.4
