"""ONNX models of fewer bytes: computed in float16, or with large weights in 8 bits."""

import warnings
from importlib import import_module
from typing import Any

import numpy as np

from simswap_jax.errors import UserError, missing_extra
from simswap_jax.weights.onnx_graph import onnx_package

# How far a file may lie from Flax in float32: the largest difference of a pixel, over the output's range. That of
# float32 finds what is wrong in a graph; the others say that rounding its weights cost too much.
PRECISIONS = {"float32": 1e-4, "float16": 0.02, "int8": 0.1}
LARGE = 256  # values of a weight that is held in 8 bits; what is smaller saves nothing


def converted(model: Any, precision: str) -> Any:
    """The model (an ``onnx.ModelProto``, float32) in another precision; its inputs and outputs stay float32.

    ``float16`` halves the file and is for GPUs and phones; a CPU converts back and forth. Instance norms stay in
    float32, where their epsilon of 1e-8 is not zero. ``int8`` holds the weights of convolutions and linear layers in 8
    bits, symmetric, with one scale an output channel, and computes in float32: a quarter of the file.

    Raises:
      UserError: an unknown precision, or onnxruntime, whose converter makes float16, is not installed.
    """
    if precision not in PRECISIONS:
        raise UserError(
            f"'{precision}' is no precision of an ONNX file; choose one of {', '.join(PRECISIONS)}.", "onnx-precision"
        )
    if precision == "float32":
        return model
    return _in_float16(model) if precision == "float16" else _with_int8_weights(model)


def _in_float16(model: Any) -> Any:
    try:
        float16 = import_module("onnxruntime.transformers.float16")
    except ImportError as error:
        raise missing_extra("onnxruntime", "onnx", "Writing an ONNX model in float16") from error
    stay = [*float16.DEFAULT_OP_BLOCK_LIST, "InstanceNormalization"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of every weight below 6e-8
        return float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=stay)


def _with_int8_weights(model: Any) -> Any:
    onnx = onnx_package()
    graph = model.graph
    large = {node.input[1] for node in graph.node if node.op_type in ("Conv", "Gemm")}
    decoders = []
    for weight in [weight for weight in graph.initializer if weight.name in large]:
        values = onnx.numpy_helper.to_array(weight)
        if values.size < LARGE:
            continue
        scales = np.abs(values).max(tuple(range(1, values.ndim))) / 127
        scales = np.where(scales > 0, scales, 1).astype(np.float32)
        rounded = np.rint(values / scales.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
        parts = {f"{weight.name}.int8": rounded, f"{weight.name}.scale": scales}
        graph.initializer.remove(weight)
        graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in parts.items())
        decoders.append(onnx.helper.make_node("DequantizeLinear", list(parts), [weight.name], axis=0))
    nodes = [*decoders, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model
