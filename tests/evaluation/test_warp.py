"""Warp baselines: what is fitted is found again, and the source's face stands where the target's was."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from simswap_jax.evaluation import warp
from simswap_jax.evaluation.candidates import PairBatch
from simswap_jax.evaluation.geometry import FaceGeometry, KnownGeometry
from simswap_jax.evaluation.protocols.protocol import Pair, PairList
from simswap_jax.faces.alignment import TEMPLATES
from tests.support.errors import raises_user_error
from tests.support.small_model import faces

FRONTAL = TEMPLATES["simswap-frontal"][0]
RANDOM = np.random.default_rng(0)
POINTS = RANDOM.uniform(0.2, 0.8, (20, 2))
AFFINE = np.array([[0.9, 0.15, 0.05], [-0.1, 1.1, -0.02]])


def moved(points, matrix):
    return points @ matrix[:, :2].T + matrix[:, 2]


@pytest.mark.parametrize("fit", [warp.fit_affine, warp.fit_spline])
def test_an_affine_change_is_found_again(fit):
    move = fit(POINTS, moved(POINTS, AFFINE))
    others = RANDOM.uniform(0, 1, (50, 2))
    np.testing.assert_allclose(move(others), moved(others, AFFINE), atol=1e-9)


def test_a_similarity_does_not_shear_and_a_spline_goes_through_bent_points():
    bent = POINTS + 0.04 * np.sin(6 * POINTS[:, ::-1])
    matrix = warp.fit_similarity(POINTS, bent).args[0]
    assert matrix[0, 0] == pytest.approx(matrix[1, 1])
    assert matrix[0, 1] == pytest.approx(-matrix[1, 0])
    errors = [np.abs(fit(POINTS, bent)(POINTS) - bent).max() for fit in (warp.fit_affine, warp.fit_spline)]
    assert errors[1] < 0.4 * errors[0]
    np.testing.assert_allclose(
        warp.fit_similarity(np.full((5, 2), 0.5), FRONTAL)(FRONTAL[:1] * 0 + 0.5), [[0.5, 0.606]], atol=0.01
    )


def test_the_source_is_pulled_to_where_the_warp_says():
    source = np.full((64, 64, 3), 200, np.uint8)
    source[20:23, 40:43] = 0
    pulled, inside = warp.warped(source, lambda points: points + np.array([10 / 64, -4 / 64]), 64)
    assert pulled[25, 31].max() < 20
    assert (inside[:, :54] == 1)[4:].all()
    assert (inside[:, 54:] == 0).all()


def test_colours_get_the_targets_mean_and_spread_in_lab():
    face, target = faces(2, 48, seed=3)
    face, target = (face // 2 + 60).astype(np.uint8), (target // 3 + 80).astype(np.uint8)  # all colours are RGB's
    mask = np.zeros((48, 48), np.float32)
    mask[10:38, 10:38] = 1
    given = warp.transfer_colour(face, target, mask)
    lab = [cv2.cvtColor(one.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[10:38, 10:38] for one in (given, target)]
    np.testing.assert_allclose(lab[0].mean((0, 1)), lab[1].mean((0, 1)), atol=1.5)
    ratio = lab[0].std((0, 1)) / lab[1].std((0, 1))
    np.testing.assert_allclose(ratio, 1, atol=0.1)
    grey = np.full((48, 48, 3), 90, np.uint8)
    assert np.ptp(warp.transfer_colour(grey, grey, mask)) == 0


def test_the_hull_leaves_the_border_free_and_reaches_above_the_brows():
    low = np.array([(0.2, 0.3), (0.8, 0.3), (0.5, 0.9)] * 5)
    rows = np.flatnonzero(warp.hull_mask(low, FRONTAL, 112)[:, 56] > 0.5)
    eyes = FRONTAL[0, 1] * 112
    assert rows[0] == pytest.approx(eyes - 1.5 * (eyes - 0.3 * 112), abs=1.5)
    assert rows[-1] == pytest.approx(0.9 * 112, abs=3)
    mask = warp.hull_mask(np.array([(-0.2, 0.3), (1.2, 0.3), (0.5, 1.3)] * 5), FRONTAL, 40)
    assert mask[0].max() == mask[-1].max() == mask[:, 0].max() == mask[:, -1].max() == 0
    assert mask[20, 20] == pytest.approx(1)


def test_a_swap_leaves_the_targets_surroundings_and_brings_the_sources_detail():
    source, target = np.full((64, 64, 3), 180, np.uint8), np.full((64, 64, 3), 120, np.uint8)
    target[:, :, 0] = 140
    source[30:34, 30:34] = 100
    mask = warp.hull_mask(np.array([(0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8)] * 3), FRONTAL * 0 + [0.5, 0.2], 64)
    result = warp.swapped(source, target, warp.fit_affine(POINTS, POINTS), mask)
    np.testing.assert_array_equal(result[:10], target[:10])
    assert result[31, 31].astype(int).sum() < result[20, 20].astype(int).sum() - 10
    assert abs(int(result[16, 16, 0]) - 140) < 8  # the target's colour at the edge


def test_landmarks_move_the_sources_face_onto_the_targets():
    """The mark at the source's eye stands at the target's eye, for every warp."""
    source, target = np.full((96, 96, 3), 150, np.uint8), np.full((96, 96, 3), 150, np.uint8)
    eye = np.round(FRONTAL[0] * 96 - 0.5).astype(int)
    source[eye[1] - 2 : eye[1] + 3, eye[0] - 2 : eye[0] + 3] = 0
    shift = np.array([6, 4]) / 96
    place = {"a/0.png": FRONTAL, "b/0.png": FRONTAL + shift}
    pairs = PairList(0, ("a", "b"), (Pair("a/0.png", "b/0.png", None),))
    batch = PairBatch([0], [source], [target], np.zeros((1, 5, 2)), np.zeros((1, 5, 2)))
    read = {"a/0.png": source, "b/0.png": target}.__getitem__
    rows = warp.warp_baselines(["warp"], geometry_of(place), pairs, read, {"a": ["a/0.png"], "b": ["b/0.png"]})
    assert [row.key for row in rows] == list(warp.NAMES)
    for row in rows:
        result = row.results(batch)[0]
        assert result[eye[1] + 4, eye[0] + 6].max() < result[eye[1] + 4, eye[0] + 26].min() - 20, row.key
        assert (result[0] == 150).all()


def geometry_of(points, angles=None):
    """What a protocol may know of its pictures."""
    five = tuple((i,) for i in range(5))
    poses = angles or dict.fromkeys(points, (0.0, 0.0, 0.0))
    known = KnownGeometry(
        lambda names: np.stack([points[name] for name in names]),
        five,
        lambda names: np.array([poses[n] for n in names]),
    )
    return FaceGeometry(lambda name: None, None, None, known)


def test_the_source_picture_of_the_nearest_pose_is_taken():
    names = ["a/0.png", "a/1.png", "a/2.png", "b/0.png"]
    angles = dict(zip(names, [(-30, 0, 0), (20, 5, 90), (0, 40, 0), (25, 0, 0)]))
    pairs = PairList(0, ("a", "b"), (Pair("a/0.png", "b/0.png", None),))
    geometry = geometry_of(dict.fromkeys(names, FRONTAL), angles)
    pictures = {"a": names[:3], "b": names[3:]}
    nearest, given = warp.warp_baselines(
        ["warp_affine", "warp_affine_nearest"], geometry, pairs, lambda name: None, pictures
    )[::-1]
    batch = SimpleNamespace(indices=[0])
    assert nearest.pictures_used(batch) == ["a/1.png"]
    assert given.pictures_used(batch) is None
    assert (given.title, nearest.title) == (
        "affine warp + Poisson",
        "affine warp + Poisson, nearest pose",
    )


def test_what_a_warp_needs_is_asked_for():
    pairs = PairList(0, (), ())
    bare = FaceGeometry(lambda name: None, None, None)
    blind = FaceGeometry(lambda name: None, SimpleNamespace(points=5, sha256="x"), None)
    for wanted, geometry, code, named in (
        (["wrap"], bare, "baseline-unknown", "wrap"),
        (["warp"], bare, "warp-without-landmarks", "--warp-landmarks"),
        (["warp_tps_nearest"], blind, "warp-without-pose", "--pose"),
    ):
        with raises_user_error(code, named):
            warp.warp_baselines(wanted, geometry, pairs, None, {})
    assert [row.key for row in warp.warp_baselines(["warp"], blind, pairs, None, {})] == list(warp.NAMES[:3])
    assert warp.warp_baselines([], bare, pairs, None, {}) == []
