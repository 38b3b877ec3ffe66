"""Muon for the generator: which parameters it moves, how, and that devices and Adam's share do not notice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.contrib.small_models import muon
from simswap_jax.contrib.small_models.muon import use_muon
from simswap_jax.training import schedules
from simswap_jax.training.experiment import MUON
from tests.support.errors import raises_user_error
from tests.support.small_method import small_config, small_method

RATES = {"optimizer.learning_rate": 1e-3, "losses.gradient_penalty": 0.0}


def with_muon(rate=0.02):
    return use_muon(small_config(**RATES), rate)


@pytest.fixture(scope="module")
def params():
    return jax.jit(small_method(small_config()).init)(jax.random.PRNGKey(0)).networks["generator"].params


def named(tree, **more):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree, **more)}


def test_it_moves_the_kernels_between_the_edges(params):
    chosen = named(muon.inner_kernels(params), is_leaf=lambda leaf: leaf is None or isinstance(leaf, tuple))
    matrices = {name for name, numbers in chosen.items() if numbers is not None}
    assert matrices == {
        f"['{layer}']['{part}']{more}['kernel']"
        for layer, part, more in [
            ("bottleneck_0", "conv1", ""),
            ("bottleneck_0", "conv2", ""),
            ("bottleneck_0", "style1", "['linear']"),
            ("bottleneck_0", "style2", "['linear']"),
            ("down1", "conv", ""),
            ("up1", "conv", ""),
        ]
    }
    assert chosen.keys() == named(params).keys()


def moves(params, config):
    """What the first update adds to each parameter, for gradients of low rank."""
    optimizer = schedules.generator_optimizer(config)
    random = np.random.default_rng(0)

    def slope(value):
        if value.ndim < 2:
            return jnp.asarray(random.normal(size=value.shape), jnp.float32)
        rows = random.normal(size=(np.prod(value.shape[:-1]), 1)) * random.normal(size=(1, value.shape[-1]))
        noise = random.normal(size=rows.shape)
        return jnp.asarray((rows + 0.05 * noise).reshape(value.shape), jnp.float32)

    gradients = jax.tree.map(slope, params)
    return named(optimizer.update(gradients, optimizer.init(params), params)[0])


def spread(move):
    """The smallest singular value of a move over its largest."""
    values = np.linalg.svd(np.asarray(move).reshape(-1, move.shape[-1]), compute_uv=False)
    return values[-1] / values[0]


@pytest.mark.slow
def test_it_moves_a_kernel_equally_far_in_all_directions_and_leaves_the_rest_to_adam(params):
    by_muon, by_adam = moves(params, with_muon()), moves(params, small_config(**RATES))
    kernel = "['bottleneck_0']['conv1']['kernel']"
    assert spread(by_muon[kernel]) > 0.5
    assert spread(by_adam[kernel]) < 0.3
    largest = np.linalg.svd(np.asarray(by_muon[kernel]).reshape(-1, 8), compute_uv=False)[0]
    assert 0.01 < largest < 0.03
    for name in ("['first_layer']['conv']['kernel']", "['last_layer']['kernel']", "['up1']['norm']['scale']"):
        np.testing.assert_allclose(by_muon[name], by_adam[name], rtol=1e-5, err_msg=name)


def test_none_is_adam(params):
    expected = schedules.adam(small_config(), small_config().optimizer.learning_rate)
    for config in (small_config(), with_muon(0.0)):
        optimizer = schedules.generator_optimizer(config)
        assert jax.tree.structure(optimizer.init(params)) == jax.tree.structure(expected.init(params))


def test_a_rate_below_zero_is_refused():
    with raises_user_error("muon-learning-rate", -0.02):
        schedules.generator_optimizer(with_muon(-0.02))


def test_an_experiment_without_its_rate_is_refused():
    config = small_config()
    config.optimizer.generator = MUON
    with raises_user_error("muon-without-learning-rate", "use_muon"):
        schedules.generator_optimizer(config)


def test_an_optimizer_that_is_nowhere_is_refused():
    config = small_config()
    config.optimizer.generator = "nowhere:at_all"
    with raises_user_error("config-cannot-be-imported", "nowhere:at_all", "optimizer.generator"):
        schedules.generator_optimizer(config)


def test_a_method_gives_it_to_the_generator_and_adam_to_the_discriminators(params):
    optimizer = small_method(with_muon()).update.optimizers
    expected = schedules.generator_optimizer(with_muon()).init(params)
    assert jax.tree.structure(optimizer["generator"].init(params)) == jax.tree.structure(expected)
    by_adam = schedules.adam(small_config(), 1e-3).init(params)
    assert jax.tree.structure(optimizer["discriminator"].init(params)) == jax.tree.structure(by_adam)
    assert jax.tree.structure(expected) != jax.tree.structure(by_adam)
