"""IPGAN's encoder and decoder: the facts' sizes, the attribute vector and its noise, what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.models import families
from simswap_jax.models.ipgan import IPGANConfig
from simswap_jax.training import flops
from tests.support.small_model import lively

SMALL = IPGANConfig(encoder=(4, 4), attributes=6, decoder=(4, 4), convolutions=1, bottom=4, identity_size=8)


@functools.cache
def shapes_of(config):
    network = families.build(config)
    return jax.eval_shape(lambda key: network.init(key, config.side), jax.random.key(0))


def millions(tree):
    return round(sum(leaf.size for leaf in jax.tree.leaves(tree)) / 1e6, 2)


@pytest.mark.parametrize(
    ("preset", "identity_size", "side", "encoder", "decoder"),
    [
        ("small-64", 128, 64, 2.49, 1.97),
        pytest.param("small-112", 128, 112, 6.81, 5.23, marks=pytest.mark.slow),
        ("original", 512, 128, 9.67, 13.32),
    ],
)
def test_parameters_are_as_many_as_stated(preset, identity_size, side, encoder, decoder):
    """The small ones' are the design's; nobody published the original's, whose widths were chosen here."""
    config = IPGANConfig.from_preset(preset, identity_size=identity_size)
    assert config.side == side
    params = shapes_of(config)["params"]
    assert (millions(params["encoder"]), millions(params["decoder"])) == (encoder, decoder)


def test_the_layers_of_both_kinds():
    params = shapes_of(IPGANConfig.from_preset("small-64", identity_size=128))["params"]
    encoder, decoder = params["encoder"], params["decoder"]
    assert [encoder[f"down{i}"]["kernel"].shape for i in (1, 2, 3, 4)] == [
        (3, 3, 3, 32), (3, 3, 32, 64), (3, 3, 64, 128), (3, 3, 128, 256),
    ]  # fmt: skip
    assert encoder["mean"]["kernel"].shape == encoder["log_variance"]["kernel"].shape == (4 * 4 * 256, 256)
    assert decoder["widen"]["kernel"].shape == (128 + 256, 4 * 4 * 256)
    assert [decoder[f"up{i}"]["kernel"].shape[3] for i in (1, 2, 3, 4)] == [128, 64, 32, 32]
    original = shapes_of(IPGANConfig())["params"]
    assert original["encoder"]["mean"]["kernel"].shape == (512, 256)  # pooled over the maps' area
    assert original["decoder"]["up1"]["kernel"].shape == (4, 4, 512, 512)  # transposed
    assert original["encoder"]["level1_1"]["kernel"].shape == (3, 3, 3, 64)


@pytest.mark.parametrize(("preset", "gigaflops"), [("small-64", 0.23), ("small-112", 0.71)])
def test_a_face_costs_what_is_stated(preset, gigaflops):
    config = IPGANConfig.from_preset(preset, identity_size=128)
    picture, vector = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((1, config.side, config.side, 3), (1, 128)))
    network = families.build(config)
    counted = flops.forward(lambda v, x, i: network.apply(v, x, {"vector": i}), shapes_of(config), picture, vector)
    assert counted / 1e9 == pytest.approx(gigaflops, abs=0.02)


@pytest.fixture(scope="module")
def network():
    network = families.build(SMALL)
    return network, lively(jax.eval_shape(lambda key: network.init(key, 16), jax.random.key(0)))


@pytest.mark.slow  # compiles
def test_a_swap_takes_the_mean_and_training_adds_noise_of_the_variance(network):
    network, variables = network
    pictures, vectors = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3)), jnp.eye(2, 8)
    noise = jax.random.normal(jax.random.key(2), (2, 6))
    draw = jax.jit(lambda noise: network.module.apply(variables, pictures, vectors, noise, method="with_distribution"))
    mean, (mu, log_variance) = draw(jnp.zeros((2, 6)))
    swap = jax.jit(lambda x, v: network.apply(variables, x, {"vector": v}))
    np.testing.assert_allclose(swap(pictures, vectors), mean, rtol=1e-6)
    both = jnp.concatenate([vectors, mu + noise * jnp.exp(log_variance / 2)], -1)
    decoded = jax.jit(
        lambda both: network.module.apply(variables, both, method=lambda module, x: module.decoder(x, False))
    )(both)
    np.testing.assert_allclose(draw(noise)[0], decoded, rtol=1e-5, atol=1e-6)
    assert float(jnp.abs(decoded - mean).max()) > 1e-3
    assert mean.dtype == jnp.float32
    assert 0 < float(mean.min()) < float(mean.max()) < 1  # a sigmoid
    for x, v in ((pictures[::-1], vectors), (pictures, vectors[::-1])):  # identity and attributes both show
        assert float(jnp.abs(swap(x, v) - mean).max()) > 1e-3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"preset": "huge"}, "no preset"),
        ({"preset": "small-64", "convolutions": 3}, "convolutions is 3, and preset 'small-64' has 1"),
        ({"preset": "", "decoder": (4, 4)}, "as many widths"),
        ({"preset": "", "attributes": 0}, "1 to 16384"),
        ({"preset": "", "convention": "bgr"}, "bgr"),
    ],
)
def test_a_shape_that_cannot_be_is_one_sentence(fields, words):
    family = families.get("ipgan")
    with pytest.raises(ValueError, match=words):
        family.from_fields({**family.fields(), **fields}, 128)


def test_any_preset_has_an_attribute_vector_of_any_length():
    family = families.get("ipgan")
    made = family.from_fields({**family.fields(), "preset": "small-64", "attributes": 16}, 128)
    assert made == IPGANConfig.from_preset("small-64", identity_size=128, attributes=16)
    assert made.side == made.multiple == 64
    assert families.config_from_dict(families.config_to_dict(made)) == made
    assert family.warm_start(made, IPGANConfig.from_preset("small-64", identity_size=128)) is None
    assert family.warm_start(made, made)("theirs", "fresh") == "theirs"
    with pytest.raises(ValueError, match="16×16 pixels, not 32×32"):
        jax.eval_shape(lambda key: families.build(SMALL).init(key, 32), jax.random.key(0))
