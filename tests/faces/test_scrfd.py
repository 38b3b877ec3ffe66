"""SCRFD in place of YuNet: its answer is decoded, its file is told from others."""

import numpy as np
import pytest

from simswap_jax.errors import UserError
from simswap_jax.faces.detection import ANCHORS, SIDE, STRIDES, ScrfdDetector
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.weights import model_folder
from simswap_jax.weights.onnx_session import scrfd
from tests.support.errors import raises_user_error

onnx = pytest.importorskip("onnx")

# In the square's pixels: box, landmarks, score, stride.
FACES = [
    ((120.0, 80.0, 200.0, 190.0), [(140, 110), (175, 112), (160, 140), (145, 165), (172, 166)], 0.9, 16),
    ((300.0, 300.0, 560.0, 620.0), [(360, 400), (480, 402), (420, 480), (370, 550), (470, 552)], 0.8, 32),
    ((302.0, 299.0, 561.0, 618.0), [(360, 400), (480, 402), (420, 480), (370, 550), (470, 552)], 0.7, 32),  # again
    ((10.0, 10.0, 30.0, 34.0), [(15, 18), (24, 18), (20, 23), (16, 28), (23, 28)], 0.3, 8),  # too unsure
]


def answer():
    """The nine maps that a network would give for `FACES`."""
    counts = [ANCHORS * (SIDE // stride) ** 2 for stride in STRIDES]
    maps = [np.zeros((count, width), np.float32) for width in (1, 4, 10) for count in counts]
    for number, ((left, top, right, bottom), points, score, stride) in enumerate(FACES):
        level, places = STRIDES.index(stride), SIDE // stride
        column, row = (round(value / stride) for value in np.mean(points, axis=0))
        i = ANCHORS * (row * places + column) + number % ANCHORS
        anchor = np.array([column, row]) * stride
        maps[level][i] = score
        maps[3 + level][i] = np.concatenate([anchor - (left, top), (right, bottom) - anchor]) / stride
        maps[6 + level][i] = ((np.array(points) - anchor) / stride).ravel()
    return maps


def write_network(path, maps):
    """A network that gives these maps for any picture."""
    inputs = [onnx.helper.make_tensor_value_info("input.1", onnx.TensorProto.FLOAT, [1, 3, "h", "w"])]
    nodes, outputs = [onnx.helper.make_node("ReduceMean", ["input.1"], ["mean"], keepdims=0)], []
    nodes.append(onnx.helper.make_node("Sub", ["mean", "mean"], ["zero"]))
    tensors = []
    for number, values in enumerate(maps):
        tensors.append(onnx.numpy_helper.from_array(values, f"values{number}"))
        nodes.append(onnx.helper.make_node("Add", [f"values{number}", "zero"], [f"map{number}"]))
        outputs.append(onnx.helper.make_tensor_value_info(f"map{number}", onnx.TensorProto.FLOAT, values.shape))
    graph = onnx.helper.make_graph(nodes, "scrfd", inputs, outputs, tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    return write_network(tmp_path_factory.mktemp("scrfd") / "scrfd_kps.onnx", answer())


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5])
def test_faces_lie_where_the_maps_say(network, scale):
    photo = np.zeros((round(480 * scale), round(640 * scale), 3), np.uint8)
    found = scrfd(network).detect(photo)
    assert [round(face.score, 2) for face in found] == [0.9, 0.8]
    for face, (box, points, _, _) in zip(found, FACES):
        left, top, width, height = face.box
        np.testing.assert_allclose(np.array([left, top, left + width, top + height]), np.array(box) * scale, rtol=1e-4)
        np.testing.assert_allclose((face.landmarks + 0.5) / scale - 0.5, points, atol=1e-3)


def test_another_network_gets_a_sentence(tmp_path, network):
    with raises_user_error("network-missing", "none.onnx"):
        scrfd(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with raises_user_error("onnx-unreadable", "text.onnx"):
        scrfd(tmp_path / "text.onnx")
    with raises_user_error("not-scrfd", "plain.onnx", "6 outputs"):
        scrfd(write_network(tmp_path / "plain.onnx", answer()[:6]))
    with raises_user_error("not-scrfd", "other.onnx"):
        scrfd(write_network(tmp_path / "other.onnx", [values[:-1] for values in answer()]))


def test_a_swapper_takes_either_detector(network, tmp_path, outside):
    from tests.support.small_model import write_small_model

    model = model_folder.read(write_small_model(tmp_path / "model"))
    assert isinstance(FaceSwapper(model, network).photos._detector, ScrfdDetector)
    assert not isinstance(FaceSwapper(model, outside("face_detection_yunet.onnx")).photos._detector, ScrfdDetector)
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(UserError, match="is not YuNet"):
        _ = FaceSwapper(model, tmp_path / "text.onnx").photos._detector
