"""The landmarks of rendered people lie where the renderer draws them."""

import numpy as np
import pytest

from simswap_jax.contrib.rendered import dataset
from simswap_jax.contrib.rendered.face_parameters import ATTRIBUTES, PERSON
from simswap_jax.contrib.rendered.landmarks import FIVE, geometry_of, landmarks

SIZE, COUNT = 32, 10
COLOURS = {"brow_colour": (0.0, 1.0), "lip_colour": (0.5, 0.9), "iris_colour": (0.0, 0.8)}


@pytest.fixture(scope="module")
def drawn():
    """People in many poses, without glasses and beards, and how their pictures change with a colour."""
    people, attributes = dataset.sample_people(21, COUNT), dataset.sample_attributes(22, COUNT)
    for name in PERSON:
        if name.endswith("_amount"):
            people[:, PERSON.index(name)] = 0
    people[:, PERSON.index("skin_tone")] = 0.1
    changed = []
    for name, values in COLOURS.items():
        for value in values:
            changed.append(people.copy())
            changed[-1][:, PERSON.index(name)] = value
    every = dataset.render(np.concatenate(changed), np.tile(attributes, (len(changed), 1)), SIZE).astype(float)
    before, after = every.reshape(len(COLOURS), 2, COUNT, SIZE, SIZE, 3).swapaxes(0, 1)
    return people, attributes, dict(zip(COLOURS, np.abs(after - before).sum(axis=-1)))


def centre(change):
    """Where a picture changed, in sides of the picture; NaN where nowhere."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    weight = change.sum()
    return np.array([(x * change).sum(), (y * change).sum()]) / weight / SIZE if weight > 200 else np.full(2, np.nan)


@pytest.mark.parametrize(("name", "rows"), [("brow_colour", range(13, 19)), ("lip_colour", range(22, 28))])
def test_brows_and_lips_are_where_their_colour_changes(drawn, name, rows):
    people, attributes, pictures = drawn
    points = landmarks(people, attributes)[:, list(rows)].mean(axis=1)
    found = np.stack([centre(change) for change in pictures[name]])
    assert np.linalg.norm(found - points, axis=1).mean() < 0.03
    for axis in range(2):
        assert np.corrcoef(found[:, axis], points[:, axis])[0, 1] > 0.95


def test_the_corners_of_the_mouth_are_the_ends_of_the_lips(drawn):
    people, attributes, pictures = drawn
    points = landmarks(people, attributes) * SIZE
    for change, (left, right) in zip(pictures["lip_colour"], points[:, 3:5]):
        columns = np.flatnonzero((change > 40).any(axis=0)) + 0.5
        assert columns.min() == pytest.approx(left[0], abs=1.5)
        assert columns.max() == pytest.approx(right[0], abs=1.5)


def test_eyes_are_where_the_iris_is(drawn):
    people, attributes, pictures = drawn
    open_eyes = attributes[:, ATTRIBUTES.index("eye_close_left")] < 0.2
    points = landmarks(people, attributes)[:, :2].mean(axis=1)
    found = np.stack([centre(change) for change in pictures["iris_colour"]])
    apart = np.linalg.norm(found - points, axis=1)[open_eyes]
    assert np.nanmean(apart) < 0.04  # the gaze moves it


def test_a_folder_of_rendered_people_knows_its_pictures():
    people, attributes = dataset.sample_people(1, 2), dataset.sample_attributes(3, 4)
    files = ["a/000.png", "a/001.png", "b/000.png", "b/001.png"]
    known = geometry_of(dataset.Labels(["a", "b"], people, files, np.array([0, 0, 1, 1]), attributes))
    wanted = landmarks(people[[1, 0]], attributes[[3, 0]])
    np.testing.assert_array_equal(known.landmarks(["b/001.png", "a/000.png"]), wanted)
    np.testing.assert_array_equal(known.angles(["b/001.png", "a/000.png"]), attributes[[3, 0]][:, :3])
    assert wanted.shape == (2, 39, 2)
    assert len(FIVE) == 5
