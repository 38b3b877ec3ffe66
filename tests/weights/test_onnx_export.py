"""ONNX files against Flax in onnxruntime: within 1e-4 of the output's range, in every contract."""

import re
import runpy
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from PIL import Image

from simswap_jax.models import families
from simswap_jax.models.compact import CELLS, CompactConfig
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.weights import onnx_export
from simswap_jax.weights import torch_weights as tw
from simswap_jax.weights.layouts import generator as generator_leaves
from simswap_jax.weights.layouts import identity as identity_leaves
from simswap_jax.weights.onnx_export import (
    CONTRACTS,
    difference_from,
    export_generator,
    export_identity,
    flax_results,
)
from simswap_jax.weights.onnx_precision import PRECISIONS
from tests.support.errors import raises_user_error
from tests.support.golden_weights import state_dict
from tests.support.small_model import lively

TOLERANCE = 1e-4
SHAPES = {
    "224": {"widths": (8, 8, 16, 16), "blocks": 2},
    "224-deep": {"widths": (8, 8, 16, 16, 16), "blocks": 2, "convention": "imagenet"},
    "512": {"widths": (4, 8, 8, 16, 16), "blocks": 2, "first_down": 0},
    "unshuffle": {"widths": (8, 8, 16), "blocks": 2, "unshuffle": 2, "stem_kernel": 3, "convention": "imagenet"},
    "mask": {"widths": (8, 8, 16), "blocks": 2, "unshuffle": 2, "stem_kernel": 3, "composition_mask": True},
    "mask of stride 4": {"widths": (8, 8, 16), "blocks": 2, "composition_mask": True, "mask_stride": 4},
    "colours": {"widths": (8, 8, 16), "blocks": 2, "composition_mask": True, "colour_cell": 2, "light_cell": 8},
    "mask-imagenet": {"widths": (8, 8, 16), "blocks": 2, "convention": "imagenet", "composition_mask": True},
}


def generator_difference(path, config, variables, contract, side, batch=1):
    """How far a written file's results of random pictures lie from Flax's, over their range."""
    return difference_from(flax_results(config, variables, contract, side, batch), path)


def random_state_dict(leaves, gain=2.0):
    """Weights that keep values of order one through the network."""
    rng = np.random.default_rng(0)
    weights = {}
    for leaf in leaves:
        a = rng.standard_normal(leaf.shape).astype(np.float32)
        if leaf.key.endswith("num_batches_tracked"):
            weights[leaf.key] = np.zeros((), np.int64)
        elif leaf.key.endswith("running_var"):
            weights[leaf.key] = 1 + 0.1 * np.abs(a)
        elif len(leaf.shape) > 1:
            weights[leaf.key] = a * np.sqrt(gain / np.prod(leaf.shape[1:])).astype(np.float32)
        else:
            weights[leaf.key] = 0.1 * a + (0 if leaf.key.endswith(("bias", "running_mean")) else 1)
    return weights


def small_generator(name):
    config = families.config_from_dict(SHAPES[name])
    weights = random_state_dict(generator_leaves(config))
    settings = {name: value for name, value in SHAPES[name].items() if name in ("mask_stride", *CELLS)}
    generator, variables = tw.load_generator(weights, config.convention, settings=settings)
    assert generator.config == config
    return config, variables


RESIZED = {
    "bicubic": {"family": "iresnet", "values": "symmetric128"},
    "nearest": {"family": "arcface", "values": "imagenet"},
    "area": {"family": "arcface", "resize": "area", "values": "symmetric"},
}


@pytest.mark.parametrize("resize", RESIZED)
def test_the_guide_s_script_swaps_as_flax_does(tmp_path, monkeypatch, resize):
    """With a network that sees the middle columns of a frame of half the crop's size."""
    page = (Path(__file__).parents[2] / "docs" / "guide" / "weights.md").read_text(encoding="utf-8")
    [script] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    shape = {"layers": (1, 1), "widths": (8, 16), "size": (32, 24), "frame": (32, 32), "embedding": 64}
    known = IdentityNetwork(IdentityConfig(**shape, **RESIZED[resize]))
    known_variables = lively(jax.eval_shape(known.init, jax.random.key(0)))
    config = families.config_from_dict({**SHAPES["224"], "identity_size": 64})
    weights = random_state_dict(generator_leaves(config))
    generator, variables = tw.load_generator(weights, config.convention)
    export_identity(known, known_variables, "identity.onnx")
    export_generator(config, variables, "generator.onnx")
    rng = np.random.default_rng(0)
    source, target = (rng.integers(0, 255, (side, side, 3), np.uint8) for side in (64, 32))
    for name, picture in {"source": source, "target": target}.items():
        Image.fromarray(picture).save(f"{name}.png")
    made = runpy.run_path("script.py")
    assert made["facts"]["resize"] == resize
    unit = jnp.asarray(source)[None] / 255.0
    seen = known.preprocess(unit, resize)
    np.testing.assert_allclose(made["VALUES"][known.config.values](made["face"]), seen.transpose(0, 3, 1, 2), atol=1e-5)
    if resize != "bicubic":  # what follows is compiled for one of them
        return
    with jax.default_matmul_precision("highest"):
        vector = jax.jit(known.apply)(known_variables, seen)
        vector /= jnp.linalg.norm(vector)
        wanted = jax.jit(generator.apply)(variables, jnp.asarray(target)[None] / 255.0, vector)
    np.testing.assert_allclose(made["vector"], vector, atol=1e-4)
    wanted = np.clip(np.asarray(wanted[0]), 0, 1) * 255
    assert wanted.std() > 10
    np.testing.assert_allclose(np.asarray(Image.open("result.png")), wanted, atol=0.6)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_agrees_with_flax(tmp_path, shape):
    config, variables = small_generator(shape)
    path = export_generator(config, variables, tmp_path / "swap.onnx")
    assert generator_difference(path, config, variables, "plain", 64, batch=3) < TOLERANCE


# Of those that onnxruntime's documentation lists for CoreML (ML programs).
COREML = {
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "Div",
    "Gemm",
    "InstanceNormalization",
    "Mul",
    "Relu",
    "Resize",
}
COREML |= {"Sigmoid", "Slice", "Sub", "Tanh", "Unsqueeze"}


def operators(path):
    """The kinds of a file's nodes, without the one that names the output, which onnxruntime takes away."""
    return {node.op_type for node in onnx.load(path).graph.node} - {"Identity"}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_operator_is_one_that_coreml_takes(tmp_path, shape):
    assert operators(export_generator(*small_generator(shape), tmp_path / "swap.onnx")) <= COREML


def test_float16_only_adds_casts(tmp_path):
    path = export_generator(*small_generator("colours"), tmp_path / "swap.onnx", precision="float16")
    assert operators(path) - COREML == {"Cast"}


@pytest.mark.parametrize(("precision", "least", "share"), [("float16", 1e-4, 0.55), ("int8", 1e-3, 0.35)])
def test_fewer_bytes_stay_near_flax(tmp_path, precision, least, share):
    """And move pixels, or the weights would not have been rounded."""
    config, variables = small_generator("colours")
    whole = export_generator(config, variables, tmp_path / "whole.onnx")
    path = export_generator(config, variables, tmp_path / "swap.onnx", precision=precision)
    difference = generator_difference(path, config, variables, "plain", 64)
    assert least < difference < PRECISIONS[precision]
    assert path.stat().st_size < share * whole.stat().st_size
    kinds = {
        value.type.tensor_type.elem_type for value in (*onnx.load(path).graph.input, *onnx.load(path).graph.output)
    }
    assert kinds == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize(
    ("shape", "contract"),
    [
        ("224", "facefusion-256"),
        ("unshuffle", "facefusion-256"),
        ("mask", "facefusion-256"),
        ("512", "facefusion-512"),
    ],
)
def test_every_contract_agrees_with_flax_at_its_size(tmp_path, shape, contract):
    config, variables = small_generator(shape)
    path = export_generator(config, variables, tmp_path / "swap.onnx", contract)
    for batch in (1, 3) if contract == "facefusion-256" else (1,):
        difference = generator_difference(path, config, variables, contract, CONTRACTS[contract].size, batch)
        assert difference < TOLERANCE


def test_the_measure_sees_a_wrong_convention(tmp_path):
    config, variables = small_generator("224")
    path = export_generator(config, variables, tmp_path / "swap.onnx", "facefusion-256")
    assert generator_difference(path, config, variables, "facefusion-512", 256) > 100 * TOLERANCE


def test_plain_takes_any_size(tmp_path):
    config, variables = small_generator("224")
    path = export_generator(config, variables, tmp_path / "swap.onnx")
    for side in (64, 112):
        assert generator_difference(path, config, variables, "plain", side) < TOLERANCE


@pytest.mark.parametrize("contract", ["facefusion-256", "facefusion-512"])
def test_facefusion_finds_what_it_expects(tmp_path, contract):
    config, variables = small_generator("224")
    path = export_generator(config, variables, tmp_path / "swap.onnx", contract, {"licence": "mine"})
    side = CONTRACTS[contract].size
    model = onnx.load(path)
    assert model.opset_import[0].version >= 17
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    picture = ["batch", 3, side, side]
    assert shapes == {"source": ["batch", 512], "target": picture, "output": picture}
    assert {p.key: p.value for p in model.metadata_props}["licence"] == "mine"
    checksum = (tmp_path / "swap.hash").read_text()
    assert checksum == f"{zlib.crc32(path.read_bytes()):08x}"
    assert len(checksum) == 8
    rng = np.random.default_rng(0)
    inputs = {"source": rng.standard_normal((1, 512)), "target": rng.random((1, 3, side, side))}
    output = onnx_export._run(path, {name: value.astype(np.float32) for name, value in inputs.items()})
    assert output.min() >= 0
    assert output.max() <= 1


def test_the_plain_contract_has_no_hash_file(tmp_path):
    export_generator(*small_generator("224"), tmp_path / "swap.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["swap.onnx"]


def test_what_a_contract_cannot_hold_is_one_sentence(tmp_path):
    config, variables = small_generator("224")
    with raises_user_error("onnx-contract", "facefusion-128"):
        export_generator(config, variables, tmp_path / "swap.onnx", "facefusion-128")
    with raises_user_error("onnx-precision", "float8"):
        export_generator(config, variables, tmp_path / "swap.onnx", precision="float8")
    with raises_user_error("onnx-ending", "swap.pb"):
        export_generator(config, variables, tmp_path / "swap.pb")
    with raises_user_error("onnx-identity-size", 128):
        export_generator(CompactConfig(identity_size=128), {}, tmp_path / "swap.onnx", "facefusion-256")
    with raises_user_error("onnx-face-size", 512):
        export_generator(CompactConfig(unshuffle=64), {}, tmp_path / "swap.onnx", "facefusion-256")
    assert list(tmp_path.iterdir()) == []


IDENTITIES = {
    "arcface": IdentityConfig(family="arcface", layers=(1, 2, 1, 1), widths=(8, 8, 16, 32), values="imagenet"),
    "arcface with SE": IdentityConfig(
        family="arcface", layers=(1, 1, 1, 1), widths=(16, 16, 16, 32), se=True, values="imagenet"
    ),
    "iresnet": IdentityConfig(layers=(1, 2, 1, 1), widths=(8, 8, 16, 16)),
    "small iresnet": IdentityConfig(layers=(1, 1), widths=(8, 16), size=(32, 32), frame=(32, 32), embedding=64),
    "mobilefacenet": IdentityConfig.from_name("mobilefacenet"),
}


def identity_difference(path, network, variables, batch):
    height, width = network.config.size
    rng = np.random.default_rng(1)
    x = np.repeat(np.repeat(rng.random((batch, height // 16, width // 16, 3), np.float32), 16, 1), 16, 2) * 2 - 1
    with jax.default_matmul_precision("highest"):
        wanted = np.asarray(jax.jit(network.apply)(variables, jnp.asarray(x)))
    found = onnx_export._run(path, {"input": np.ascontiguousarray(x.transpose(0, 3, 1, 2))})
    return np.max(np.abs(found - wanted)) / np.ptp(wanted)


@pytest.mark.parametrize("name", IDENTITIES)
def test_identity_networks_agree_with_flax(tmp_path, name):
    config = IDENTITIES[name]
    network, variables = tw.load_identity_network(random_state_dict(identity_leaves(config), gain=0.7))
    assert network.config == config
    path = export_identity(network, variables, tmp_path / "identity.onnx")
    assert identity_difference(path, network, variables, 2) < TOLERANCE


def test_a_missing_onnx_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with raises_user_error("extra-missing", "onnx"):
        export_generator(*small_generator("224"), tmp_path / "swap.onnx")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "contract", "side"),
    [
        ("generator_224_tanh", "plain", 224),
        ("generator_224_tanh", "facefusion-256", 256),
        ("generator_224_linear", "facefusion-256", 256),
        ("generator_512_tanh", "facefusion-512", 512),
        ("generator_224_deep_linear", "facefusion-512", 512),
    ],
)
def test_full_generators_agree_with_flax(tmp_path, network, contract, side):
    convention = "unit" if network.endswith("tanh") else "imagenet"
    generator, variables = tw.load_generator(state_dict(network), convention)
    path = export_generator(generator.config, variables, tmp_path / "swap.onnx", contract)
    for batch in (1, 3):
        assert generator_difference(path, generator.config, variables, contract, side, batch) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("network", ["arcface_r101_se", "arcface_iresnet50", "arcface_mobilefacenet"])
def test_full_identity_networks_agree_with_flax(tmp_path, network):
    module, variables = tw.load_identity_network(state_dict(network))
    path = export_identity(module, variables, tmp_path / "identity.onnx")
    assert identity_difference(path, module, variables, 2) < TOLERANCE
