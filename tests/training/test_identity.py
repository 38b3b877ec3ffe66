"""Training an identity network: its optimizer is the experiment's."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import optax

from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.training import identity
from tests.support.errors import raises_user_error


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


def test_faces_that_its_network_cannot_take_are_refused():
    config = identity.default_config()
    config.data.size = 112
    with raises_user_error("config-identity-size", "config.data.size", 112, 32):
        identity.build(config, SimpleNamespace(names=["ana", "bob"]))


def test_pictures_are_decoded_in_as_many_threads_as_the_experiment_says(monkeypatch):
    config = identity.default_config()
    config.data.threads = 7
    asked = {}
    monkeypatch.setattr(identity.loader, "picture_batches", lambda *given, **named: asked.update(named))
    identity.build(config, SimpleNamespace(names=["ana", "bob"])).batches(None, None)
    assert asked["threads"] == 7


def prototypes(root, names, width):
    """What `config.network.prototypes` may name: the folder's name, to see which came."""
    return np.full((len(names), width), len(str(root)), np.float32)


def test_the_prototypes_get_the_folder_of_a_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = identity.default_config()
    config.data.root, config.network.prototypes = "~/faces", "tests.training.test_identity:prototypes"
    method = identity.build(config, SimpleNamespace(names=["ana", "bob"]))
    assert (method.prototypes == len(str(tmp_path / "faces"))).all()
