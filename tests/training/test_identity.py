"""Training an identity network: its optimizer is the experiment's."""

import jax.numpy as jnp
import numpy as np
import optax

from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.training import identity


def test_its_adam_has_the_experiments_betas():
    config = identity.default_config()
    assert (config.optimizer.b1, config.optimizer.b2) == (0.9, 0.999)
    config.optimizer.b1, config.optimizer.b2 = 0.5, 0.75
    method = identity.IdentityTraining(config, IdentityNetwork(IdentityConfig()), people=2)
    optimizer = method.update.optimizers["identity"]
    params, gradient = {"kernel": jnp.ones(3)}, {"kernel": jnp.asarray([1.0, 2.0, 3.0])}
    _, state = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_allclose(optax.tree.get(state, "mu")["kernel"], [0.5, 1.0, 1.5])
    np.testing.assert_allclose(optax.tree.get(state, "nu")["kernel"], [0.25, 1.0, 2.25])
