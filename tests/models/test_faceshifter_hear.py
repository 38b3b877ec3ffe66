"""HEAR-Net behind AEI-Net: its published size, what it is given, what stays frozen, what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.models import families
from simswap_jax.models.faceshifter import FaceShifterConfig
from simswap_jax.models.faceshifter_hear import FaceShifterHearConfig, HearNet
from tests.support.small_model import lively

SMALL = FaceShifterHearConfig(
    encoder=(4, 6), widths=(8, 4), bottom=4, attribute_kernel=1, mask_kernel=1, identity_size=8, hear=(4, 4)
)


@functools.cache
def shapes_of(config):
    pair = jax.ShapeDtypeStruct((1, config.side, config.side, 6), jnp.float32)
    return jax.eval_shape(lambda key, x: HearNet(config, None).init(key, x, False), jax.random.key(0), pair)["params"]


@pytest.mark.parametrize(
    ("preset", "side", "millions"),
    [("original", 256, 6.27), pytest.param("small-64", 64, 0.29, marks=pytest.mark.slow)],
)
def test_parameters_are_counted_as_published(preset, side, millions):
    config = FaceShifterHearConfig.from_preset(preset)
    assert config.side == side
    assert config.first_stage == FaceShifterConfig.from_preset(preset)
    assert round(sum(leaf.size for leaf in jax.tree.leaves(shapes_of(config))) / 1e6, 2) == millions


def test_the_published_layers():
    params = shapes_of(FaceShifterHearConfig())
    unet = params["unet"]
    assert [unet[f"down{i}"]["kernel"].shape for i in (1, 2, 3, 4, 5)] == [
        (4, 4, 6, 32), (4, 4, 32, 64), (4, 4, 64, 128), (4, 4, 128, 256), (4, 4, 256, 512),
    ]  # fmt: skip
    assert [unet[f"up{i}"]["kernel"].shape[2:] for i in (4, 3, 2, 1)] == [(512, 256), (512, 128), (256, 64), (128, 32)]
    assert params["last"]["kernel"].shape == (4, 4, 64, 3)


@pytest.mark.slow  # compiles
def test_it_sees_the_result_and_what_the_first_stage_cannot_draw_and_trains_alone():
    network = families.build(SMALL)
    variables = lively(jax.eval_shape(lambda key: network.init(key, 16), jax.random.key(0)))
    pictures = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
    vectors, own = jnp.eye(2, 8), jnp.eye(2, 8, 3)
    first = families.build(SMALL.first_stage)
    aei = {name: tree["aei"] for name, tree in variables.items()}
    hear = {name: tree["hear"] for name, tree in variables.items()}
    drawn = jax.jit(lambda v: first.apply(aei, pictures, {"vector": v}))
    pair = jnp.concatenate([drawn(vectors), pictures - drawn(own)], -1)
    expected = jax.jit(lambda x: HearNet(SMALL, None).apply(hear, x, False))(pair)

    def apply(v):
        return network.apply(v, pictures, {"vector": vectors, "target_vector": own})

    result = jax.jit(apply)(variables)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    assert 0 < float(result.min()) < float(result.max()) < 1  # a sigmoid
    made = jax.jit(jax.grad(lambda v: jnp.sum(apply(v))))(variables)["params"]
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(made["aei"]))
    assert np.any(made["hear"]["last"]["kernel"])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"preset": "small-64", "hear": (4, 4)}, "hear is .*preset 'small-64' has"),
        ({"preset": "", "hear": (4,) * 9}, "9 halvings, which 256 pixels do not have"),
        ({"preset": "", "hear": ()}, "0 halvings"),
        ({"preset": "", "widths": (4, 4)}, "as many widths"),
    ],
)
def test_a_shape_that_cannot_be_is_one_sentence(fields, words):
    family = families.get("faceshifter_hear")
    with pytest.raises(ValueError, match=words):
        family.from_fields({**family.fields(), **fields}, 128)


def test_it_takes_the_targets_own_vector_last():
    network = families.build(SMALL)
    assert list(network.input_shapes(2, 16)) == ["vector", "target_vector"]
    assert network.input_shapes(2, 16)["target_vector"].shape == (2, 8)
    assert families.config_from_dict(families.config_to_dict(SMALL)) == SMALL
    with pytest.raises(ValueError, match="needs target_vector"):
        network.apply({}, jnp.zeros((2, 16, 16, 3)), {"vector": jnp.zeros((2, 8))})
