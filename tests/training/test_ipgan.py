"""IPGAN as a method: its recipe, losses, noise; trained, resumed, swapped with, not exported."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax import FaceSwapper
from simswap_jax.cli import main as cli
from simswap_jax.models.discriminator import DiscriminatorOutput
from simswap_jax.training import flops, ipgan
from simswap_jax.training import method as methods
from simswap_jax.training.config import check, default_config
from simswap_jax.training.step import gradients
from simswap_jax.weights import model_folder
from tests.support.errors import raises_user_error
from tests.support.small_method import small_batch, small_config, small_method
from tests.support.small_model import faces
from tests.support.small_run import small_identity, whole_and_resumed

WEIGHTS = {"reconstruction": 1, "reconstruction_other": 0.1, "kl": 1, "identity": 30, "feature_matching": 1}


def test_the_recipe_is_the_papers():
    made = default_config("ipgan")
    assert made.losses.to_dict() == WEIGHTS
    assert (made.data.size, made.data.same_fraction, made.data.same_source) == (128, 0.5, "picture")
    assert made.discriminator.scales == 1


def test_the_shares_of_a_step_are_its_total():
    told = dict.fromkeys(WEIGHTS, 2.0) | {"discriminator": 3.0}
    split = ipgan.IPGAN(small_config("ipgan"), None, None, None).shares(told, 1)
    assert sum(split["G"].values()) == pytest.approx(2 * sum(WEIGHTS.values()))
    assert split["D"] == {"ce": 3.0}


def test_reconstruction_is_a_sum_and_divergence_the_closed_form():
    one = jnp.ones((2, 2, 2, 3))
    np.testing.assert_allclose(ipgan.half_squares(3 * one, one), [0.5 * 12 * 4] * 2)
    assert float(ipgan.divergence((jnp.zeros((2, 5)), jnp.zeros((2, 5))))) == 0  # N(0, 1) itself
    mean, variance = np.array([[1.0, -2.0]]), np.array([[0.5, 4.0]])
    expected = 0.5 * (mean**2 + variance - np.log(variance) - 1).sum()  # KL(N(μ, σ²) ‖ N(0, 1)), σ² a variance
    np.testing.assert_allclose(ipgan.divergence((jnp.array(mean), jnp.log(variance))), expected, rtol=1e-6)


def test_the_discriminator_learns_by_cross_entropy_and_is_matched_in_its_last_maps():
    real, fake = np.array([2.0, -1.0]), np.array([0.5, -3.0])
    expected = -np.log(1 / (1 + np.exp(-real))).mean() - np.log(1 - 1 / (1 + np.exp(-fake))).mean()
    np.testing.assert_allclose(ipgan.cross_entropy([jnp.array(real)], [jnp.array(fake)]), expected, rtol=1e-6)
    low, logits = jnp.zeros((1, 4, 4, 2)), jnp.zeros((1, 2, 2, 1))

    def scale(value):
        return DiscriminatorOutput((low + value, jnp.full((1, 2, 2, 3), value)), logits)

    assert float(ipgan.patch_features([scale(3.0)], [scale(1.0)])) == 0.5 * 3 * 4  # three channels, whatever the area


@pytest.mark.parametrize(
    ("field", "value", "code", "named"),
    [
        ("data.size", 224, "config-size-no-multiple", [224, "use 256"]),
        ("data.size", 256, "config-face-size", [256, "128 pixels"]),
        ("data.same_source", "twin", "config-unknown-choice", ["twin"]),
        ("augmentation", "a:b", "config-augmentation-unsupported", ["ipgan"]),
        ("generator.attributes", 0, "config-generator", ["attributes"]),
        ("losses.kl", -1.0, "config-too-small", ["losses.kl"]),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(field, value, code, named):
    config = default_config("ipgan")
    config.data.root = "somewhere"
    config.update_from_flattened_dict({field: value})
    with raises_user_error(code, *named):
        check(config)


@pytest.mark.slow
def test_losses_add_up_and_the_noise_is_of_step_and_sample():
    method = small_method(small_config("ipgan"), scales=1)
    state = jax.jit(method.init)(jax.random.PRNGKey(0))
    batch = {**small_batch(0), "same_person": np.arange(16) % 2 == 0}
    step = jax.jit(method.step)
    after, told = step(state, batch, method.frozen)
    total = sum(weight * float(told[name]) for name, weight in WEIGHTS.items())
    np.testing.assert_allclose(float(told["generator"]), total, rtol=1e-5)
    assert float(told["kl"]) > 0
    assert "gradient_penalty" not in told
    again, _ = step(state, batch, method.frozen)
    jax.tree.map(np.testing.assert_array_equal, after.networks, again.networks)

    # By the step's own key, as one would draw it outside.
    noise = jax.random.normal(jax.random.fold_in(state.key, state.step), (16, 4))
    floats = {**method.decode(batch), "noise": noise}
    weights = ipgan.IPGANWeights()
    alone = jax.jit(lambda s, f: gradients(method.networks, weights, s, f, method.frozen, None, ipgan.ipgan_loss))
    np.testing.assert_allclose(alone(state, floats)[2]["generator"], told["generator"], rtol=1e-5)
    without = alone(state, {**floats, "noise": 0 * noise})[2]["reconstruction"]
    assert float(without) != float(told["reconstruction"])


@pytest.mark.slow  # traces all networks
def test_its_networks_are_counted():
    assert set(flops.by_network(small_method(small_config("ipgan"), scales=1))) >= {"generator", "discriminator"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ipgan")
    config = small_config("ipgan", devices=1, batch_size=4)
    shape = {"preset": "", "encoder": (4, 4), "decoder": (4, 4), "convolutions": 1, "bottom": 8, "attributes": 4}
    config.generator.update(shape)
    config.discriminator.widths, config.discriminator.tail = (4, 4), 4
    return *whole_and_resumed(folder, config), folder


@pytest.mark.slow
def test_it_resumes_to_the_bit_and_leaves_sheets(trained):
    whole, resumed, folder = trained
    assert isinstance(whole.method, ipgan.IPGAN)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed.state), jax.device_get(whole.state))
    assert (folder / "whole" / "samples" / "0000003.png").is_file()


@pytest.mark.slow
def test_its_model_swaps_by_the_mean_and_refuses_to_be_exported(trained, capsys):
    whole, _, folder = trained
    model = model_folder.read(whole.model)
    assert model.generator.family == "ipgan"
    assert "IPGAN for 32 pixels, 4 attributes" in (whole.model / "README.md").read_text(encoding="utf-8")
    swapper = FaceSwapper.from_pretrained(whole.model)
    targets, vectors = faces(2, seed=3), np.eye(2, 8, dtype=np.float32)
    expected = model.network.apply(model.variables, jnp.asarray(targets / np.float32(255)), {"vector": vectors})
    np.testing.assert_allclose(swapper.swap_aligned(targets, vectors), np.asarray(expected) * 255, atol=1.01)
    assert cli.main(["export", str(whole.model), "--output", str(folder / "model.onnx")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("simswap-jax: ")
    assert "ipgan" in said
    assert not (folder / "model.onnx").exists()


def test_the_method_is_found_by_its_name(tmp_path):
    config = small_config("ipgan")
    config.identity.weights = small_identity(tmp_path / "known")
    config.generator.update({"preset": "", "encoder": (4, 4), "decoder": (4, 4), "bottom": 8, "convolutions": 1})
    assert isinstance(methods.build(config, None), ipgan.IPGAN)
