"""Small ONNX networks."""

import numpy as np
import pytest


def onnx_network(path, nodes, output, size=4, batch="n", constants=()):
    """An ONNX file of ``image`` [n, 3, size, size] → ``out``."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(*words[:-1], **words[-1]) for words in nodes],
        "network",
        [helper.make_tensor_value_info("image", kind, [batch, 3, size, size])],
        [helper.make_tensor_value_info("out", kind, output)],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def flat_landmarks(path, scale=1.0, batch="n"):
    """Its points are the picture's own values: 24 pairs from 4×4 pixels, times ``scale``."""
    nodes = [("Flatten", ["image"], ["rows"], {"axis": 1}), ("Mul", ["rows", "scale"], ["out"], {})]
    return onnx_network(path, nodes, [batch, 48], batch=batch, constants=[("scale", np.float32(scale))])


def onnx_recogniser(path, size=8, batch="n"):
    """A recogniser that compares the shrunken pixels themselves."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["embedding"], axis=1)],
        "judge",
        [helper.make_tensor_value_info("image", kind, [batch, 3, size, size])],
        [helper.make_tensor_value_info("embedding", kind, [batch, 3 * size * size])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def sface_stand_in(path):
    """A network of the inputs and outputs of OpenCV's SFace: ``data`` [1, 3, 112, 112] → ``fc1`` [1, 128]. It answers
    means of 14×14 pixels, red ones first; its weights are inputs of the graph too, as older files have them.
    """
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    chosen = onnx.numpy_helper.from_array(np.arange(128), "chosen")
    nodes = [
        helper.make_node("AveragePool", ["data"], ["means"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("Flatten", ["means"], ["rows"], axis=1),
        helper.make_node("Gather", ["rows", "chosen"], ["fc1"], axis=1),
    ]
    inputs = [
        helper.make_tensor_value_info("data", kind, [1, 3, 112, 112]),
        helper.make_tensor_value_info("chosen", onnx.TensorProto.INT64, [128]),
    ]
    graph = helper.make_graph(nodes, "sface", inputs, [helper.make_tensor_value_info("fc1", kind, [1, 128])], [chosen])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=3), path)
    return path
