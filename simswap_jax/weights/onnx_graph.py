"""An ONNX graph under construction: nodes in order, weights named after PyTorch's, NCHW."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simswap_jax.errors import missing_extra

OPSET = 17
IR_VERSION = 8  # the oldest that carries this opset, so that old runtimes load it

Dimension = int | str  # a name stands for any size


def onnx_package() -> Any:
    """The package onnx, or the sentence that names the extra."""
    try:
        import onnx
    except ImportError as error:
        raise missing_extra("onnx", "onnx", "Writing an ONNX model") from error
    return onnx


class Graph:
    """Collects nodes and weights; every method that adds a node gives the name of its output."""

    def __init__(self, state_dict: Mapping[str, np.ndarray]) -> None:
        """Starts an empty graph.

        Args:
          state_dict: the weights under PyTorch's names and layouts.
        """
        self._onnx = onnx_package()
        self._state_dict = state_dict
        self._nodes: list[Any] = []
        self._weights: dict[str, Any] = {}

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node; its output is named after its number and kind."""
        name = f"{len(self._nodes)}_{kind}"
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def has(self, key: str) -> bool:
        """Whether the weights hold that key."""
        return key in self._state_dict

    def channels(self, key: str) -> int:
        """How many channels that weight gives."""
        return self._state_dict[key].shape[0]

    def _array(self, key: str) -> np.ndarray:
        return np.asarray(self._state_dict[key], np.float64)

    def weight(self, key: str, shape: Sequence[int] | None = None) -> str:
        """The weight of that name, reshaped if asked."""
        array = np.asarray(self._state_dict[key], np.float32)
        return self.constant(key, array if shape is None else array.reshape(shape))

    def constant(self, name: str, value: Any) -> str:
        """A constant under a name; the first value under a name stays."""
        if name not in self._weights:
            self._weights[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def number(self, value: float) -> str:
        """A float32 constant without dimensions."""
        return self.constant(f"number_{value:g}", np.array(value, np.float32))

    # --- layers, each reading its weights by its PyTorch prefix

    def conv(self, x: str, key: str, stride: int = 1, padding: int = 0, groups: int = 1) -> str:
        """A convolution, zero-padded."""
        inputs = [x, self.weight(f"{key}.weight")]
        if self.has(f"{key}.bias"):
            inputs.append(self.weight(f"{key}.bias"))
        return self.add("Conv", *inputs, strides=[stride] * 2, pads=[padding] * 4, group=groups)

    def batch_norm(self, x: str, key: str) -> str:
        """Batch norm with running statistics, eps 1e-5; also of [N,C]."""
        weights = [self.weight(f"{key}.{name}") for name in ("weight", "bias", "running_mean", "running_var")]
        return self.add("BatchNormalization", x, *weights, epsilon=1e-5)

    def prelu(self, x: str, key: str) -> str:
        """PReLU of a map with one slope, or one a channel."""
        return self.add("PRelu", x, self.weight(f"{key}.weight", (-1, 1, 1)))

    def conv_norm(self, x: str, conv: str, norm: str, stride: int = 1, padding: int = 0) -> str:
        """A convolution and the batch norm after it as one convolution (running statistics, eps 1e-5)."""
        gain = self._array(f"{norm}.weight") / np.sqrt(self._array(f"{norm}.running_var") + 1e-5)
        bias = self._array(f"{conv}.bias") if self.has(f"{conv}.bias") else 0.0
        bias = (bias - self._array(f"{norm}.running_mean")) * gain + self._array(f"{norm}.bias")
        kernel = self._array(f"{conv}.weight") * gain[:, None, None, None]
        weights = {"weight": kernel, "bias": bias}
        names = [self.constant(f"{conv}.with_norm.{name}", np.float32(array)) for name, array in weights.items()]
        return self.add("Conv", x, *names, strides=[stride] * 2, pads=[padding] * 4)

    def linear(self, x: str, key: str) -> str:
        """A linear layer, [N,in] → [N,out]."""
        return self.add("Gemm", x, self.weight(f"{key}.weight"), self.weight(f"{key}.bias"), transB=1)

    def gain_and_shift(self, x: str, key: str) -> list[str]:
        """The halves of a linear layer as two layers, [N,in] → [N,out/2] each."""
        weights, biases = (np.split(self._array(f"{key}.{name}"), 2) for name in ("weight", "bias"))
        halves = zip(("gain", "shift"), weights, biases, strict=True)
        return [
            self.add(
                "Gemm",
                x,
                self.constant(f"{key}.{name}.weight", np.float32(weight)),
                self.constant(f"{key}.{name}.bias", np.float32(bias)),
                transB=1,
            )
            for name, weight, bias in halves
        ]

    def part(self, x: str, axis: int, first: int, end: int) -> str:
        """x[first:end] along an axis; negative numbers count from its end."""
        ends = [self.constant(f"index_{n}", np.array([n], np.int64)) for n in (first, end, axis)]
        return self.add("Slice", x, *ends)

    def reflect(self, x: str, by: int) -> str:
        """Reflection of `by` pixels on every side: lines side by side, as not every runtime has Pad's mode for it."""
        for axis in (2, 3):
            before = [self.part(x, axis, i, i + 1) for i in range(by, 0, -1)]
            after = [self.part(x, axis, -i - 1, -i) for i in range(1, by + 1)]
            x = self.add("Concat", *before, x, *after, axis=axis)
        return x

    def unshuffle(self, x: str, by: int) -> str:
        """Three channels → 3·by², blocks of pixels as channels, as SpaceToDepth orders them: (row, column, channel)."""
        kernel = np.eye(3 * by * by, dtype=np.float32).reshape(-1, by, by, 3).transpose(0, 3, 1, 2)
        return self.add("Conv", x, self.constant(f"unshuffle_{by}", kernel), strides=[by] * 2)

    def double(self, x: str) -> str:
        """Bilinear ×2, half-pixel centres, edges clamped."""
        scales = self.constant("double", np.array([1, 1, 2, 2], np.float32))
        return self.add("Resize", x, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")

    # --- the whole

    def model(
        self,
        inputs: Mapping[str, Sequence[Dimension]],
        output: tuple[str, str, Sequence[Dimension]],
        facts: Mapping[str, str],
    ) -> Any:
        """The finished model, checked by ONNX's own checker.

        Args:
          inputs: name → dimensions, all float32.
          output: the node that gives it, its name, its dimensions.
          facts: text kept in the file.
        """
        helper, kind = self._onnx.helper, self._onnx.TensorProto.FLOAT
        source, name, dimensions = output
        self._nodes.append(helper.make_node("Identity", [source], [name], name))
        graph = helper.make_graph(
            self._nodes,
            "simswap_jax",
            [helper.make_tensor_value_info(key, kind, list(shape)) for key, shape in inputs.items()],
            [helper.make_tensor_value_info(name, kind, list(dimensions))],
            list(self._weights.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="simswap_jax",
            ir_version=IR_VERSION,
        )
        helper.set_model_props(model, dict(facts))
        self._onnx.checker.check_model(model)
        return model
