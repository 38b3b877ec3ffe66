"""The wrapper of ONNX networks."""

import numpy as np
import pytest

from simswap_jax.evaluation.judges.networks import open_recogniser
from simswap_jax.weights.onnx_network import OnnxNetwork, Wanted
from tests.support.errors import raises_user_error
from tests.support.onnx_networks import onnx_network
from tests.support.small_model import faces

ANYTHING = Wanted("a network", "anything", lambda shape: True)
IDENTITY = [("Identity", ["image"], ["out"], {})]


@pytest.mark.parametrize("batch", ["n", 2, 32])
def test_every_picture_is_answered_once_whatever_the_batch(tmp_path, batch):
    network = OnnxNetwork(onnx_network(tmp_path / "x.onnx", IDENTITY, [batch, 3, 4, 4], batch=batch), ANYTHING)
    pictures = faces(5, 4)
    answers = np.concatenate(list(network.run(list(pictures), np.asarray)))
    np.testing.assert_array_equal(answers, pictures.transpose(0, 3, 1, 2))


def test_a_network_of_other_inputs_is_refused(tmp_path):
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper, save

    node = helper.make_node("Identity", ["image"], ["out"])
    put, out = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 4, 4]) for name in ("image", "out"))
    graph = helper.make_graph([node], "grey", [put], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, tmp_path / "grey.onnx")
    with raises_user_error("onnx-input-unsupported", "grey.onnx", "a recogniser"):
        open_recogniser(tmp_path / "grey.onnx")
