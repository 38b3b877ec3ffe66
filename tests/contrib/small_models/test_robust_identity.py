"""A robust copy of an identity network: what pictures are moved by, how it is trained, what SimSwap does with it."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.contrib.rendered import dataset
from simswap_jax.contrib.small_models import robust_identity
from simswap_jax.contrib.small_models.robust_identity import adversarial_pictures, colour_perturbed_pictures
from simswap_jax.data import records
from simswap_jax.errors import UserError
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.training import metrics, simswap
from simswap_jax.training.loop import train
from simswap_jax.weights import identity_folder, torch_weights
from tests.support.errors import raises_user_error
from tests.support.small_method import small_batch, small_config, small_method

FIELDS = {"family": "iresnet", "layers": (1, 1), "widths": (8, 8), "size": (16, 16), "frame": (16, 16), "embedding": 8}


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A narrow identity folder, not trained."""
    config = IdentityConfig(**FIELDS, values="symmetric")
    folder = tmp_path_factory.mktemp("network") / "identity"
    identity_folder.write(
        folder, config, jax.jit(IdentityNetwork(config).init)(jax.random.PRNGKey(0)), {"licence": "ours"}
    )
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rendered") / "people"
    dataset.write_people(folder, dataset.sample_people(3, 4), dataset.person_names(4), 6, 4, 32)
    return folder


@pytest.fixture
def config(root, known, tmp_path):
    made = robust_identity.default_config()
    made.data.root, made.data.cache, made.data.size = str(root), str(tmp_path / "records"), 32
    made.identity.weights = str(known)
    made.batch_size, made.steps, made.log_every, made.sample_every = 8, 2, 1, 0
    made.optimizer.warmup, made.robust_identity.ramp = 0, 0
    return made


def draws(key, shape, grid):
    noise, colours = jax.random.split(jax.random.PRNGKey(key))
    return jax.random.normal(noise, shape), jax.random.uniform(colours, grid, minval=-1.0, maxval=1.0)


def test_a_move_is_as_long_as_said_and_colours_change_no_more():
    weights = jax.random.normal(jax.random.PRNGKey(1), (1, 16, 16, 3))
    pictures = jnp.full((2, 16, 16, 3), 0.5)
    noise, colours = draws(0, pictures.shape, (2, 4, 4, 3))

    def slope(x):  # of a loss that is linear, so that its largest place is known
        return jnp.broadcast_to(weights, x.shape)

    moved = adversarial_pictures(pictures, slope, 2.0, noise) - pictures
    np.testing.assert_allclose(jnp.sqrt(jnp.sum(moved**2, (1, 2, 3))), [2.0, 2.0], rtol=1e-5)
    np.testing.assert_allclose(
        moved, jnp.broadcast_to(2.0 * weights / jnp.linalg.norm(weights), moved.shape), atol=1e-5
    )
    colour = colour_perturbed_pictures(pictures, slope, 2.0, 0.1, noise, colours) - pictures - moved
    assert 0.05 < float(jnp.abs(colour).max()) < 0.15  # cubic interpolation overshoots its grid a little
    plain = colour_perturbed_pictures(pictures, slope, 2.0, 0.1, noise, jnp.zeros_like(colours)) - pictures - moved
    assert float(jnp.sum(plain * weights, (1, 2, 3)).min()) > 0  # the colours, too, make the loss larger
    np.testing.assert_allclose(
        colour_perturbed_pictures(pictures, slope, 2.0, 0.0, noise, colours) - pictures, moved, atol=1e-6
    )


@pytest.mark.slow
def test_a_copy_begins_as_the_network_and_says_whose_it_is(config, known, tmp_path):
    config.optimizer.learning_rate = 0.0
    done = train(config, tmp_path / "run")
    teacher, copy = (identity_folder.read(folder, "a test") for folder in (known, done.model))
    jax.tree.map(np.testing.assert_array_equal, teacher.variables, copy.variables)
    assert (teacher.ours, copy.ours) == (True, False)
    card = json.loads((done.model / "config.json").read_text())["card"]
    assert card["copy_of"] == {"name": "identity", "sha256": teacher.sha256}


@pytest.mark.slow
def test_a_copy_withstands_what_the_network_does_not(config, known, tmp_path):
    config.steps, config.ema = 60, 0.0
    config.robust_identity.radius, config.optimizer.learning_rate = 1.0, 3e-3
    done = train(config, tmp_path / "run")
    rows = metrics.read_lines(tmp_path / "run")
    copy, teacher = identity_folder.read(done.model, "a test"), identity_folder.read(known, "a test")
    assert json.dumps(copy.network.config.to_dict()) == json.dumps(teacher.network.config.to_dict())
    pictures = jnp.asarray(next(done.method.batches(_people(config), tmp_path))["image"], jnp.float32) / 255.0
    noise, colours = draws(7, pictures.shape, (*pictures.shape[:1], 5, 5, 3))
    network = teacher.network
    wanted = network.embed(teacher.variables, pictures)

    def distance(variables):
        def loss(x):
            return jnp.mean(1.0 - jnp.sum(network.embed(variables, x) * wanted, -1))

        return float(loss(colour_perturbed_pictures(pictures, jax.grad(loss), 1.0, 0.15, noise, colours)))

    assert distance(copy.variables) < 0.7 * distance(teacher.variables)
    assert np.mean([row["distance"] for row in rows[-5:]]) < np.mean([row["distance"] for row in rows[:5]])


def _people(config):
    return records.build(Path(config.data.root), Path(config.data.cache))


@pytest.mark.slow
def test_a_run_that_is_stopped_resumes_to_the_bit(config, tmp_path):
    config.steps = 4
    config.optimizer.decay = "constant"
    whole = train(config, tmp_path / "whole")
    config.steps = 2
    train(config, tmp_path / "halves")
    config.steps = 4
    again = train(config, tmp_path / "halves")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(whole.state), jax.device_get(again.state))


def test_micro_batches_are_refused(config, tmp_path):
    config.accumulate = 2
    with raises_user_error("config-accumulate-unsupported", "robust_identity"):
        train(config, tmp_path / "run")


def test_faces_that_the_network_cannot_take_are_refused(config, tmp_path):
    fields = IdentityConfig(**FIELDS, values="symmetric", resize="area")
    variables = jax.jit(IdentityNetwork(fields).init)(jax.random.PRNGKey(0))
    identity_folder.write(tmp_path / "own", fields, variables, {"licence": "ours"})
    config.identity.weights, config.data.size = str(tmp_path / "own"), 40
    with raises_user_error("config-identity-size", "config.data.size", 40):
        robust_identity.build(config, None)


def simswap_config_for(known, **changes):
    config = small_config(**{"generator.preset": "", "generator.widths": (4, 8), "generator.blocks": 1, **changes})
    config.identity.weights, config.data.precompute_embeddings = str(known), True
    config.discriminator.widths, config.discriminator.tail = (4, 4), 4
    return config


@pytest.mark.slow
def test_results_are_judged_by_the_copy_and_sources_by_the_network(known, tmp_path):
    config = simswap_config_for(known)
    teacher = identity_folder.read(known, "a test")
    shaken = jax.tree.map(
        lambda x: x + 0.1 * np.sin(np.arange(x.size, dtype=x.dtype)).reshape(x.shape), teacher.variables
    )
    identity_folder.write(tmp_path / "copy", teacher.network.config, shaken, {"copy_of": {"sha256": teacher.sha256}})
    config.identity.robust = str(tmp_path / "copy")
    method = simswap.build(config, None)
    jax.tree.map(np.testing.assert_array_equal, method.frozen, shaken)
    jax.tree.map(np.testing.assert_array_equal, method.identity.variables, teacher.variables)
    state = jax.jit(method.init)(jax.random.PRNGKey(0))
    batch = {name: value for name, value in small_batch(0, 4).items() if name != "source"}
    vectors = np.asarray(teacher.network.embed(teacher.variables, jnp.asarray(batch["target"]) / 255.0))
    batch["identity"] = vectors
    _, told = jax.jit(method.step)(state, batch, method.frozen)

    @jax.jit
    def seen_by_the_copy(target):
        result, _ = method.generator.apply(
            state.networks["generator"].variables, target, {"vector": vectors}, train=True, mutable=["batch_stats"]
        )
        return teacher.network.embed(shaken, result)

    seen = seen_by_the_copy(batch["target"] / np.float32(255.0))
    np.testing.assert_allclose(told["identity"], 1.0 - np.mean(np.sum(seen * vectors, -1)), atol=1e-5)
    assert method.model(state).identity_sha256 == teacher.sha256


def test_simswap_is_judged_by_the_copy_and_by_nothing_else_without_one(known, tmp_path):
    config = simswap_config_for(known)
    teacher = identity_folder.read(known, "a test")
    assert_same(simswap.build(config, None).frozen, teacher.variables)
    moved = jax.tree.map(lambda x: np.asarray(x) + np.asarray(1, x.dtype), teacher.variables)
    identity_folder.write(tmp_path / "copy", teacher.network.config, moved, {"copy_of": {"sha256": teacher.sha256}})
    config.identity.robust = str(tmp_path / "copy")
    method = simswap.build(config, None)
    assert_same(method.frozen, moved)
    assert_same(method.identity.variables, teacher.variables)  # source vectors are the network's own


def assert_same(found, wanted):
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_a_copy_that_cannot_be_used_is_refused(known, tmp_path):
    config = simswap_config_for(known)
    config.identity.robust = str(tmp_path / "none")
    with pytest.raises(UserError, match=r"config\.identity\.robust"):
        simswap.build(config, None)
    config.identity.robust = str(known)  # of the same shape, but another's answers
    with raises_user_error("robust-copy-of-another-network", "identity"):
        simswap.build(config, None)
    teacher = identity_folder.read(known, "a test")
    card = {"copy_of": {"sha256": teacher.sha256}}
    identity_folder.write(tmp_path / "copy", teacher.network.config, teacher.variables, card)
    config.identity.robust, config.data.precompute_embeddings = str(tmp_path / "copy"), False
    with raises_user_error("robust-copy-needs-embeddings"):
        simswap.build(config, None)


@pytest.mark.slow
def test_the_other_weights_grow_from_a_tenth():
    method = small_method(small_config(**{"losses.rest_ramp": 10}))
    start = jax.jit(method.init)(jax.random.PRNGKey(0))
    weights, step = method.config.losses, jax.jit(method.step)
    for number, share in ((0, 0.1), (5, 0.55), (10, 1.0), (99, 1.0)):
        state = replace(start, step=jnp.asarray(number, jnp.int32))
        _, told = step(state, small_batch(0, 4), method.frozen)
        rest = (
            weights.reconstruction * told["reconstruction"]
            + weights.adversarial * told["adversarial"]
            + weights.feature_matching * told["weak_feature_matching"]
        )
        np.testing.assert_allclose(told["generator"], weights.identity * told["identity"] + share * rest, rtol=1e-4)


@pytest.mark.slow
def test_a_network_from_pytorch_is_compiled_once(config, tmp_path):
    """Its batch counts are whole numbers; their average once became a float, and the second step another program."""
    config.identity.weights = str(tmp_path / "counted.safetensors")
    network = IdentityNetwork(IdentityConfig.from_name("mobilefacenet"))
    shapes = jax.eval_shape(network.init, jax.random.PRNGKey(0))
    tensors = torch_weights.identity_state_dict(network, jax.tree.map(lambda x: np.ones(x.shape, np.float32), shapes))
    counts = {
        key.replace("running_mean", "num_batches_tracked"): np.asarray(7) for key in tensors if "running_mean" in key
    }
    torch_weights.save({**tensors, **counts}, tmp_path / "counted.safetensors")
    method = robust_identity.build(config, None)
    before = jax.eval_shape(method.init, jax.random.PRNGKey(0))
    assert any(leaf.dtype == jnp.int32 for leaf in jax.tree.leaves(before.ema))
    batch = {"image": jax.ShapeDtypeStruct((8, 32, 32, 3), np.uint8)}
    after, _ = jax.eval_shape(method.step, before, batch, method.frozen)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), before)
