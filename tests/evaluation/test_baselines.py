"""Baselines do what their names say."""

from types import SimpleNamespace

import cv2
import numpy as np

from simswap_jax.evaluation import candidates
from simswap_jax.faces.alignment import TEMPLATES
from tests.support.errors import raises_user_error
from tests.support.small_model import faces

FRONTAL = TEMPLATES["simswap-frontal"][0]


def test_the_source_is_pasted_onto_the_targets_landmarks():
    source, target = np.full((64, 64, 3), 200, np.uint8), np.full((64, 64, 3), 50, np.uint8)
    eye = np.round(FRONTAL[0] * 64 - 0.5).astype(int)
    source[eye[1] - 1 : eye[1] + 2, eye[0] - 1 : eye[0] + 2] = 0
    moved = FRONTAL + np.array([6, 4]) / 64
    result = candidates.source_pasted(source, target, FRONTAL, moved)
    assert result[eye[1] + 4, eye[0] + 6].max() < 20
    assert (result[0] == 50).all()
    unknown = np.full((5, 2), np.nan)
    assert candidates.source_pasted(source, target, unknown, unknown)[eye[1], eye[0]].max() < 20


def test_what_lies_among_results_and_belongs_to_no_pair_is_named(tmp_path, caplog):
    """A text, a film, folders below, and a second picture of the same pair."""
    for name in ("00000.jpg", "00000.png", "00001.png", "clip.mp4", "log.txt", "old/00000.png", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in candidates.files_by_pair(tmp_path, 2)] == ["00000.png", "00001.png"]
    assert "1 .jpg (00000.jpg), 1 .mp4 (clip.mp4), 1 .png (old/00000.png), 1 .txt (log.txt)" in caplog.text


def test_a_result_with_fewer_digits_belongs_to_no_pair(tmp_path):
    for name in ("00000.png", "00001.png", "1.png"):
        (tmp_path / name).touch()
    with raises_user_error("results-of-other-pairs", tmp_path, "1.png", 2):
        candidates.files_by_pair(tmp_path, 2)


def test_the_mild_changes_are_mild_and_no_more_than_named():
    picture = cv2.GaussianBlur(faces(1, 112)[0], (0, 0), 2)
    moved = candidates.shifted(picture)
    np.testing.assert_array_equal(moved[:, 10:], picture[:, 8:-2])
    turned = candidates.hue_rotated(picture).astype(float)
    grey = np.full((4, 4, 3), 90, np.uint8)
    np.testing.assert_array_equal(candidates.hue_rotated(grey), grey)
    assert 1 < np.abs(turned - picture).mean() < 15


class Swapper:
    """Says what it was asked for."""

    people = ()

    def __init__(self, points, **card):
        generator = SimpleNamespace(points=points)
        self.model, self.asked = SimpleNamespace(card=card, variables={}, generator=generator), []

    def source_vectors(self, pictures):
        return np.zeros((len(pictures), 4), np.float32)

    def swap_faces(self, targets, vectors, **given):
        self.asked.append(given)
        return list(targets)


def test_a_model_gets_the_landmarks_that_the_protocol_knows_and_says_what_it_lacks():
    known, pictures = np.zeros((2, 39, 2)), list(faces(2))
    batch = candidates.PairBatch([0, 1], pictures, pictures, np.zeros((2, 5, 2)), np.zeros((2, 5, 2)), None, known)
    small, other = Swapper(39, lacks="without its eyes"), Swapper(98)
    assert candidates.ModelCandidate("ours", small).title == "ours, without its eyes"
    assert candidates.ModelCandidate("ours", other).title == "ours"
    assert candidates.ModelCandidate("ours", other, 1.25).title == "ours, strength 1.25"
    for swapper in (small, other):
        candidates.ModelCandidate("ours", swapper).results(batch)
        candidates.ModelCandidate("ours", swapper).self_swaps(batch)
    assert [given["target_points"] is known for given in small.asked] == [True, True]
    assert [given["target_points"] for given in other.asked] == [None, None]
