"""Head pose."""

import numpy as np
import pytest

from simswap_jax.evaluation.judges.networks import OnnxPose
from simswap_jax.io.images import read_picture
from tests.support.onnx_networks import onnx_network


@pytest.mark.parametrize("batch", [1, "n"])
def test_head_pose_is_shown_blue_green_red_planes(tmp_path, batch):
    red = np.zeros((10, 10, 3), np.uint8)
    red[..., 0] = 255
    nodes = [("ReduceMean", ["image"], ["out"], {"axes": [2, 3], "keepdims": 0})]
    network = onnx_network(tmp_path / "pose.onnx", nodes, [batch, 3], size=64, batch=batch)
    shown = OnnxPose(network).angles([red, red])
    assert shown.dtype == np.float32
    np.testing.assert_allclose(shown[1], [-127.5 / 128, -127.5 / 128, 127.5 / 128], rtol=1e-5)


def test_head_pose_follows_the_landmarks_and_the_mirror(outside):
    pose = OnnxPose(outside("headpose_fsanet.onnx"))
    rows = outside("celeba_192_landmarks.csv").read_text().splitlines()[1:400:10]
    names = [row.split(",")[0] for row in rows]
    points = np.array([[float(number) for number in row.split(",")[1:]] for row in rows])
    pictures = [read_picture(outside("celeba_192") / name) for name in names]
    angles = pose.angles(pictures)
    mirrored = pose.angles([np.ascontiguousarray(picture[:, ::-1]) for picture in pictures])
    nose = points[:, 4] - (points[:, 0] + points[:, 2]) / 2
    assert np.corrcoef(angles[:, 0], nose)[0, 1] < -0.85
    assert np.abs(angles[:, 0] + mirrored[:, 0]).mean() < 4
    assert np.abs(angles[:, 1] - mirrored[:, 1]).mean() < 4
