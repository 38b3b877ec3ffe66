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
