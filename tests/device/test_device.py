"""What only an accelerator can show, run by launch/one_gpu.sh: its numbers against the CPU's and the goldens'; resume.

On a CPU they can be run too (`pytest -m device tests/device`), as a rehearsal.
"""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.models.ops import convolution, resize
from simswap_jax.models.ops.platform import lowering_for, traced_for
from simswap_jax.training import loop
from simswap_jax.training import runner as runners
from simswap_jax.training.checkpoints import Checkpoints
from simswap_jax.weights import torch_weights as tw
from tests.support.errors import raises_user_error
from tests.support.golden_weights import assert_golden, golden, image, latent, repeated, state_dict
from tests.support.small_method import small_batch, small_config, small_method

pytestmark = pytest.mark.device

PLATFORM = jax.default_backend()


@pytest.fixture(autouse=True)
def exact():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.mark.usefixtures("optimized")
def test_the_generator_in_bfloat16_is_near_its_golden():
    expected = golden("generator_224_tanh")
    network, variables = tw.load_generator(state_dict("generator_224_tanh"), "unit", dtype="bfloat16")
    target = image("generator_224_tanh", (2, int(expected["height"]), int(expected["width"]), 3))
    found = jax.jit(network.apply)(variables, target, latent("generator_224_tanh"))
    away = np.asarray(found, np.float32) - expected["output_eval"]
    assert np.sqrt(np.mean(np.square(away))) < 0.03 * np.abs(expected["output_eval"]).max()


@pytest.mark.usefixtures("optimized")
def test_an_identity_network_in_bfloat16_is_near_its_golden():
    made, variables = tw.load_identity_network(state_dict("arcface_iresnet18"))
    network = IdentityNetwork(dataclasses.replace(made.config, dtype="bfloat16"))
    faces = repeated(image("arcface_iresnet18", (2, 7, 7, 3)) * 2 - 1, 16)
    found = np.asarray(jax.jit(network.apply)(variables, faces), np.float32)
    expected = golden("arcface_iresnet18")["embedding"]
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.999


def of_this_platform_and_plain(function, x):
    """(value, gradient) as traced for this platform, and in the form without a platform of its own, on the CPU."""

    def both(x):
        return function(x), jax.grad(lambda x: jnp.sum(jnp.square(function(x))))(x)

    with jax.default_device(jax.devices("cpu")[0]), lowering_for("none"):
        plain = jax.device_get(jax.jit(both)(x))
    return jax.device_get(jax.jit(traced_for(PLATFORM, both))(x)), plain


@pytest.mark.parametrize(
    "function",
    [
        resize.upsample_bilinear,
        lambda x: resize.reflect_pad(x, 3),
        lambda x: convolution.convolve(x, jnp.cos(jnp.arange(7 * 7 * 8 * 3.0)).reshape(7, 7, 8, 3), padding=3),
        lambda x: convolution.convolve(x, jnp.cos(jnp.arange(8 * 16.0)).reshape(1, 1, 8, 16), stride=2),
        lambda x: convolution.depthwise(x, jnp.cos(jnp.arange(3 * 3 * 8.0)).reshape(3, 3, 1, 8), 2, 1),
    ],
    ids=["doubling", "mirrored padding", "few outputs", "strided 1x1", "depthwise"],
)
def test_forms_for_a_platform_are_the_plain_ones(function):
    x = jnp.sin(jnp.arange(2 * 16 * 16 * 8.0)).reshape(2, 16, 16, 8)
    found, expected = of_this_platform_and_plain(function, x)
    for here, plain in zip(found, expected, strict=True):
        assert_golden(here, plain, 1e-5)


def first_moments(state):
    """Of a state after one step, by name: Adam keeps 1 − β1 of the gradients as its first moment."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(state))
    named = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    return {name: leaf for name, leaf in named.items() if ".mu[" in name}


@pytest.fixture(scope="module")
def on_the_cpu():
    """The gradients of a step of the method itself on one CPU device."""
    method = small_method(small_config())
    with jax.default_device(jax.devices("cpu")[0]):
        step = jax.jit(traced_for("cpu", method.step))
        state, _ = step(jax.jit(method.init)(jax.random.PRNGKey(0)), small_batch(0), method.frozen)
    return first_moments(state)


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_gradients_of_a_step_are_the_cpus(parallel, on_the_cpu):
    config = small_config(parallel=parallel)
    runner = runners.build(config, small_method(config, runners.axis_name(config)))
    state, _ = runner.step(runner.init(jax.random.PRNGKey(0)), runner.shard_batch(small_batch(0)))
    found = first_moments(state)
    assert found.keys() == on_the_cpu.keys()
    for name, expected in on_the_cpu.items():
        allowed = 1e-3 * np.abs(expected).max() + 1e-5  # a bias before a batch norm has no gradient but rounding
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=allowed, err_msg=name)


def test_networks_that_are_not_finite_are_one_sentence_where_nothing_may_be_copied_unasked():
    config = small_config()
    runner = runners.build(config, small_method(config))
    state = runner.init(jax.random.PRNGKey(0))
    diverged = dataclasses.replace(state, ema=jax.tree.map(lambda leaf: leaf * jnp.nan, state.ema))
    with jax.transfer_guard("disallow"), raises_user_error("networks-not-finite", "step 0"):
        loop.require_finite(runner, diverged, SimpleNamespace(latest=None))


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path):
    config = small_config()
    runner = runners.build(config, small_method(config))

    def train(state, steps):
        for step in steps:
            state, _ = runner.step(state, runner.shard_batch(small_batch(step)))
        return state

    whole = jax.device_get(train(runner.init(jax.random.PRNGKey(0)), range(4)))
    checkpoints = Checkpoints(tmp_path, 1)
    checkpoints.save(train(runner.init(jax.random.PRNGKey(0)), range(2)), {"step": 2})
    checkpoints.close()  # it saves beside the training
    checkpoints = Checkpoints(tmp_path, 1)
    state, position = checkpoints.restore(runner.abstract(jax.random.PRNGKey(0)))
    checkpoints.close()
    resumed = jax.device_get(train(state, range(position["step"], 4)))
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)
