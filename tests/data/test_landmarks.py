"""Landmarks of a data set: found once, mirrored with left and right exchanged, handed over by the loader."""

import numpy as np
import pytest

from simswap_jax.contrib.rendered import landmarks as rendered
from simswap_jax.contrib.rendered.face_parameters import ATTRIBUTES, sample_attributes, sample_people
from simswap_jax.data import landmarks
from simswap_jax.data.dataset import People
from simswap_jax.data.loader import pair_batches
from simswap_jax.data.pairs import Pairing, PairingOptions
from simswap_jax.io.images import encode_png
from tests.support.errors import raises_user_error


class Brightest:
    """Finds five points around the brightest place of a picture; nothing in black ones."""

    name, sha256, points = "brightest", "cd" * 32, 5

    def __init__(self):
        self.asked = 0

    def find(self, pictures):
        self.asked += len(pictures)
        found = np.full((len(pictures), 5, 2), np.nan)
        for row, picture in enumerate(pictures):
            if picture.any():
                y, x = np.unravel_index(np.argmax(picture[..., 0]), picture.shape[:2])
                around = np.array([(-0.1, -0.1), (0.1, -0.1), (0, 0), (-0.1, 0.1), (0.1, 0.1)])
                found[row] = np.array([(x + 0.5), (y + 0.5)]) / picture.shape[0] + around
        return found


def made_people(spots):
    """A person of every second picture, black but for one pixel (None: all black)."""
    records = []
    for spot in spots:
        picture = np.zeros((20, 20, 3), np.uint8)
        if spot is not None:
            picture[spot[1], spot[0]] = 255
        records.append({"picture": encode_png(picture)})
    person = np.arange(len(spots)) // 2
    files = [f"p{number}/{row}.png" for row, number in enumerate(person)]
    return People(records, sorted({f"p{n}" for n in person}), person, files, np.arange(len(spots)), "fingerprint")


@pytest.mark.parametrize("order", [*landmarks.MIRRORED.values(), rendered.MIRRORED], ids=[*landmarks.MIRRORED, 39])
def test_mirroring_twice_is_the_face_again(order):
    points = np.random.default_rng(0).random((3, len(order), 2))
    once = landmarks.mirrored(points, order)
    assert sorted(order) == list(range(len(order)))
    assert not np.allclose(once, points)
    np.testing.assert_allclose(landmarks.mirrored(once, order), points, atol=1e-12)


def test_the_mirror_of_a_rendered_face_is_the_face_of_mirrored_attributes():
    people, attributes = sample_people(3, 4), sample_attributes(5, 4)
    turned = {name: attributes[:, i].copy() for i, name in enumerate(ATTRIBUTES)}
    for name in ("yaw", "roll", "shift_x", "mouth_skew"):
        turned[name] = -turned[name]
    for name in [name for name in ATTRIBUTES if name.endswith("_left")]:
        other = name.replace("_left", "_right")
        turned[name], turned[other] = turned[other], turned[name]
    expected = rendered.landmarks(people, np.stack([turned[name] for name in ATTRIBUTES], axis=1))
    found = landmarks.mirrored(rendered.landmarks(people, attributes), rendered.MIRRORED)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_landmarks_are_found_once_and_lost_faces_get_the_mean(tmp_path, caplog):
    people, finds = made_people([(5, 10), (15, 10), None, (10, 4)]), Brightest()
    points = landmarks.of_people(people, finds, tmp_path, 20)
    assert (points.shape, points.dtype, finds.asked) == ((4, 2, 5, 2), np.float32, 4)
    np.testing.assert_allclose(points[0, 0, 2], [0.275, 0.525], atol=1e-6)
    np.testing.assert_allclose(points[0, 1, 2], [0.725, 0.525], atol=1e-6)
    assert points[0, 1, 0, 0] < points[0, 1, 1, 0]  # the left eye of the mirror is on the left
    np.testing.assert_allclose(points[2, 0], points[[0, 1, 3], 0].mean(axis=0), atol=1e-6)
    assert "p1/2.png" in caplog.text
    np.testing.assert_array_equal(landmarks.of_people(people, finds, tmp_path, 20), points)
    some = people.select(["p1"])
    np.testing.assert_array_equal(landmarks.of_people(some, finds, tmp_path, 20), points[2:])
    assert finds.asked == 4
    with raises_user_error("landmarks-find-no-face", "brightest"):
        landmarks.of_people(made_people([None, None]), finds, tmp_path / "other", 20)


def test_batches_hold_the_landmarks_of_what_they_show():
    people = made_people([(5, 10), (15, 10), (7, 3), (10, 4)])
    points = landmarks.with_mirrors(Brightest().find([people.picture(i) for i in range(4)]), landmarks.MIRRORED[5])
    batches = pair_batches(people, Pairing(people.person, PairingOptions(0, 4)), 20, 20, points=points, threads=0)
    turned = 0
    for _ in range(4):
        batch = next(batches)
        for side in ("target", "source"):
            np.testing.assert_allclose(batch[f"{side}_points"], Brightest().find(batch[side]), atol=1e-6)
        turned += int((batch["target_points"][:, 2, 0] == points[:, 1, 2, 0, None]).any())
    assert turned
    with pytest.raises(ValueError, match="landmarks are"):
        pair_batches(people, Pairing(people.person, PairingOptions(0, 4)), 20, 20, points=points[:3])


def test_the_networks_points_are_the_models(tmp_path, monkeypatch):
    monkeypatch.setattr(landmarks.registry, "find", lambda name, purpose: name)
    monkeypatch.setattr(landmarks, "open_landmarks", lambda path: Brightest())
    assert landmarks.network("five.onnx", 5).points == 5
    with raises_user_error("landmark-count", "five.onnx", 98):
        landmarks.network("five.onnx", 98)
    Brightest.points = 7
    try:
        with raises_user_error("landmark-mirror-unknown", 7):
            landmarks.network("seven.onnx", 7)
    finally:
        Brightest.points = 5
