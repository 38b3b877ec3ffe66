"""DeepFakes' encoder and decoders: the size in circulation, whose decoder draws, what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.models import families
from simswap_jax.models.deepfakes import DeepFakesConfig
from simswap_jax.models.ops.resize import pixel_shuffle, pixel_unshuffle
from tests.support.small_model import lively

SMALL = DeepFakesConfig(("anna", "ben"), encoder=(4, 4), dense=8, shared=8, decoder=(4,), bottom=4)


@functools.cache
def shapes_of(config):
    network = families.build(config)
    return jax.eval_shape(lambda key: network.init(key, config.side), jax.random.key(0))["params"]


@pytest.mark.parametrize(
    ("preset", "side", "encoder", "decoder"),
    [("original", 64, 69.66, 6.20), ("small-64", 64, 2.16, 0.74), ("small-112", 112, 4.32, 0.74)],
)
def test_parameters_are_counted_as_published(preset, side, encoder, decoder):
    config = DeepFakesConfig.from_preset(preset, people=("anna", "ben"))
    assert config.side == side
    params = shapes_of(config)
    found = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) / 1e6 for name, tree in params.items()}
    assert round(found["encoder"], 2) == encoder
    assert round(found["decoders"] / 2, 2) == decoder


def test_the_layers_in_circulation():
    params = shapes_of(DeepFakesConfig.from_preset("original", people=("anna", "ben")))
    encoder, decoders = params["encoder"], params["decoders"]
    assert [encoder[f"down{i}"]["kernel"].shape[2:] for i in (1, 2, 3, 4)] == [
        (3, 128), (128, 256), (256, 512), (512, 1024),
    ]  # fmt: skip
    assert (encoder["squeeze"]["kernel"].shape, encoder["widen"]["kernel"].shape) == ((16384, 1024), (1024, 16384))
    assert encoder["up"]["conv"]["kernel"].shape == (3, 3, 1024, 4 * 512)
    assert [decoders[f"up{i}"]["conv"]["kernel"].shape for i in (1, 2, 3)] == [
        (2, 3, 3, 512, 4 * 256), (2, 3, 3, 256, 4 * 128), (2, 3, 3, 128, 4 * 64),
    ]  # fmt: skip
    assert decoders["last"]["kernel"].shape == (2, 5, 5, 64, 3)


def test_each_person_has_a_decoder():
    """A group's drawings are those of its person, and the person's decoder is what draws."""
    network = families.build(SMALL)
    variables = lively(jax.eval_shape(lambda key: network.init(key, 16), jax.random.key(0)))
    pictures = jax.random.uniform(jax.random.key(1), (4, 16, 16, 3))
    draw = jax.jit(lambda v, person: network.apply(v, pictures, {"person": person}))
    grouped = jax.jit(lambda v: network.module.apply(v, pictures, method="grouped"))(variables)
    np.testing.assert_allclose(draw(variables, jnp.array([0, 1, 0, 1])), grouped, rtol=1e-5, atol=1e-6)
    as_anna, as_ben = draw(variables, jnp.zeros(4, int)), draw(variables, jnp.ones(4, int))
    assert float(jnp.abs(as_anna - as_ben).max()) > 1e-3
    swapped = {"params": {**variables["params"]}}
    swapped["params"]["decoders"] = jax.tree.map(lambda leaf: leaf[::-1], variables["params"]["decoders"])
    np.testing.assert_allclose(draw(swapped, jnp.zeros(4, int)), as_ben, rtol=1e-5, atol=1e-6)


def test_pixels_are_folded_and_unfolded():
    x = np.random.default_rng(0).random((2, 4, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(pixel_shuffle(pixel_unshuffle(jnp.asarray(x), 2), 2), x)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"preset": "small-64", "dense": 7}, "dense is 7, and preset 'small-64' has 256"),
        ({"preset": "", "decoder": (4,)}, "one width fewer"),
        ({"people": ("anna", "anna")}, "somebody twice"),
        ({"people": ("x" * 300,)}, "at most 200 letters"),
    ],
)
def test_a_shape_that_cannot_be_is_one_sentence(fields, words):
    family = families.get("deepfakes")
    with pytest.raises(ValueError, match=words):
        family.from_fields({**family.fields(), **fields}, 0)


def test_pictures_of_another_size_are_refused():
    with pytest.raises(ValueError, match="16×16 pixels, not 32×32"):
        jax.eval_shape(lambda key: families.build(SMALL).init(key, 32), jax.random.key(0))
    with pytest.raises(ValueError, match="shared by 2 people"):
        families.build(SMALL).module.apply({"params": {}}, jnp.zeros((3, 16, 16, 3)), method="grouped")
