"""Faces followed through frames: nobody swaps places, gaps are filled, trembling is smoothed, movement is not."""

import numpy as np
import pytest

from simswap_jax.faces.alignment import TEMPLATES
from simswap_jax.faces.detection import Face
from simswap_jax.faces.tracking import GAP, Tracker, majority, smooth_landmarks

SHAPE = TEMPLATES["simswap-frontal"][0]


def face(left, top=0.0, size=100.0):
    return Face((left, top, size, size), SHAPE * size + (left, top), 0.9)


def follow(frames, cuts=()):
    tracker = Tracker()
    return [tracker.update(i / 25, faces, cut=i in cuts) for i, faces in enumerate(frames)]


def test_neighbours_keep_their_numbers_whatever_order_they_are_found_in():
    frames = [[face(3.0 * i), face(150 + 3.0 * i)][:: 1 if i % 2 else -1] for i in range(20)]
    numbers = follow(frames)
    left = {found[0 if i % 2 else 1] for i, found in enumerate(numbers)}
    right = {found[1 if i % 2 else 0] for i, found in enumerate(numbers)}
    assert len(left) == len(right) == 1
    assert left != right


def test_a_face_that_moves_fast_is_one_track():
    assert {number for (number,) in follow([[face(25.0 * i)] for i in range(20)])} == {0}


def test_people_who_cross_are_never_one_track_before_and_after():
    """Either could be meant while one hides the other: their tracks end there."""
    frames = [[face(20.0 * i), face(400 - 20.0 * i, 10.0)] for i in range(21)]
    frames = [pair[:1] if abs(pair[0].box[0] - pair[1].box[0]) < 50 else pair for pair in frames]
    numbers = follow(frames)
    first, last = set(numbers[0]), set(numbers[-1])
    assert len(first) == len(last) == 2
    assert not first & last


@pytest.mark.parametrize(("missed", "tracks"), [(GAP - 1, 1), (GAP, 2)])
def test_a_face_may_be_missed_for_some_frames(missed, tracks):
    frames = [[face(0)]] * 5 + [[]] * missed + [[face(0)]] * 5
    assert len({number for found in follow(frames) for number in found}) == tracks


def test_a_cut_ends_every_track():
    assert follow([[face(0)]] * 4, cuts=(2,)) == [[0], [0], [1], [1]]


def test_another_face_size_in_the_same_place_is_another_track():
    assert follow([[face(0)], [face(0, size=220)]]) == [[0], [1]]


def steady(landmarks, sighted=None, size=100.0):
    count = len(landmarks)
    seen = np.ones(count, bool) if sighted is None else sighted
    return smooth_landmarks(np.arange(count), np.arange(count) / 25, seen, landmarks, size)


def jitter(landmarks):
    return np.diff(landmarks, axis=0).std()


def test_the_trembling_of_a_still_face_is_less_than_half():
    still = SHAPE * 100 + np.random.default_rng(0).normal(0, 0.8, (100, 5, 2))
    smooth = steady(still)
    assert jitter(smooth) < 0.3 * jitter(still)
    assert (smooth - SHAPE * 100).std() < 0.5 * (still - SHAPE * 100).std()


def test_steady_movement_is_not_dragged_behind_and_ends_are_not_pulled_in():
    moving = SHAPE * 100 + np.arange(40)[:, None, None] * 7.0
    np.testing.assert_allclose(steady(moving), moving, atol=1e-6)


def test_a_sudden_turn_is_followed():
    """Landmarks are moved by 4 % of the face at most, however the face jumps."""
    jumping = np.repeat(SHAPE[None] * 100, 40, axis=0)
    jumping[20:] += 30.0
    assert np.linalg.norm(steady(jumping) - jumping, axis=-1).max() <= 4.0 + 1e-9


def test_gaps_are_filled_on_the_way():
    moving = SHAPE * 100 + np.arange(30)[:, None, None] * 4.0
    sighted = np.ones(30, bool)
    sighted[12:18] = False
    raw = np.where(sighted[:, None, None], moving, 0.0)
    np.testing.assert_allclose(steady(raw, sighted), moving, atol=0.05)


def test_one_odd_frame_is_outvoted():
    values = np.ones(20, bool)
    values[[5, 6, 12]] = False
    assert majority(values).all()
    assert not majority(~values).any()
    half = np.arange(20) < 10
    np.testing.assert_array_equal(majority(half), half)
