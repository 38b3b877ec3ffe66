"""Landmark networks named by a path."""

import numpy as np
import pytest

from simswap_jax.evaluation import candidates
from simswap_jax.io.images import read_picture
from simswap_jax.weights.onnx_network import YuNetLandmarks, open_landmarks
from tests.support.errors import raises_user_error
from tests.support.onnx_networks import flat_landmarks, onnx_network
from tests.support.small_model import faces


@pytest.mark.parametrize("batch", ["n", 2])
def test_a_landmark_network_sees_unit_rgb_and_answers_fractions_or_pixels(tmp_path, batch):
    pictures = faces(3, 4)
    wanted = (pictures.transpose(0, 3, 1, 2).reshape(3, 24, 2) / 255.0).astype(np.float64)
    judge = open_landmarks(flat_landmarks(tmp_path / "fractions.onnx", batch=batch))
    assert judge.points == 24
    np.testing.assert_allclose(judge.find(list(pictures)), wanted, atol=1e-6)
    pixels = open_landmarks(flat_landmarks(tmp_path / "pixels.onnx", scale=100.0))
    np.testing.assert_allclose(pixels.find(list(pictures)), (wanted * 100 + 0.5) / 4, atol=1e-4)


def test_a_network_without_landmarks_is_refused(tmp_path):
    path = onnx_network(tmp_path / "few.onnx", [("ReduceMean", ["image"], ["out"], {"axes": [2, 3]})], ["n", 3, 1, 1])
    with raises_user_error("onnx-output-unsupported", "few"):
        open_landmarks(path)


def test_yunet_finds_the_landmarks_of_crops_of_any_size(outside):
    judge = open_landmarks(outside("face_detection_yunet.onnx"))
    assert isinstance(judge, YuNetLandmarks)
    rows = [row.split(",") for row in outside("celeba_192_landmarks.csv").read_text().splitlines()[1:400:20]]
    truth = np.array([row[1:] for row in rows], float).reshape(-1, 5, 2) / 192
    pictures = [read_picture(outside("celeba_192") / row[0]) for row in rows]
    found = judge.find(pictures)
    small = judge.find([candidates.half_resolution(picture)[::2, ::2] for picture in pictures])
    eyes = np.linalg.norm(truth[:, 1] - truth[:, 0], axis=1)
    assert np.isfinite(found).all()
    assert (np.linalg.norm(found - truth, axis=2).mean(axis=1) / eyes).mean() < 0.15
    assert (np.linalg.norm(found - small, axis=2).mean(axis=1) / eyes).mean() < 0.06
    assert np.isnan(judge.find([np.zeros((64, 64, 3), np.uint8)])).all()
