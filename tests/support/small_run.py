"""Small trainings against a small identity network: whole, stopped and resumed."""

import cv2
import jax

from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.training.loop import train
from simswap_jax.weights import identity_folder
from tests.support.small_model import faces, lively


def small_identity(folder):
    """An identity folder of eight numbers."""
    network = IdentityConfig(layers=(1,), widths=(4,), size=(16, 16), frame=(16, 16), embedding=8)
    variables = lively(jax.eval_shape(IdentityNetwork(network).init, jax.random.key(1)))
    identity_folder.write(folder, network, variables, {})
    return str(folder)


def whole_and_resumed(folder, config):
    """Three steps in one go; and two, stopped, then the third: both as `train` gives them."""
    for number, picture in enumerate(faces(8)):
        person = folder / "people" / f"person{number % 4}"
        person.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(person / f"{number}.png"), picture)
    config.data.root, config.identity.weights = str(folder / "people"), small_identity(folder / "identity")
    config.data.alignment = "simswap-frontal"
    config.log_every, config.sample_every, config.checkpoint_every = 1, 3, 1
    config.steps = 3
    whole = train(config, folder / "whole")
    config.steps = 2
    assert int(train(config, folder / "resumed").state.step) == 2
    config.steps = 3
    return whole, train(config, folder / "resumed")
