"""The public train script's recipe: its values, what it refuses, and a fine-tuning from imported networks."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.models import GeneratorConfig, families
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.models.projected_discriminator import ProjectedConfig, ProjectedDiscriminator
from simswap_jax.training import flops, release, runner
from simswap_jax.training.config import check, default_config
from simswap_jax.training.loop import train
from simswap_jax.weights import files, identity_folder, model_folder
from simswap_jax.weights import torch_weights as tw
from tests.support.errors import raises_user_error
from tests.support.small_model import faces, lively

SHAPE = {"stem": 4, "widths": (4,) * 7, "repeats": (1,) * 7, "projected": 4}
SIZE = 128


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    config = IdentityConfig(layers=(1,), widths=(4,), size=(16, 16), frame=(16, 16), embedding=8)
    folder = tmp_path_factory.mktemp("network") / "identity"
    variables = lively(jax.eval_shape(IdentityNetwork(config).init, jax.random.key(1)))
    identity_folder.write(folder, config, variables, {"licence": "ours"})
    return folder


@pytest.fixture
def config(identity):
    made = default_config("release")
    made.steps, made.batch_size, made.devices = 2, 2, 1
    made.data.root, made.data.size, made.data.source_size = "somewhere", SIZE, 16
    made.generator.preset, made.generator.widths, made.generator.blocks = "", (4, 8), 1
    made.identity.weights = str(identity)
    made.discriminator.update({"weights": "random", **SHAPE})
    made.log_every, made.sample_every, made.checkpoint_every = 1, 2, 1
    return made


def test_the_recipe_is_the_public_scripts():
    made = default_config("release")
    weights = made.losses
    assert (weights.identity, weights.reconstruction, weights.feature_matching) == (30, 10, 10)
    assert (weights.gradient_penalty, weights.feature_matching_first) == (0, 0)
    assert (made.optimizer.b1, made.optimizer.b2, made.optimizer.learning_rate) == (0, 0.99, 4e-4)
    assert (made.optimizer.decay, made.data.pairing, made.generator.convention) == ("constant", "alternate", "imagenet")


@pytest.mark.parametrize(
    ("field", "value", "code", "named"),
    [
        ("discriminator.weights", "", "projected-discriminator-without-weights", []),
        ("losses.gradient_penalty", 1e-5, "release-gradient-penalty", [1e-5]),
        ("generator.convention", "unit", "release-convention", ["'unit'"]),
        ("data.size", 112, "release-size", [112, "use 128"]),
        ("data.size", 250, "release-size", [250, "use 256"]),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(config, field, value, code, named):
    config.update_from_flattened_dict({field: value})
    with raises_user_error(code, *named):
        check(config)


def test_frozen_features_cost_three_passes_and_heads_seven(config):
    rows = {row.name: row for row in release.build(config, None).work()}
    features, heads = rows["discriminator, features"], rows["discriminator, heads"]
    assert (features.passes, heads.passes) == (3, 7)
    network = ProjectedDiscriminator(ProjectedConfig.from_dict(SHAPE))
    picture = jnp.zeros((1, SIZE, SIZE, 3))
    variables = jax.eval_shape(network.init, jax.random.key(0), picture)
    whole = flops.forward(network.apply, variables, picture)
    assert (
        flops.forward(features.function, *features.arguments) + flops.forward(heads.function, *heads.arguments) == whole
    )
    assert "discriminator" not in rows


def a_discriminator(config, seed):
    network = ProjectedDiscriminator(ProjectedConfig.from_dict(config))
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))
    return network, jax.tree.map(lambda x: x + seed, lively(shapes))


@pytest.mark.slow  # traces three times
def test_a_run_begins_with_the_discriminator_of_a_file(config, tmp_path):
    network, there = a_discriminator(SHAPE, 1.0)
    state_dict = tw.projected_discriminator_state_dict(network, there)
    files.save(state_dict, tmp_path / "latest_net_D.safetensors")
    config.discriminator.weights = str(tmp_path / "latest_net_D.safetensors")
    method = release.build(config, None)
    fresh = jax.eval_shape(method.init, jax.random.PRNGKey(0))
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), fresh)
    there_now = method.begin(state)
    jax.tree.map(np.testing.assert_array_equal, there_now.networks["discriminator"].variables, there)
    assert there_now.networks["generator"] is state.networks["generator"]
    config.discriminator.projected = 8
    with raises_user_error("projected-discriminator-shape", "latest_net_D.safetensors"):
        release.build(config, None).begin(state)


@pytest.mark.slow
def test_a_fine_tuning_from_imported_networks_runs_and_resumes(config, identity, tmp_path):
    """The heads learn from where they were, their features never; stopped and resumed, the bits are the same."""
    for number, picture in enumerate(faces(6, SIZE)):
        folder = tmp_path / "people" / f"person{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    network, there = a_discriminator(SHAPE, 0.0)
    files.save(tw.projected_discriminator_state_dict(network, there), tmp_path / "latest_net_D.safetensors")
    generator = GeneratorConfig(widths=(4, 8), blocks=1, identity_size=8, convention="imagenet")
    known = identity_folder.read(identity, "a test")
    imported = model_folder.ModelFolder(
        generator=generator,
        variables=lively(jax.eval_shape(lambda key: families.build(generator).init(key, SIZE), jax.random.key(0))),
        face_size=SIZE,
        alignment="simswap",
        identity=known.network.config,
        identity_variables=known.variables,
        identity_sha256=known.sha256,
        identity_name=known.name,
        card={"licence": "ours"},
    )
    model_folder.write(tmp_path / "imported", imported, include_identity=True)
    config.data.root, config.init_from = str(tmp_path / "people"), str(tmp_path / "imported")
    config.discriminator.weights = str(tmp_path / "latest_net_D.safetensors")

    first = release.build(config, None)
    there_now = first.begin(runner.build(config, first).init(jax.random.PRNGKey(0)))
    jax.tree.map(np.testing.assert_array_equal, there_now.networks["discriminator"].variables, there)

    whole = train(config, tmp_path / "whole")
    trained = whole.state.networks["discriminator"]
    jax.tree.map(np.testing.assert_array_equal, trained.collections["frozen"], there["frozen"])
    apart = jax.tree.map(lambda a, b: float(np.abs(np.asarray(a) - b).max()), trained.params, there["params"])
    assert 0 < max(jax.tree.leaves(apart)) < 1e-2  # two steps from the imported ones
    moved = jax.tree.map(
        lambda a, b: bool(np.any(np.asarray(a) != b)), trained.collections["spectral"], there["spectral"]
    )
    assert any(jax.tree.leaves(moved))

    half = replace_steps(config, 1)
    assert int(train(half, tmp_path / "resumed").state.step) == 1
    again = train(config, tmp_path / "resumed")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again.state), jax.device_get(whole.state))
    assert model_folder.read(whole.model).generator.convention == "imagenet"


def replace_steps(config, steps):
    made = config.copy_and_resolve_references()
    made.steps = steps
    return made
