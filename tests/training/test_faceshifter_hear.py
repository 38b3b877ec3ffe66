"""HEAR-Net as a method: its recipe, its frozen first stage; trained, resumed, swapped with, not exported."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax import FaceSwapper
from simswap_jax.cli import main as cli
from simswap_jax.models import families
from simswap_jax.models.normalization import denormalize
from simswap_jax.training import faceshifter_hear, flops
from simswap_jax.training.config import check, default_config
from simswap_jax.training.faceshifter import FaceShifter
from simswap_jax.training.occluders import NUMBERS
from simswap_jax.weights import model_folder
from tests.support.errors import raises_user_error
from tests.support.small_method import GENERATORS, small_batch, small_config, small_method
from tests.support.small_model import faces, lively
from tests.support.small_run import small_identity, whole_and_resumed

SHAPE = {
    "preset": "", "encoder": (4, 4), "widths": (8, 4), "bottom": 8, "attribute_kernel": 1, "mask_kernel": 1,
}  # fmt: skip


def test_the_recipe_is_the_papers():
    made = default_config("faceshifter_hear")
    assert made.losses.to_dict() == {"identity": 1, "reconstruction": 1, "change": 1}
    assert (made.data.size, made.data.same_fraction, made.data.same_source) == (256, 0.5, "picture")
    assert "discriminator" not in made


def test_the_shares_of_a_step_are_its_total():
    told = {"identity": 1.0, "reconstruction": 0.2, "change": 0.3}
    split = faceshifter_hear.FaceShifterHear(small_config("faceshifter_hear"), None, None, None).shares(told, 1)
    assert split == {"G": {"id": 1.0, "rec": 0.2, "chg": 0.3}, "D": {}}


@pytest.mark.parametrize(
    ("fields", "code", "named"),
    [
        ({"first_stage": ""}, "hear-without-first-stage", ["'random'"]),
        ({"data.occluded": 1.5}, "hear-occluded", [1.5]),
        ({"data.size": 512}, "config-face-size", [512, "256 pixels"]),
        ({"generator.hear": (4,) * 9}, "config-generator", ["9 halvings"]),
        ({"augmentation": "a:b"}, "config-augmentation-unsupported", ["faceshifter_hear"]),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(fields, code, named):
    config = default_config("faceshifter_hear")
    config.data.root, config.first_stage = "somewhere", "random"
    with config.unlocked():
        config.update_from_flattened_dict({"generator.preset": "", **fields})
    with raises_user_error(code, *named):
        check(config)


@pytest.mark.slow
def test_losses_add_up_and_only_hear_net_moves():
    method = small_method(small_config("faceshifter_hear"))
    state = jax.jit(method.init)(jax.random.PRNGKey(0))
    batch = {**small_batch(0), "same_person": np.arange(16) % 2 == 0}
    after, told = jax.jit(method.step)(state, batch, method.frozen)
    total = sum(float(told[name]) for name in ("identity", "reconstruction", "change"))
    np.testing.assert_allclose(float(told["generator"]), total, rtol=1e-5)
    before, now = state.networks["generator"].variables, after.networks["generator"].variables
    for collection in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, now[collection]["aei"], before[collection]["aei"])
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), now[collection]["hear"], before[collection]["hear"])
        assert all(jax.tree.leaves(moved))
    assert "discriminator" not in told

    # The targets have occluders by the step's own numbers.
    random = jax.random.uniform(jax.random.fold_in(state.key, state.step), (16, NUMBERS))
    pictures = faceshifter_hear.occluded(batch["target"] / np.float32(255), random, 0.5)
    floats = {**method.decode(batch), "target": pictures}
    alone = jax.jit(lambda s, f: method.loss(s.networks["generator"].params, s, f, method.frozen))(state, floats)
    np.testing.assert_allclose(alone[0], told["generator"], rtol=1e-5)
    given = method.given(floats, method.frozen)
    own = method.networks.identity.embed(method.frozen, denormalize(pictures, "unit"))
    np.testing.assert_allclose(given["target_vector"], own, rtol=1e-5, atol=1e-6)


@pytest.mark.slow  # traces all networks
def test_both_stages_are_counted():
    counted = flops.by_network(small_method(small_config("faceshifter_hear")))
    assert 0 < counted["HEAR-Net's gradients"] < counted["both stages"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """On an AEI-Net's model folder."""
    folder = tmp_path_factory.mktemp("hear")
    config = small_config("faceshifter_hear", devices=1, batch_size=4, first_stage=str(folder / "aei"))
    config.generator.update({**SHAPE, "hear": (4, 4)})
    config.identity.weights = small_identity(folder / "identity")
    write_first_stage(folder / "aei", config)
    return *whole_and_resumed(folder, config), folder


def write_first_stage(folder, config):
    """An AEI-Net with numbers, as `FaceShifter` leaves it."""
    method = faceshifter_hear.build(config, None)
    aei = families.build(GENERATORS["faceshifter_hear"].first_stage)
    variables = lively(jax.eval_shape(lambda key: aei.init(key, 32), jax.random.key(2)))
    made = dataclasses.replace(
        FaceShifter.model(method, jax.jit(method.init)(jax.random.PRNGKey(0))), generator=aei.config,
        variables=variables,
    )  # fmt: skip
    model_folder.write(folder, made, include_identity=False)


@pytest.mark.slow
def test_it_resumes_to_the_bit_and_leaves_the_first_stage_as_it_was(trained):
    whole, resumed, folder = trained
    assert isinstance(whole.method, faceshifter_hear.FaceShifterHear)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed.state), jax.device_get(whole.state))
    assert (folder / "whole" / "samples" / "0000003.png").is_file()
    first, both = model_folder.read(folder / "aei", with_identity=False), model_folder.read(whole.model)
    for name, tree in first.variables.items():
        jax.tree.map(np.testing.assert_array_equal, both.variables[name]["aei"], tree)


@pytest.mark.slow
def test_its_model_swaps_with_the_targets_own_vectors_and_refuses_to_be_exported(trained, capsys):
    whole, _, folder = trained
    model = model_folder.read(whole.model)
    assert model.generator.family == "faceshifter_hear"
    assert "AEI-Net and HEAR-Net for 32 pixels" in (whole.model / "README.md").read_text(encoding="utf-8")
    swapper = FaceSwapper.from_pretrained(whole.model)
    targets, vectors = faces(2, seed=3), np.eye(2, 8, dtype=np.float32)
    given = {"vector": vectors, "target_vector": swapper.identity_vectors(targets)}
    expected = model.network.apply(model.variables, jnp.asarray(targets / np.float32(255)), given)
    np.testing.assert_allclose(swapper.swap_aligned(targets, vectors), np.asarray(expected) * 255, atol=1.01)
    assert cli.main(["export", str(whole.model), "--output", str(folder / "model.onnx")]) == 2
    assert "faceshifter_hear" in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.slow
def test_another_first_stage_is_refused(trained):
    whole, _, folder = trained
    config = small_config("faceshifter_hear", first_stage=str(whole.model))  # of both stages, not of the first
    config.identity.weights = str(folder / "identity")
    config.generator.update({**SHAPE, "hear": (4, 4)})
    method = faceshifter_hear.build(config, None)
    with raises_user_error("hear-other-first-stage", "config.first_stage"):
        method.begin(jax.jit(method.init)(jax.random.PRNGKey(0)))
