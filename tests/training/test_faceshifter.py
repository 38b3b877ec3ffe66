"""FaceShifter as a method: its recipe, losses, statistics; trained, resumed, swapped with, not exported."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax import FaceSwapper
from simswap_jax.cli import main as cli
from simswap_jax.data.pairs import Pairing, PairingOptions
from simswap_jax.training import faceshifter, flops
from simswap_jax.training import method as methods
from simswap_jax.training.config import check, default_config
from simswap_jax.weights import model_folder
from tests.support.errors import raises_user_error
from tests.support.small_method import small_batch, small_config, small_method
from tests.support.small_model import faces
from tests.support.small_run import small_identity, whole_and_resumed


def test_the_recipe_is_the_papers():
    made = default_config("faceshifter")
    assert made.losses.to_dict() == {"identity": 5, "reconstruction": 10, "attributes": 10, "adversarial": 1}
    assert (made.data.size, made.data.same_fraction, made.data.same_source) == (256, 0.2, "picture")
    assert (made.optimizer.b1, made.optimizer.b2, made.discriminator.scales) == (0, 0.999, 3)


def test_the_shares_of_a_step_are_its_total():
    told = {"identity": 1.0, "reconstruction": 0.2, "attributes": 0.3, "adversarial": 0.4, "discriminator": 2.0}
    split = small_method(small_config("faceshifter"), scales=1).shares(told, 1)
    assert sum(split["G"].values()) == pytest.approx(5 + 2 + 3 + 0.4)
    assert split["D"] == {"hinge": 2.0}


def test_losses_are_means_halved():
    one, other = jnp.ones((2, 2, 2, 3)), jnp.zeros((2, 2, 2, 3))
    assert float(faceshifter.attribute_loss([3 * one, one], [one, other])) == 0.5 * (4 + 1)
    same = jnp.array([True, False])
    assert float(faceshifter.squared_reconstruction(3 * one, one, same)) == 0.5 * 4 / 2


def test_the_source_of_a_same_pair_is_the_target_itself():
    person = np.repeat(np.arange(4), 5)
    options = PairingOptions(0, 10, "mixed", 0.2, flip=True, same="picture")
    pairs = [Pairing(person, options).pair(index) for index in range(50)]
    same = [pair for pair in pairs if pair.same_person]
    assert len(same) == 10
    assert all(pair.source == pair.target and pair.flip_source == pair.flip_target for pair in same)
    assert {pair.flip_target for pair in same} == {True, False}
    plain = Pairing(person, PairingOptions(0, 10, "mixed", 0.2))
    assert [pair for pair in pairs if not pair.same_person] == [
        pair for pair in map(plain.pair, range(50)) if not pair.same_person
    ]


@pytest.mark.parametrize(
    ("field", "value", "code", "named"),
    [
        ("data.size", 224, "config-size-no-multiple", [224, "use 256"]),
        ("data.size", 512, "config-face-size", [512, "256 pixels"]),
        ("data.same_source", "twin", "config-unknown-choice", ["twin"]),
        ("augmentation", "a:b", "config-augmentation-unsupported", []),
        ("generator.preset", "huge", "config-generator", ["huge"]),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(field, value, code, named):
    config = default_config("faceshifter")
    config.data.root = "somewhere"
    config.update_from_flattened_dict({field: value})
    with raises_user_error(code, *named):
        check(config)


@pytest.mark.slow
def test_statistics_move_once_and_the_losses_add_up():
    """By the target's pass: the result's is not kept."""
    method = small_method(small_config("faceshifter"), scales=1)
    state = jax.jit(method.init)(jax.random.PRNGKey(0))
    batch = small_batch(0)
    after, told = jax.jit(method.step)(state, batch, method.frozen)
    generator = state.networks["generator"]
    _, kept = method.generator.module.apply(
        generator.variables, batch["target"] / np.float32(255), train=True, mutable=["batch_stats"], method="attributes"
    )
    moved = after.networks["generator"].collections
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), moved, dict(kept))
    weights = {"identity": 5, "reconstruction": 10, "attributes": 10, "adversarial": 1}
    total = sum(weight * float(told[name]) for name, weight in weights.items())
    np.testing.assert_allclose(float(told["generator"]), total, rtol=1e-5)
    assert "gradient_penalty" not in told


@pytest.mark.slow  # traces all networks
def test_the_encoder_of_the_result_is_counted():
    method = small_method(small_config("faceshifter"), scales=1)
    counted = flops.by_network(method)
    assert 0 < counted["attributes, of a result"] < counted["generator"]
    assert "identity, of a result" in counted


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faceshifter")
    config = small_config("faceshifter", devices=1, batch_size=4)
    config.generator.update({"preset": "", "encoder": (4, 4), "widths": (8, 4), "bottom": 8})
    config.discriminator.widths, config.discriminator.tail, config.discriminator.scales = (4, 4), 4, 1
    return *whole_and_resumed(folder, config), folder


@pytest.mark.slow
def test_it_resumes_to_the_bit_and_leaves_sheets(trained):
    whole, resumed, folder = trained
    assert isinstance(whole.method, faceshifter.FaceShifter)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed.state), jax.device_get(whole.state))
    assert (folder / "whole" / "samples" / "0000003.png").is_file()


@pytest.mark.slow
def test_its_model_swaps_and_refuses_to_be_exported(trained, capsys):
    whole, _, folder = trained
    model = model_folder.read(whole.model)
    assert model.generator.family == "faceshifter"
    assert "AEI-Net for 32 pixels" in (whole.model / "README.md").read_text(encoding="utf-8")
    swapper = FaceSwapper.from_pretrained(whole.model)
    targets, vectors = faces(2, seed=3), np.eye(2, 8, dtype=np.float32)
    expected = model.network.apply(model.variables, jnp.asarray(targets / np.float32(255)), {"vector": vectors})
    np.testing.assert_allclose(swapper.swap_aligned(targets, vectors), np.asarray(expected) * 255, atol=1.01)
    assert cli.main(["export", str(whole.model), "--output", str(folder / "model.onnx")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("simswap-jax: ")
    assert "faceshifter" in said
    assert not (folder / "model.onnx").exists()


def test_the_method_is_found_by_its_name(tmp_path):
    config = small_config("faceshifter")
    config.identity.weights = small_identity(tmp_path / "known")
    config.generator.update({"preset": "", "encoder": (4, 4), "widths": (8, 4), "bottom": 8})
    assert isinstance(methods.build(config, None), faceshifter.FaceShifter)
