"""Landmarks and pose of pictures, by name."""

import numpy as np
import pytest

from simswap_jax.evaluation.geometry import FaceGeometry, crop_template
from simswap_jax.faces.alignment import TEMPLATES
from tests.support.errors import raises_user_error

FRONTAL = TEMPLATES["simswap-frontal"][0]


class Finder:
    """Finds what it is told, by the picture's number, and counts how often it looks."""

    sha256 = "finder"

    def __init__(self, points):
        self.found, self.points, self.looked = points, points.shape[1], []

    def find(self, pictures):
        self.looked += pictures
        return self.found[pictures].copy()


def test_templates_of_one_pose_are_counted_from_the_edge_of_the_crop():
    np.testing.assert_allclose(crop_template("simswap-frontal", 64) * 64 - 0.5, FRONTAL * 64)
    assert crop_template("simswap", 64) is None  # five poses
    assert crop_template("rendered", 64) is None


def test_every_picture_is_looked_at_once():
    finder = Finder(np.random.default_rng(0).random((4, 5, 2)))
    geometry = FaceGeometry(int, finder, None)
    first = geometry.landmarks(["1", "0", "1"])
    np.testing.assert_array_equal(first, finder.found[[1, 0, 1]])
    np.testing.assert_array_equal(geometry.landmarks(["0", "3"]), finder.found[[0, 3]])
    assert finder.looked == [1, 0, 3]
    assert geometry.has_landmarks
    assert not geometry.has_pose
    with pytest.raises(ValueError, match="pose"):
        geometry.angles(["0"])


@pytest.mark.parametrize(("count", "left_eye", "nose"), [(68, range(36, 42), 30), (98, [96], 54)])
def test_the_usual_five_are_found_in_larger_sets(count, left_eye, nose):
    points = np.random.default_rng(1).random((2, count, 2))
    five = FaceGeometry(int, Finder(points), None).five_points(["0", "1"])
    np.testing.assert_allclose(five[:, 0], points[:, list(left_eye)].mean(axis=1))
    np.testing.assert_array_equal(five[:, 2], points[:, nose])


def test_an_unknown_order_is_refused():
    with raises_user_error("landmark-order-unknown", "24"):
        FaceGeometry(int, Finder(np.random.default_rng(1).random((1, 24, 2))), None).five_points(["0"])


@pytest.mark.parametrize("lost", [np.nan, 0.5])
def test_a_face_that_is_not_found_lies_as_the_template_and_the_log_says_so(lost, caplog):
    points = np.random.default_rng(2).random((3, 5, 2))
    points[1] = lost
    found = FaceGeometry(int, Finder(points), None).landmarks(["0", "1", "2"])
    np.testing.assert_array_equal(found[1], FRONTAL)
    np.testing.assert_array_equal(found[[0, 2]], points[[0, 2]])
    assert "no landmarks in 1 pictures (the first: 1)" in caplog.text


def test_without_landmarks_the_crops_template_says_where_the_five_lie():
    np.testing.assert_array_equal(FaceGeometry(int, None, None, None, FRONTAL).five_points(["0", "1"]), [FRONTAL] * 2)
    with raises_user_error("five-points-unknown", "--warp-landmarks"):
        FaceGeometry(int, None, None).five_points(["0"])


def test_many_points_that_are_never_found_are_a_fault_of_the_network():
    with raises_user_error("warp-finds-no-face"):
        FaceGeometry(int, Finder(np.full((2, 68, 2), 0.5)), None).landmarks(["0", "1"])
