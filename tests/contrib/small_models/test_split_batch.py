"""Losses by half of a batch: what is left out is what same-person pairs had, and no more."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax import losses
from simswap_jax.contrib.small_models import split_batch
from simswap_jax.contrib.small_models.augmentation import use_augmentation
from simswap_jax.faces.alignment import TEMPLATES
from simswap_jax.models import MultiScaleDiscriminator
from simswap_jax.models.normalization import denormalize
from simswap_jax.training import flops, simswap, step
from simswap_jax.training.step import LossWeights, discriminate
from tests.support.errors import raises_user_error
from tests.support.small_method import small_batch, small_config, small_method

SAME = 6  # of 16


def split_method(**changes):
    """The method of networks of a few channels, without batch norm in the discriminators."""
    fields = {"data.same_fraction": SAME / 16, "losses.gradient_penalty": 0.0, **changes}
    made = small_method(small_config(**fields), scales=1)
    discriminator = MultiScaleDiscriminator(replace(made.discriminator.config, norm="none"))
    return split_batch.SplitBatchSimSwap(made.config, made.generator, discriminator, made.identity)


def vectors_batch():
    """A batch as the loader makes it: vectors, and same-person pairs first."""
    batch = small_batch(0)
    vectors = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return {"target": batch["target"], "identity": vectors, "same_person": np.arange(16) < SAME}


@pytest.mark.slow
def test_what_is_left_out_is_what_same_person_pairs_had():
    method = split_method()
    state = jax.jit(method.init)(jax.random.PRNGKey(0))
    networks, weights = method.networks, LossWeights(feature_matching_first=1)
    floats = jax.tree.map(jnp.asarray, method.decode(vectors_batch()))
    params = state.networks["generator"].params

    def parts(params):
        whole, (result, _, _) = step.generator_loss(params, networks, weights, state, floats, method.frozen)
        split, _ = split_batch.generator_loss(
            params, networks, weights, state, floats, method.frozen, split_batch.Halves(SAME)
        )
        first = jax.tree.map(lambda x: x[:SAME], {**floats, "result": result})
        discriminator = state.networks["discriminator"]
        (fake,), _ = discriminate(networks, discriminator.params, discriminator.collections, first["result"])
        (real,), _ = discriminate(networks, discriminator.params, discriminator.collections, first["target"])
        vectors = networks.identity.embed(method.frozen, denormalize(first["result"], "unit"))
        left_out = (
            weights.identity * losses.identity(vectors, first["identity"])
            + weights.adversarial * losses.adversarial_generator([fake.logits])
            + weights.feature_matching * losses.weak_feature_matching([fake.features], [real.features], 1)
        )
        return jnp.stack([whole, split + SAME / 16 * left_out])

    whole, again = jax.jit(parts)(params)
    np.testing.assert_allclose(whole, again, rtol=1e-5)
    slopes = np.concatenate(
        [leaf.reshape(2, -1) for leaf in jax.tree.leaves(jax.jit(jax.jacrev(parts))(params))], axis=1
    )
    assert np.linalg.norm(slopes[0] - slopes[1]) < 1e-4 * np.linalg.norm(slopes[0])


@pytest.mark.slow
def test_a_step_trains_both_players_and_costs_less():
    method = split_method(ema=0.9)
    plain = small_method(method.config, scales=1)
    state = jax.jit(method.init)(jax.random.PRNGKey(0))
    after, told = jax.jit(method.step)(state, vectors_batch(), method.frozen)
    assert all(np.isfinite(value) for value in told.values())
    for name in ("generator", "discriminator"):
        before = jax.tree.leaves(state.networks[name].params)
        now = jax.tree.leaves_with_path(after.networks[name].params)
        still = [jax.tree_util.keystr(path) for (path, leaf), was in zip(now, before) if np.array_equal(leaf, was)]
        assert all(re.search(r"'conv\d?'\]\['bias'\]$", path) for path in still), still  # a norm takes it off again
    assert flops.per_image(method) < flops.per_image(plain)


def test_inputs_of_two_people_are_not_augmented():
    made = split_method()
    method = replace(made, config=use_augmentation(made.config.copy_and_resolve_references(), 1.0, 1.0))
    state = jax.jit(method.init)(jax.random.PRNGKey(0))
    floats = jax.tree.map(jnp.asarray, method.decode(vectors_batch()))
    given = jax.jit(method.augment)(state, floats, method.frozen, jax.random.PRNGKey(1))["generator_input"]
    np.testing.assert_array_equal(given[SAME:], floats["target"][SAME:])
    assert (np.abs(given[:SAME] - floats["target"][:SAME]).max(axis=(1, 2, 3)) > 1e-3).all()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"data.pairing": "alternate"}, "config-unknown-choice"),
        ({"parallel": "pmap"}, "config-unknown-choice"),
        ({"accumulate": 2}, "config-accumulate-unsupported"),
        ({"data.same_fraction": 1.0}, "split-batch-fraction"),
        ({"losses.eyes_and_mouth": 1.0, "data.alignment": "arcface"}, "split-batch-alignment"),
    ],
)
def test_batches_that_cannot_be_split_are_refused(changes, code):
    config = split_batch.default_config()
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    with raises_user_error(code):
        split_batch.check(config)


@pytest.mark.parametrize(
    ("weights", "pairs"),
    [
        ({}, []),
        ({"ifsr": 1.0}, range(SAME, 16)),
        ({"perceptual": 1.0}, range(SAME)),
        ({"ifsr": 1.0, "perceptual": 1.0}, range(16)),
    ],
)
def test_maps_are_compared_where_a_loss_wants_them_and_vectors_where_two_people_meet(weights, pairs, monkeypatch):
    """A stand-in for the identity network, whose one map is the picture."""

    def vectors_and_maps(_network, _variables, pictures):
        return pictures.mean((1, 2)), [pictures.reshape(len(pictures), -1)]

    monkeypatch.setattr(split_batch.ifsr, "vectors_and_maps", vectors_and_maps)
    method = split_method()
    halves = split_batch.Halves(SAME, **weights)
    result, target = np.random.default_rng(0).uniform(0.1, 1.0, (2, 16, 32, 32, 3)).astype(np.float32)
    alike = [1, SAME + 2]
    result[alike] = target[alike]
    vectors, distances = split_batch.seen_by_identity(method.networks, method.frozen, result, target, halves)
    assert len(vectors) == 16 - SAME
    assert len(distances) == len(pairs)
    if weights:
        np.testing.assert_allclose(vectors, result[SAME:].mean((1, 2)), rtol=1e-5)
        assert [pair for pair, (each,) in zip(pairs, distances) if each < 1e-5] == [n for n in alike if n in pairs]


def test_eyes_and_mouth_weigh_more_where_the_template_has_them():
    weight = split_batch.part_weights(112, 4.0)[0, ..., 0]
    points = np.round(TEMPLATES["simswap-frontal"][0] * 112 - 0.5).astype(int)
    eyes_and_mouth = weight[points[[0, 1, 3, 4], 1], points[[0, 1, 3, 4], 0]]
    np.testing.assert_allclose(eyes_and_mouth, 5.0, atol=0.02)
    assert weight[0, 0] == pytest.approx(1.0, abs=1e-3)
    assert weight[20, 56] < 1.1  # the forehead
    np.testing.assert_allclose(weight, weight[:, ::-1], atol=1e-5)  # mirrored pictures are weighed alike
    assert np.all(split_batch.part_weights(48, 0.0) == 1.0)


def test_an_experiment_of_simswaps_own_may_take_this_method():
    config = simswap.default_config()
    config.method, config.data.pairing, config.data.root = split_batch.METHOD, "mixed", "somewhere"
    split_batch.check(config)


@pytest.mark.parametrize("name", ["ifsr", "perceptual"])
def test_a_loss_on_maps_needs_a_mobilefacenet(name):
    method = split_method()
    config = method.config.copy_and_resolve_references().unlock()
    assert not set(split_batch.OWN_LOSSES) & set(config.losses)  # an experiment of SimSwap's own
    assert split_batch.from_networks(config, method.identity).halves == split_batch.Halves(SAME)
    config.losses[name] = 1.0
    with raises_user_error("split-batch-maps", f"config.losses.{name}"):
        split_batch.from_networks(config, method.identity)
