"""Expression error on landmarks made for it."""

import numpy as np
import pytest

from simswap_jax.evaluation import candidates
from simswap_jax.evaluation.judges.networks import OnnxPose
from simswap_jax.evaluation.metrics import expression
from simswap_jax.faces.alignment import TEMPLATES
from simswap_jax.io.images import read_picture
from simswap_jax.weights.onnx_network import open_landmarks

FRONTAL = TEMPLATES["simswap-frontal"][0]


def made_faces(people=6, each=80):
    """Landmarks = shape of the person + pose + expression + place, size and roll; and the expression alone."""
    random = np.random.default_rng(3)
    names = [f"p{i}" for i in range(people) for _ in range(each)]
    shapes = np.repeat(random.normal(0, 0.02, (people, 5, 2)), each, axis=0)
    angles = random.uniform(-25, 25, (len(names), 3))
    turned = np.array([[0, 0], [0, 0], [1.0, 0.2], [0.3, 0], [0.3, 0]]) * angles[:, :1, None] / 300
    smile = random.uniform(-1, 1, len(names))
    moved = np.array([[0, 0], [0, 0], [0, 0], [-1.0, -0.5], [1.0, -0.5]]) * 0.05 * smile[:, None, None]
    points = FRONTAL + shapes + turned + moved
    spin = np.exp(1j * random.uniform(-0.3, 0.3, len(names)))[:, None] * random.uniform(0.8, 1.2, (len(names), 1))
    z = (points @ np.array([1, 1j])) * spin + random.uniform(-0.1, 0.1, (len(names), 1))
    return np.stack([z.real, z.imag], axis=-1), names, angles, smile


def test_expression_error_sees_the_smile_and_not_person_pose_or_place():
    points, names, angles, smile = made_faces()
    shapes = expression.fit(points, names, angles)
    left = expression.expressions(shapes, points, names, angles)
    other = np.roll(np.arange(len(names)), 97)  # pairs of different people in different poses
    error = expression.expression_error(shapes, left, left[other])
    apart = np.abs(smile - smile[other])
    assert np.corrcoef(error, apart)[0, 1] > 0.97
    raw = np.stack([expression.onto(p, shapes.mean) for p in points])
    blind = expression.expression_error(shapes, raw, raw[other])
    assert np.corrcoef(blind, apart)[0, 1] < 0.6
    assert not expression.expression_error(shapes, left, left).any()


def test_expression_is_unknown_where_no_face_or_person_is():
    points, names, angles, _ = made_faces()
    shapes = expression.fit(points, names, angles)
    points[1] = np.nan
    left = expression.expressions(shapes, points[:3], ["p0", "p0", "unknown"], angles[:3])
    np.testing.assert_array_equal(np.isfinite(left).all(axis=(1, 2)), [True, False, False])
    with pytest.raises(ValueError, match="no landmarks"):
        expression.fit(np.full((3, 5, 2), np.nan), ["a"] * 3, None)


def test_expression_of_real_people_moves_less_by_a_shift_than_by_another_picture(outside):
    judge, pose = open_landmarks(outside("face_detection_yunet.onnx")), OnnxPose(outside("headpose_fsanet.onnx"))
    people = sorted(outside("celeba_192").iterdir())[:4]
    files = [file for person in people for file in sorted(person.glob("*.jpg"))[:8]]
    names = [file.parent.name for file in files]
    pictures = [read_picture(file) for file in files]
    points, angles = judge.find(pictures), pose.angles(pictures)
    shapes = expression.fit(points, names, angles)
    left = expression.expressions(shapes, points, names, angles)
    moved = [candidates.shifted(picture) for picture in pictures]
    shifted = expression.expressions(shapes, judge.find(moved), names, pose.angles(moved))
    shift = np.nanmean(expression.expression_error(shapes, shifted, left))
    other = np.nanmean(expression.expression_error(shapes, np.roll(left, 1, axis=0), left))
    assert 0 < shift < 0.6 * other
