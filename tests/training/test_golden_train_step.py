"""One whole step of the paper's recipe against PyTorch's: losses and the gradient norm of every weight."""

import json
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simswap_jax.models import families
from simswap_jax.models.ops.platform import traced_for
from simswap_jax.training.state import NetworkState, TrainState
from simswap_jax.training.step import LossWeights, Networks, gradients
from simswap_jax.weights import torch_weights as tw
from tests.support.golden_weights import GOLDEN, assert_norms, image, state_dict

EXPECTED = json.loads((GOLDEN / "train_step.json").read_text())


@pytest.fixture(scope="module")
def step(optimized):
    """(gradients under PyTorch's names, metrics) of `gradients` on the golden's inputs, with the paper's weights."""
    batch, height, width = (EXPECTED[name] for name in ("batch", "height", "width"))
    generator, g = tw.load_generator(state_dict("generator_224_tanh"), convention="unit")
    discriminator, d = tw.load_discriminator(*(state_dict(name, "discriminator") for name in ("d1", "d2")))
    network, frozen = tw.load_identity_network(state_dict("arcface_r18_se"))
    networks = Networks(families.build(generator.config), discriminator, network)
    trained = {
        name: NetworkState(v["params"], {"batch_stats": v["batch_stats"]}, None)
        for name, v in (("generator", g), ("discriminator", d))
    }
    state = TrainState.create(jax.random.PRNGKey(0), trained, {})
    alpha = np.random.default_rng([EXPECTED["seed"], zlib.crc32(b"gp/alpha")]).random((batch, 1, 1, 1), np.float32)
    floats = {
        "target": jnp.asarray(image("step/target", (batch, height, width, 3))),
        "source": jnp.asarray(image("step/source", (batch, height, width, 3))),
        "same_person": jnp.ones(batch, bool),
    }

    def whole(state, floats, frozen, alpha):  # with the norms that the update reports: the program of a training
        floats = {**floats, "generator_input": floats["target"]}
        found, collections, metrics = gradients(networks, LossWeights(), state, floats, frozen, alpha)
        return found, collections, metrics | {f"{name}_gradient": optax.tree.norm(tree) for name, tree in found.items()}

    with jax.default_matmul_precision("highest"):
        found, collections, metrics = jax.jit(traced_for("cpu", whole))(state, floats, frozen, alpha)
        vectors = jax.jit(network.embed)(frozen, floats["source"])
    named = {
        "generator": tw.generator_state_dict(generator, {"params": found["generator"], **collections["generator"]}),
        "discriminator": tw.discriminator_state_dicts(
            discriminator, {"params": found["discriminator"], **collections["discriminator"]}
        ),
    }
    return named, metrics, vectors


def norms(named, wanted):
    """‖gradient‖ of the parameters that the golden lists."""
    found = {k: float(np.linalg.norm(v)) for k, v in named.items() if not k.endswith(("_mean", "_var", "_tracked"))}
    return {name: found[name] for name in wanted}


def test_losses_are_pytorchs(step):
    _, metrics, _ = step
    for name, value in EXPECTED["losses"].items():
        np.testing.assert_allclose(float(metrics[name]), value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(float(metrics["generator"]), EXPECTED["generator_total"], rtol=1e-5)
    np.testing.assert_allclose(float(metrics["discriminator"]), EXPECTED["discriminator_hinge"], rtol=1e-5)


def test_gradient_penalty_is_pytorchs(step):
    # A leaky ReLU's input lies so near to 0 that the order of a sum decides its side. In float64 the penalty is
    # 760.34712, and moving weights and inputs by 6e-7 of themselves moves it by up to 2.5e-5. PyTorch's float32 and
    # ours with AVX-512 give 760.34735; ours with AVX2 gives 760.36621, the other side.
    np.testing.assert_allclose(float(step[1]["gradient_penalty"]), EXPECTED["gradient_penalty"], rtol=3e-5)


def test_source_vectors_are_pytorchs(step):
    np.testing.assert_allclose(np.asarray(step[2])[:, :8], EXPECTED["source_embedding_first8"], atol=1e-5)


def test_generator_gradients_are_pytorchs(step):
    wanted = EXPECTED["generator_grad_norms"]
    assert_norms(norms(step[0]["generator"], wanted), wanted)


@pytest.mark.parametrize("scale", [0, 1])
def test_discriminator_gradients_are_pytorchs(step, scale):
    wanted = EXPECTED[f"d{scale + 1}_grad_norms"]
    assert_norms(norms(step[0]["discriminator"][scale], wanted), wanted)
