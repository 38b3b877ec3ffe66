"""The networks of another run to start from: taken as they are, with a mask nearly closed, or refused."""

import functools
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.data.dataset import People, held_out
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.training import loop, runner, simswap
from simswap_jax.training.checkpoints import Checkpoints
from simswap_jax.training.experiment import use_generator
from simswap_jax.training.warm_start import held_out_share, init_from
from simswap_jax.training.workdir import CONFIG, check_workdir_config
from simswap_jax.weights import identity_folder, model_folder
from tests.support.errors import raises_user_error
from tests.support.small_method import small_config

SHAPES = functools.partial(loop.shapes, people=None, key=jax.random.PRNGKey(0))


@pytest.fixture
def config(tmp_path):
    fields = {"family": "iresnet", "layers": (1,), "widths": (4,), "size": (16, 16), "frame": (16, 16), "embedding": 8}
    network = IdentityConfig(**fields)
    identity_folder.write(
        tmp_path / "known", network, jax.jit(IdentityNetwork(network).init)(jax.random.PRNGKey(0)), {}
    )
    made = use_generator(small_config(), "compact")
    made.generator.widths, made.generator.blocks = (4, 8), 1
    made.discriminator.widths, made.discriminator.tail = (4, 4), 4
    made.identity.weights, made.devices = str(tmp_path / "known"), 1
    return made


def fresh(config, seed):
    return runner.build(config, simswap.build(config, None)).init(jax.random.PRNGKey(seed))


@pytest.fixture
def first(config, tmp_path):
    """A workdir with a checkpoint, and the state in it."""
    state, workdir = fresh(config, 0), tmp_path / "first"
    check_workdir_config(workdir, config)
    checkpoints = Checkpoints(workdir, 1)
    checkpoints.save(state, {})
    checkpoints.wait()
    checkpoints.close()
    config.init_from = str(workdir)
    return state


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_networks_that_are_not_finite_are_refused(config, first, tmp_path):
    generator = first.networks["generator"]
    params = jax.tree.map(lambda leaf: leaf * jnp.nan, generator.params)
    diverged = replace(
        first, step=first.step + 1, networks={**first.networks, "generator": replace(generator, params=params)}
    )
    checkpoints = Checkpoints(tmp_path / "first", 1)
    checkpoints.save(diverged, {})
    checkpoints.wait()
    checkpoints.close()
    with raises_user_error("init-from-not-finite", "step 1"):
        init_from(fresh(config, 1), config, SHAPES)


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_networks_come_over_and_the_rest_is_fresh(config, first, tmp_path, parallel):
    config.parallel = parallel
    files = sorted(path for path in (tmp_path / "first").rglob("*") if path.is_file())
    state = fresh(config, 1)
    made = init_from(state, config, SHAPES)
    for name, network in first.networks.items():
        equal(network.params, made.networks[name].params)
        equal(network.collections, made.networks[name].collections)
        equal(state.networks[name].optimizer, made.networks[name].optimizer)
    equal(first.ema, made.ema)
    equal(state.key, made.key)
    assert np.any(np.asarray(first.key) != np.asarray(made.key))
    assert files == sorted(path for path in (tmp_path / "first").rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_generator_gets_its_mask_nearly_closed(config, first):
    config.generator.composition_mask = True
    made = init_from(fresh(config, 1), config, SHAPES)
    target = jax.random.uniform(jax.random.PRNGKey(0), (2, 32, 32, 3))
    vector = jnp.eye(2, 8)
    masked = jax.jit(simswap.build(config, None).generator.apply)
    config.generator.composition_mask = False
    plain = jax.jit(simswap.build(config, None).generator.apply)
    mask = 1.0 / (1.0 + np.exp(3.0))
    for one, other in ((first.ema, made.ema), *((s.networks["generator"].variables for s in (first, made)),)):
        expected = mask * target + (1.0 - mask) * plain(one, target, {"vector": vector})
        np.testing.assert_allclose(masked(other, target, {"vector": vector}), expected, atol=1e-5)


def test_networks_that_do_not_fit_are_refused(config, first, tmp_path):
    config.generator.blocks = 2
    with raises_user_error("init-from-other-generator", tmp_path / "first"):
        init_from(first, config, SHAPES)
    config.generator.blocks, config.ema = 1, 0.0
    with raises_user_error("init-from-other-shapes", tmp_path / "first"):
        init_from(first, config, SHAPES)
    config.ema = 0.9
    described = tmp_path / "first" / CONFIG
    described.write_text(described.read_text().replace('"composition_mask": false', '"composition_mask": true'))
    with raises_user_error("init-from-other-generator", tmp_path / "first"):
        init_from(first, config, SHAPES)
    described.write_text("{}")
    with raises_user_error("init-from-damaged", "config.json"):
        init_from(first, config, SHAPES)


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_a_model_folder_gives_its_generator(config, first, tmp_path, parallel):
    method = simswap.build(config, None)
    method.export(first, tmp_path / "model")
    config.parallel, config.init_from = parallel, str(tmp_path / "model")
    state = fresh(config, 1)
    made = init_from(state, config, SHAPES, method.identity.sha256)
    equal(made.networks["generator"].variables, first.ema)
    equal(made.ema, first.ema)
    equal(made.networks["discriminator"].variables, state.networks["discriminator"].variables)
    with raises_user_error("model-identity"):
        init_from(state, config, SHAPES, "00" * 32)
    config.generator.blocks = 2
    with raises_user_error("init-from-other-generator", tmp_path / "model"):
        init_from(state, config, SHAPES)


def test_a_folder_imported_from_pytorch_gives_its_generator(config, first, tmp_path):
    """Its counts of batches are PyTorch's and are left there."""
    method = simswap.build(config, None)
    model = method.model(first)
    counts = {"num_batches_tracked": {"down1": {"norm": {"count": np.asarray(7, np.int64)}}}}
    with_counts = replace(model, variables={**model.variables, **counts})
    model_folder.write(tmp_path / "model", with_counts, include_identity=True)
    assert "num_batches_tracked" in model_folder.read(tmp_path / "model").variables
    config.init_from = str(tmp_path / "model")
    made = init_from(fresh(config, 1), config, SHAPES, method.identity.sha256)
    equal(made.networks["generator"].variables, first.ema)


def test_another_input_normalization_is_refused(config, first, tmp_path):
    simswap.build(config, None).export(first, tmp_path / "model")
    config.init_from, config.generator.convention = str(tmp_path / "model"), "imagenet"
    with raises_user_error("init-from-other-generator", tmp_path / "model"):
        init_from(fresh(config, 1), config, SHAPES)


def test_held_out_is_who_no_stage_has_seen(config, first, tmp_path):
    assert held_out_share(config) == 0.0  # the first stage held nobody out
    config.data.held_out = 0.2
    assert held_out_share(config) == 0.0
    config.init_from = ""
    assert held_out_share(config) == 0.2
    method = simswap.build(config, None)
    method.export(first, tmp_path / "model")
    config.init_from, config.data.held_out = str(tmp_path / "model"), 0.5
    assert held_out_share(config) == 0.2
    with config.unlocked():
        config.first_stage, config.init_from = config.init_from, ""
    assert held_out_share(config) == 0.2  # whom a first stage saw, the model that holds it saw
    config.first_stage = "random"
    assert held_out_share(config) == 0.5
    with config.unlocked():
        del config.first_stage
    model = model_folder.read(tmp_path / "model", with_identity=False)
    assert "held_out_pictures" not in model.card  # nothing is said of pictures where none are held out
    unknown = replace(model, card={"licence": "unknown"})
    model_folder.write(tmp_path / "imported", unknown, include_identity=False)
    config.init_from = str(tmp_path / "imported")
    assert held_out_share(config) is None
    assert "held_out" not in simswap.build(config, None).model(first).card

    # The same of the pictures of those who are not held out.
    config.init_from, config.data.held_out = str(tmp_path / "first"), 0.2
    config.data.held_out_pictures = 0.3
    assert held_out_share(config, "held_out_pictures") == 0.0  # the first stage saw all pictures of its people
    config.init_from = ""
    assert simswap.build(config, None).model(first).card["held_out_pictures"] == 0.3
    method = simswap.build(config, None)
    method.export(first, tmp_path / "pictures")
    config.init_from, config.data.held_out_pictures = str(tmp_path / "pictures"), 0.2
    assert held_out_share(config, "held_out_pictures") == 0.2
    described = tmp_path / "first" / CONFIG  # of a version without this field
    stored = json.loads(described.read_text())
    del stored["data"]["held_out_pictures"]
    described.write_text(json.dumps(stored))
    config.init_from = str(tmp_path / "first")
    assert held_out_share(config, "held_out_pictures") == 0.0


def test_a_share_of_the_pictures_is_not_trained_on():
    config, names = small_config(), [f"p{i}" for i in range(6)]
    files = [f"{name}/{i}.png" for name in names for i in range(10)]
    everybody = People([{}] * 60, names, np.repeat(np.arange(6), 10), files, np.arange(60), "x")
    whole = loop.training_people(config, everybody, ["p1"])
    assert whole.files == [file for file in files if not file.startswith("p1/")]
    config.data.held_out_pictures = 0.3
    away = held_out(whole.files, 0.3)
    assert 5 < len(away) < 25
    left = loop.training_people(config, everybody, ["p1"])
    assert left.files == [file for file in whole.files if file not in set(away)]
    assert left.names == [name for name in names if name != "p1"]
