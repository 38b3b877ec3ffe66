"""FaceShifter's AEI-Net: its published size, the AAD layer by hand, its attributes, what it refuses."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.models import families
from simswap_jax.models.faceshifter import AAD, FaceShifter, FaceShifterConfig
from tests.support.small_model import lively

SMALL = FaceShifterConfig(encoder=(4, 6), widths=(8, 4), bottom=4, identity_size=8)


PUBLISHED = FaceShifterConfig(identity_size=256)


@functools.cache
def shapes_of(config):
    network = families.build(config)
    return jax.eval_shape(lambda key: network.init(key, config.side), jax.random.key(0))


def millions(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree)) / 1e6


@pytest.mark.parametrize(
    ("config", "encoder", "generator"),
    [
        pytest.param(PUBLISHED, 67.1, 372.2, id="published"),
        pytest.param(
            FaceShifterConfig(attribute_kernel=1, mask_kernel=1, mask_per_channel=False),
            67.1,
            117.3,
            id="slim",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            FaceShifterConfig.from_preset("small-64", identity_size=128),
            0.60,
            1.67,
            id="small-64",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            FaceShifterConfig.from_preset("small-112", identity_size=128),
            0.51,
            2.27,
            id="small-112",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_parameters_are_counted_as_published(config, encoder, generator):
    params = shapes_of(config)["params"]
    found = millions(params["encoder"]), millions({k: v for k, v in params.items() if k != "encoder"})
    digits = 1 if encoder > 1 else 2
    assert (round(found[0], digits), round(found[1], digits)) == (encoder, generator)


def test_the_published_layers():
    """Attribute maps, blocks and start of the size for 256 pixels."""
    module, picture = FaceShifter(PUBLISHED), jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    variables = shapes_of(PUBLISHED)
    maps = jax.eval_shape(lambda v, x: module.apply(v, x, method="attributes"), variables, picture)
    assert [(z.shape[3], z.shape[1]) for z in maps] == [
        (1024, 2), (2048, 4), (1024, 8), (512, 16), (256, 32), (128, 64), (64, 128), (64, 256),
    ]  # fmt: skip
    params = variables["params"]
    assert params["start"]["kernel"].shape == (2, 2, 256, 1024)
    outs = [params[f"blocks_{i}"]["conv2"]["kernel"].shape[-1] for i in range(8)]
    assert outs == [1024, 1024, 1024, 512, 256, 128, 64, 3]
    assert [f"blocks_{i}" for i in range(8) if "aad_shortcut" in params[f"blocks_{i}"]] == [
        f"blocks_{i}" for i in (3, 4, 5, 6, 7)
    ]
    first = params["blocks_0"]["aad1"]
    assert first["attribute_gamma"]["kernel"].shape == (3, 3, 1024, 1024)
    assert first["identity_beta"]["kernel"].shape == (256, 1024)
    assert first["mask"]["kernel"].shape == (3, 3, 1024, 1024)


@pytest.mark.parametrize("per_channel", [True, False])
def test_aad_is_the_papers_formula(per_channel):
    config = dataclasses.replace(SMALL, attribute_kernel=1, mask_kernel=1, mask_per_channel=per_channel)
    random = np.random.default_rng(0)
    h, z, v = (random.standard_normal(s).astype(np.float32) for s in ((2, 4, 4, 3), (2, 4, 4, 5), (2, 8)))
    layer = AAD(config)
    params = lively(jax.eval_shape(layer.init, jax.random.key(0), h, z, v))["params"]
    centred = h - h.mean((1, 2), keepdims=True)
    normal = centred / np.sqrt((centred**2).mean((1, 2), keepdims=True) + 1e-5)

    def made(name, x):
        kernel = params[name]["kernel"]
        return x @ kernel.reshape(kernel.shape[-2:]) + params[name]["bias"]

    mask = 1 / (1 + np.exp(-made("mask", normal)))
    by_attributes = made("attribute_gamma", z) * normal + made("attribute_beta", z)
    by_identity = made("identity_gamma", v)[:, None, None] * normal + made("identity_beta", v)[:, None, None]
    expected = (1 - mask) * by_attributes + mask * by_identity
    np.testing.assert_allclose(layer.apply({"params": params}, h, z, v), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.slow  # compiles
def test_identity_and_attributes_both_show_in_the_result():
    network = families.build(SMALL)
    variables = lively(jax.eval_shape(lambda key: network.init(key, 16), jax.random.key(0)))
    pictures = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
    vectors = jnp.eye(2, 8)
    draw = jax.jit(lambda x, v: network.apply(variables, x, {"vector": v}))
    result = draw(pictures, vectors)
    assert result.shape == pictures.shape
    assert result.dtype == jnp.float32
    assert 0 < float(result.min()) < float(result.max()) < 1  # a sigmoid
    for other in (draw(pictures[::-1], vectors), draw(pictures, vectors[::-1])):
        assert float(jnp.abs(other - result).max()) > 1e-3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"preset": "huge"}, "no preset"),
        ({"preset": "small-64", "bottom": 3}, "bottom is 3, and preset 'small-64' has 2"),
        ({"preset": "", "widths": (4, 4)}, "as many widths"),
        ({"preset": "", "mask_kernel": 2}, "odd"),
        ({"preset": "", "convention": "bgr"}, "bgr"),
    ],
)
def test_a_shape_that_cannot_be_is_one_sentence(fields, words):
    family = families.get("faceshifter")
    with pytest.raises(ValueError, match=words):
        family.from_fields({**family.fields(), **fields}, 128)


def test_a_preset_is_a_shape_and_there_is_one_face_size():
    family = families.get("faceshifter")
    made = family.from_fields({**family.fields(), "preset": "small-64", "dtype": "bfloat16"}, 128)
    assert made == FaceShifterConfig.from_preset("small-64", identity_size=128, dtype="bfloat16")
    assert made.side == made.multiple == 64
    assert families.config_from_dict(families.config_to_dict(made)) == made
    with pytest.raises(ValueError, match="16×16 pixels, not 32×32"):
        jax.eval_shape(lambda key: families.build(SMALL).init(key, 32), jax.random.key(0))
