"""Alignment and tracking, whatever the faces."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from simswap_jax.faces.alignment import TEMPLATES, align, inverse, similarity, transform
from simswap_jax.faces.detection import Face
from simswap_jax.faces.tracking import Tracker
from tests.support.properties import few

SHAPE = TEMPLATES["simswap-frontal"][0]
angles, scales, shifts = st.floats(-np.pi, np.pi), st.floats(0.05, 20.0), st.floats(-2000, 2000)


def moved(points, angle, scale, x, y):
    a = scale * np.exp(1j * angle)
    z = (points @ np.array([1, 1j])) * a + x + 1j * y
    return np.stack([z.real, z.imag], axis=1)


@few
@given(angles, scales, shifts, shifts)
def test_a_similarity_is_found_and_its_inverse_leads_back(angle, scale, x, y):
    photo = moved(SHAPE * 112, angle, scale, x, y)
    matrix = similarity(photo, SHAPE * 112)
    np.testing.assert_allclose(transform(matrix, photo), SHAPE * 112, atol=1e-6)
    points = np.array([(0.0, 0.0), (111.0, 3.0), (-50.0, 400.0)])
    np.testing.assert_allclose(transform(matrix, transform(inverse(matrix), points)), points, atol=1e-6)
    np.testing.assert_allclose(inverse(inverse(matrix)), matrix, atol=1e-6 * max(1.0, np.abs(matrix).max()))


@few
@given(st.sampled_from(sorted(TEMPLATES)), st.data(), angles, scales, shifts, shifts)
def test_every_pose_of_a_template_fits_itself_wherever_it_lies(template, data, angle, scale, x, y):
    pose = data.draw(st.sampled_from(range(len(TEMPLATES[template]))))
    found = align(moved(TEMPLATES[template][pose] * 100, angle, scale, x, y), template, 224)
    assert found.residual < 1e-6
    assert found.density == pytest.approx(2.24 / scale, rel=1e-6)
    np.testing.assert_allclose(found.landmarks, TEMPLATES[template][pose] * 224, atol=1e-4)


places = st.tuples(st.floats(0, 800), st.floats(0, 600), st.floats(40, 120))
videos = st.lists(st.lists(places, max_size=4), min_size=1, max_size=10)


def face(left, top, size):
    return Face((left, top, size, size), SHAPE * size + (left, top), 0.9)


def tracks_of(frames, order):
    """(frame, face) → track, the faces of each frame handed over in an order of their own."""
    tracker, found = Tracker(), {}
    for time, faces in enumerate(frames):
        ordered = order(time, list(range(len(faces))))
        numbers = tracker.update(time / 25, [faces[i] for i in ordered])
        assert len(set(numbers)) == len(numbers)  # nobody is in two places
        found.update(((time, i), number) for i, number in zip(ordered, numbers, strict=True))
    return found


@few
@given(videos, st.randoms(use_true_random=False))
def test_the_order_of_detections_does_not_change_the_tracks(video, random):
    flat = [place for frame in video for place in frame]
    assume(len(set(flat)) == len(flat))  # equal faces have no order of their own
    frames = [[face(*place) for place in frame] for frame in video]
    straight = tracks_of(frames, lambda time, indices: indices)
    shuffled = tracks_of(frames, lambda time, indices: random.sample(indices, len(indices)))
    for one, other in itertools.combinations(straight, 2):
        assert (straight[one] == straight[other]) == (shuffled[one] == shuffled[other])
