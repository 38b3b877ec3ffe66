"""IFSR: nothing between equal pictures or within the margins, and a gradient to the result beyond them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.contrib.small_models import ifsr
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork


def test_distances_are_of_whole_maps():
    a, b = jnp.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]), jnp.array([[0.0, 3.0, 0.0], [0.0, 1.0, 0.0]])
    found = ifsr.distances([a, b], [b, b])
    np.testing.assert_allclose(found, [[1.0, 0.0], [0.0, 0.0]], atol=1e-6)
    assert float(ifsr.ifsr(found, (0.25, 0.0))) == pytest.approx(0.75 / 2)
    assert float(ifsr.ifsr(found, (1.0, 0.0))) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.slow
def test_the_maps_of_a_mobilefacenet_tell_a_result_from_its_target():
    network = IdentityNetwork(IdentityConfig.from_name("mobilefacenet"))
    variables = jax.jit(network.init)(jax.random.key(0))
    target, other = jax.random.uniform(jax.random.key(1), (2, 1, 112, 112, 3))
    vectors, of_target = ifsr.vectors_and_maps(network, variables, target)
    np.testing.assert_allclose(vectors, network.embed(variables, target), atol=1e-5)
    assert len(of_target) == len(ifsr.BLOCKS) == len(ifsr.MARGINS)
    assert [one.shape[1] for one in of_target[:2]] == [56 * 48 * 64 // 4] * 2

    @jax.jit
    @jax.value_and_grad
    def loss(result):
        return ifsr.ifsr(
            ifsr.distances(ifsr.vectors_and_maps(network, variables, result)[1], of_target), [0.0] * len(ifsr.BLOCKS)
        )

    assert float(loss(target)[0]) == pytest.approx(0.0, abs=1e-3)
    value, slope = loss(other)
    assert value > 0.01
    assert float(jnp.abs(slope).max()) > 0
