"""Generator and identity networks as ONNX files, built layer by layer from their weights (opset 17, any batch).

Three contracts for a generator, all NCHW float32 with inputs named ``source`` [N,D] (identity vectors of length one)
and ``target`` [N,3,H,W], and one output ``output`` [N,3,H,W], RGB in [0,1]:

==================  ==========  ==============================  =========================================
contract            H = W       target's values                 beside it
==================  ==========  ==============================  =========================================
``plain``           any         RGB in [0,1]
``facefusion-256``  256         RGB, (x − mean)/std (ImageNet)  ``NAME.hash``; FaceFusion's `simswap_256`
``facefusion-512``  512         RGB in [0,1]                    ``NAME.hash``; `simswap_unofficial_512`
==================  ==========  ==============================  =========================================

The generator's own input normalization is converted inside the file, so nobody who uses it has to know. In float32 and
float16 all operators of a generator are among those that onnxruntime's documentation lists for CoreML: there is no Pad
with reflection, no Split, no batch norm.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.errors import UserError, missing_extra
from simswap_jax.io.atomic import write_bytes, write_text
from simswap_jax.models import GeneratorConfig, families
from simswap_jax.models.compact import LUMA, as_compact
from simswap_jax.models.families import FamilyConfig
from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.models.identity.mobilefacenet import STRIDES
from simswap_jax.models.normalization import IMAGENET_MEAN, IMAGENET_STD, denormalize, normalize
from simswap_jax.weights import torch_weights
from simswap_jax.weights.onnx_graph import Dimension, Graph
from simswap_jax.weights.onnx_precision import converted


@dataclass(frozen=True)
class Contract:
    """What a program expects of a generator's file: side of the crops (None: any), target's values, a hash file."""

    size: int | None
    values: str
    hashed: bool


CONTRACTS = {
    "plain": Contract(None, "unit", False),
    "facefusion-256": Contract(256, "imagenet", True),
    "facefusion-512": Contract(512, "unit", True),
}


def export_generator(
    config: FamilyConfig,
    variables: Mapping[str, Any],
    path: str | Path,
    contract: str = "plain",
    facts: Mapping[str, str] | None = None,
    precision: str = "float32",
) -> Path:
    """Writes a generator as ONNX, with its ``.hash`` where the contract wants one.

    Args:
      config: the generator's shape and input normalization.
      variables: its Flax variables.
      path: ends in ``.onnx``.
      contract: one of `CONTRACTS`.
      facts: text to keep in the file (licence, where it comes from).
      precision: one of `onnx_precision.PRECISIONS`.

    Raises:
      UserError: an unknown contract or precision, a generator that it cannot hold, a family that cannot be written as
        ONNX, or a place that cannot be written.
    """
    family = families.of_config(config)
    if family.onnx is None:
        raise UserError(
            f"Generators of the family {family.name} cannot be written as ONNX; keep them as model folders.",
            "family-without-onnx",
        )
    write = families.resolve(family.onnx)
    written: Path = write(config, variables, Path(path), contract=contract, facts=facts or {}, precision=precision)
    return written


def export_simswap(
    config: GeneratorConfig,
    variables: Mapping[str, Any],
    path: Path,
    contract: str,
    facts: Mapping[str, str],
    precision: str,
) -> Path:
    """Writes the paper's generator or a compact one; arguments and errors as of `export_generator`."""
    terms = _terms(config, contract)
    graph = Graph(torch_weights.generator_state_dict(families.build(config), variables))
    output = _generator(graph, config, terms.values)
    sides: list[Dimension] = [terms.size, terms.size] if terms.size else ["height", "width"]
    length = config.identity_size
    model = graph.model(
        {"source": ["batch", length], "target": ["batch", 3, *sides]},
        (output, "output", ["batch", 3, *sides]),
        {
            "contract": contract,
            "precision": precision,
            "preset": config.preset,
            "trained convention": config.convention,
            **facts,
        },
    )
    return _write(converted(model, precision), path, terms.hashed)


def export_identity(network: IdentityNetwork, variables: Mapping[str, Any], path: str | Path) -> Path:
    """Writes an identity network as ONNX: ``input`` [N,3,H,W], preprocessed → ``embedding`` [N,D], not normalised.

    How crops are preprocessed stands in the file's metadata: ``frame``, height and width to which they are resized and
    out of whose middle H×W are cut, ``resize``, how (`IdentityConfig.swap_resize`), and ``values``, as of
    `IdentityConfig`.
    """
    config = network.config
    graph = Graph(torch_weights.identity_state_dict(network, variables))
    output = {"arcface": _arcface, "iresnet": _iresnet, "mobilefacenet": _mobilefacenet}[config.family](graph, config)
    frame = "{} {}".format(*config.frame)
    facts = {"family": config.family, "values": config.values, "frame": frame, "resize": config.swap_resize}
    dimensions: list[Dimension] = ["batch", config.embedding]
    model = graph.model({"input": ["batch", 3, *config.size]}, (output, "embedding", dimensions), facts)
    return _write(model, Path(path), hashed=False)


def flax_results(
    config: FamilyConfig, variables: Mapping[str, Any], contract: str, side: int, batch: int = 1
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Random inputs in a contract's values, and what Flax draws of them in float32.

    Args:
      config: the generator's shape and input normalization.
      variables: its Flax variables.
      contract: one of `CONTRACTS`.
      side: of the pictures, pixels.
      batch: how many.

    Returns:
      ``source`` float32 [batch, D] of length one and ``target`` float32 [batch, 3, side, side]; and the results,
      float32 [batch, 3, side, side] in [0, 1].
    """
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    coarse = rng.random((batch, side // 8, side // 8, 3), np.float32)
    pictures = np.repeat(np.repeat(coarse, 8, 1), 8, 2)
    network = families.build(config)
    vectors = rng.standard_normal((batch, network.identity_size or 0)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    @jax.jit
    def flax(variables: Mapping[str, Any], pictures: jax.Array, vectors: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            drawn = network.apply(variables, normalize(pictures, config.convention), {"vector": vectors})
        return jnp.clip(denormalize(drawn, config.convention), 0.0, 1.0)

    wanted = np.asarray(flax(variables, pictures, vectors)).transpose(0, 3, 1, 2)
    targets = np.asarray(normalize(jnp.asarray(pictures), CONTRACTS[contract].values)).transpose(0, 3, 1, 2)
    return {"source": vectors, "target": np.ascontiguousarray(targets)}, wanted


def difference_from(results: tuple[Mapping[str, np.ndarray], np.ndarray], path: str | Path) -> float:
    """How far onnxruntime's results of a written file lie from Flax's: the largest |a − b| over the results' range.

    Args:
      results: of `flax_results`, for the generator and contract of the file.
      path: the file.

    Raises:
      UserError: onnxruntime is not installed.
    """
    inputs, wanted = results
    found = _run(Path(path), inputs)
    return float(np.max(np.abs(found - wanted)) / max(float(np.ptp(wanted)), 1e-6))


def _run(path: Path, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """The first output of a model on the CPU."""
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_extra("onnxruntime", "onnx", f"Checking {path.name}") from error
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, dict(inputs))[0])


def _terms(config: GeneratorConfig, contract: str) -> Contract:
    if contract not in CONTRACTS:
        raise UserError(
            f"'{contract}' is no contract of an ONNX generator; choose one of {', '.join(CONTRACTS)}.", "onnx-contract"
        )
    terms = CONTRACTS[contract]
    if terms.hashed and config.identity_size != 512:
        raise UserError(
            f"FaceFusion hands over identity vectors of 512 dimensions, this generator takes {config.identity_size}; "
            "export it as 'plain'.",
            "onnx-identity-size",
        )
    if terms.size and terms.size % config.multiple:
        raise UserError(
            f"{contract} has faces of {terms.size} pixels, no multiple of this generator's {config.multiple}; "
            "export it as 'plain'.",
            "onnx-face-size",
        )
    return terms


def _write(model: Any, path: Path, hashed: bool) -> Path:
    if path.suffix != ".onnx":
        raise UserError(f"{path.name} does not end in .onnx; give a name that does.", "onnx-ending")
    content = model.SerializeToString()
    write_bytes(path, content)
    if hashed:
        write_text(path.with_suffix(".hash"), f"{zlib.crc32(content):08x}")
    return path


# --- the generator --------------------------------------------------------------------------------------------------


def _generator(graph: Graph, config: GeneratorConfig, values: str) -> str:
    """From ``source`` and ``target`` (in `values`) to RGB in [0,1]."""
    target = x = _convert(graph, "target", values, config.convention)
    stem = as_compact(config)
    if stem.unshuffle > 1:
        x = graph.unshuffle(x, stem.unshuffle)
    x = graph.conv_norm(graph.reflect(x, stem.stem_kernel // 2), "first_layer.1", "first_layer.2")
    x = graph.add("Relu", x)
    for name in config.downs:
        x = graph.add("Relu", graph.conv_norm(x, f"{name}.0", f"{name}.1", stride=2, padding=1))
    for i in range(config.blocks):
        x = _id_block(graph, x, f"BottleNeck.{i}", config.widths[-1])
    for name in config.ups:
        x = graph.add("Relu", graph.conv_norm(graph.double(x), f"{name}.1", f"{name}.2", padding=1))
    for _ in range(stem.unshuffle.bit_length() - 1):
        x = graph.double(x)
    x = graph.conv(graph.reflect(x, stem.stem_kernel // 2), "last_layer.1")
    mask = None
    if stem.composition_mask:
        x, mask = _drawing_and_mask(graph, x, stem.mask_stride)
    if config.convention == "unit":
        x = graph.add("Mul", graph.add("Add", graph.add("Tanh", x), graph.number(1)), graph.number(0.5))
    if mask is not None:
        x = graph.add("Add", x, graph.add("Mul", mask, graph.add("Sub", target, x)))
    if stem.keeps_colour:
        x = _with_colours_of(graph, target, x, stem.colour_cell, stem.light_cell)
    x = _convert(graph, x, config.convention, "unit")
    return graph.add("Clip", x, graph.number(0), graph.number(1))


def _drawing_and_mask(graph: Graph, x: str, stride: int) -> tuple[str, str]:
    """The first three channels, and the fourth as a composition mask in (0,1)."""
    return graph.part(x, 1, 0, 3), graph.add("Sigmoid", _smoothed(graph, graph.part(x, 1, 3, 4), stride))


def _smoothed(graph: Graph, x: str, stride: int) -> str:
    """Means of stride × stride pixels, and bilinear between their middles."""
    if stride > 1:
        x = graph.add("AveragePool", x, kernel_shape=[stride] * 2, strides=[stride] * 2)
    for _ in range(stride.bit_length() - 1):
        x = graph.double(x)
    return x


def _with_colours_of(graph: Graph, target: str, x: str, colour_cell: int, light_cell: int) -> str:
    """As `compact.with_colours_of`."""
    missing = graph.add("Sub", target, x)
    luma = graph.constant("luma", np.array(LUMA, np.float32).reshape(1, 3, 1, 1))
    light = graph.add("Conv", missing, luma)
    if colour_cell:
        x = graph.add("Add", x, _smoothed(graph, graph.add("Sub", missing, light), colour_cell))
    return graph.add("Add", x, _smoothed(graph, light, light_cell)) if light_cell else x


def _convert(graph: Graph, x: str, given: str, wanted: str) -> str:
    """From one input normalization to another."""
    if given == wanted:
        return x
    mean = graph.constant("imagenet_mean", np.array(IMAGENET_MEAN, np.float32).reshape(1, 3, 1, 1))
    std = graph.constant("imagenet_std", np.array(IMAGENET_STD, np.float32).reshape(1, 3, 1, 1))
    if wanted == "unit":
        return graph.add("Add", graph.add("Mul", x, std), mean)
    return graph.add("Div", graph.add("Sub", x, mean), std)


def _id_block(graph: Graph, x: str, key: str, width: int) -> str:
    y = _adain(graph, graph.conv(graph.reflect(x, 1), f"{key}.conv1.1"), f"{key}.style1.linear", width)
    y = graph.conv(graph.reflect(graph.add("Relu", y), 1), f"{key}.conv2.1")
    return graph.add("Add", x, _adain(graph, y, f"{key}.style2.linear", width))


def _adain(graph: Graph, x: str, key: str, width: int) -> str:
    """Instance norm (eps 1e-8), then y = x·(1 + γ) + β with γ, β linear in the identity vector."""
    ones, zeros = (
        graph.constant("ones", np.ones(width, np.float32)),
        graph.constant("zeros", np.zeros(width, np.float32)),
    )
    x = graph.add("InstanceNormalization", x, ones, zeros, epsilon=1e-8)
    last_two = graph.constant("last_two", np.array([2, 3], np.int64))
    gamma, beta = (graph.add("Unsqueeze", half, last_two) for half in graph.gain_and_shift("source", key))
    return graph.add("Add", graph.add("Mul", x, graph.add("Add", gamma, graph.number(1))), beta)


# --- identity networks ----------------------------------------------------------------------------------------------


def _blocks(config: Any) -> list[tuple[str, int, int]]:
    """Prefix, stage and number of every residual block."""
    return [(f"layer{s}.{i}", s, i) for s, count in enumerate(config.layers, start=1) for i in range(count)]


def _shortcut(graph: Graph, x: str, key: str, stride: int) -> str:
    if not graph.has(f"{key}.downsample.0.weight"):
        return x
    return graph.batch_norm(graph.conv(x, f"{key}.downsample.0", stride), f"{key}.downsample.1")


def _tail(graph: Graph, x: str, last: str) -> str:
    x = graph.linear(graph.add("Flatten", graph.batch_norm(x, "bn2")), "fc")
    return graph.batch_norm(x, last)


def _arcface(graph: Graph, config: Any) -> str:
    x = graph.prelu(graph.batch_norm(graph.conv("input", "conv1"), "bn1"), "prelu")
    x = graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    for key, stage, i in _blocks(config):
        stride = 2 if stage > 1 and i == 0 else 1
        y = graph.conv(graph.batch_norm(x, f"{key}.bn0"), f"{key}.conv1", padding=1)
        y = graph.prelu(graph.batch_norm(y, f"{key}.bn1"), f"{key}.prelu")
        y = graph.batch_norm(graph.conv(y, f"{key}.conv2", stride, padding=1), f"{key}.bn2")
        if config.se:
            y = _squeeze_excitation(graph, y, f"{key}.se.fc")
        x = graph.prelu(graph.add("Add", y, _shortcut(graph, x, key, stride)), f"{key}.prelu")
    return _tail(graph, x, "bn3")


def _squeeze_excitation(graph: Graph, x: str, key: str) -> str:
    gate = graph.add("Flatten", graph.add("GlobalAveragePool", x))
    gate = graph.add("PRelu", graph.linear(gate, f"{key}.0"), graph.weight(f"{key}.1.weight", (1,)))
    gate = graph.add("Sigmoid", graph.linear(gate, f"{key}.2"))
    return graph.add("Mul", x, graph.add("Unsqueeze", gate, graph.constant("last_two", np.array([2, 3], np.int64))))


def _iresnet(graph: Graph, config: Any) -> str:
    x = graph.prelu(graph.batch_norm(graph.conv("input", "conv1", padding=1), "bn1"), "prelu")
    for key, _, i in _blocks(config):
        stride = 2 if i == 0 else 1
        y = graph.conv(graph.batch_norm(x, f"{key}.bn1"), f"{key}.conv1", padding=1)
        y = graph.prelu(graph.batch_norm(y, f"{key}.bn2"), f"{key}.prelu")
        y = graph.batch_norm(graph.conv(y, f"{key}.conv2", stride, padding=1), f"{key}.bn3")
        x = graph.add("Add", y, _shortcut(graph, x, key, stride))
    return _tail(graph, x, "features")


def _mobilefacenet(graph: Graph, config: Any) -> str:
    def named(x: str, key: str, stride: int = 1, padding: int = 0, groups: int = 1) -> str:
        x = graph.batch_norm(graph.conv(x, f"{key}.conv", stride, padding, groups), f"{key}.bn")
        return graph.prelu(x, f"{key}.prelu") if graph.has(f"{key}.prelu.weight") else x

    x = named("input", "conv1", stride=2, padding=1)
    x = named(x, "dw_conv1", padding=1, groups=graph.channels("dw_conv1.conv.weight"))
    index, inside = 0, config.widths[0]
    for count, width, first_stride in zip(config.layers, config.widths, STRIDES):
        for i in range(count):
            key, stride = f"blocks.{index}.conv", first_stride if i == 0 else 1
            y = graph.prelu(graph.batch_norm(graph.conv(x, f"{key}.0"), f"{key}.1"), f"{key}.2")
            y = graph.conv(y, f"{key}.3", stride, 1, groups=graph.channels(f"{key}.3.weight"))
            y = graph.prelu(graph.batch_norm(y, f"{key}.4"), f"{key}.5")
            y = graph.batch_norm(graph.conv(y, f"{key}.6"), f"{key}.7")
            x = graph.add("Add", x, y) if stride == 1 and inside == width else y
            inside, index = width, index + 1
    x = named(x, "conv2")
    x = named(x, "linear7", groups=graph.channels("linear7.conv.weight"))
    return graph.add("Flatten", named(x, "linear1"))
