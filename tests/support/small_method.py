"""Methods with networks of a few channels and batches of noise: what tests of the step and of its runners train."""

import copy

import jax
import numpy as np

from simswap_jax.models import DiscriminatorConfig, MultiScaleDiscriminator, families
from simswap_jax.models.compact import CompactConfig
from simswap_jax.models.deepfakes import DeepFakesConfig
from simswap_jax.models.faceshifter import FaceShifterConfig
from simswap_jax.models.faceshifter_hear import FaceShifterHearConfig
from simswap_jax.models.fsgan import FSGANConfig
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.models.ipgan import IPGANConfig
from simswap_jax.training.config import default_config
from simswap_jax.training.deepfakes import DeepFakes
from simswap_jax.training.faceshifter import FaceShifter
from simswap_jax.training.faceshifter_hear import FaceShifterHear
from simswap_jax.training.fsgan import FSGAN
from simswap_jax.training.ipgan import IPGAN
from simswap_jax.training.simswap import SimSwap
from simswap_jax.weights.identity_folder import Identity

SIZE = 32
GENERATORS = {
    "simswap": CompactConfig(widths=(4, 8), stem_kernel=3, blocks=1, identity_size=8),
    "faceshifter": FaceShifterConfig(encoder=(4, 4), widths=(8, 4), bottom=8, identity_size=8),
    "faceshifter_hear": FaceShifterHearConfig(
        encoder=(4, 4), widths=(8, 4), bottom=8, attribute_kernel=1, mask_kernel=1, identity_size=8, hear=(4, 4)
    ),
    "deepfakes": DeepFakesConfig(("anna", "ben"), encoder=(4, 4), dense=8, shared=8, decoder=(4,), bottom=8),
    "ipgan": IPGANConfig(encoder=(4, 4), attributes=4, decoder=(4, 4), convolutions=1, bottom=8, identity_size=8),
    "fsgan": FSGANConfig(widths=(4, 4), flat=(0, 0), flat_up=(0,), pyramid=1, points=5, reach=1.5),
}
FIVE = np.array([(0.3, 0.3), (0.7, 0.3), (0.5, 0.5), (0.35, 0.7), (0.65, 0.7)], np.float32)  # landmarks
KINDS = {"simswap": SimSwap, "faceshifter": FaceShifter, "faceshifter_hear": FaceShifterHear, "ipgan": IPGAN}


def small_config(method="simswap", **changes):
    """The paper's recipe, penalty and average included, at 32 pixels; or another method's."""
    config = default_config(method)
    config.batch_size = 16
    config.data.size = SIZE
    if "source_size" in config.data:
        config.data.source_size = 16
    if method == "simswap":
        config.losses.feature_matching_first = 1
    config.ema = 0.9
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    return config


def small_method(config, axis_name=None, scales=2):
    """The method of a config, with three narrow networks."""
    fields = IdentityConfig(
        family="iresnet", layers=(1,), widths=(4,), size=(16, 16), frame=(16, 16), embedding=8, values="symmetric"
    )
    network = IdentityNetwork(fields)
    identity = Identity(network, jax.jit(network.init)(jax.random.PRNGKey(5)), "ab" * 32, "small", ours=True)
    generator = families.build(copy.copy(GENERATORS[config.method]), axis_name)
    if config.method == "deepfakes":
        return DeepFakes(config, generator, (0, 1), axis_name)
    judge = DiscriminatorConfig(widths=(4, 4), tail=4, scales=scales)
    discriminator = MultiScaleDiscriminator(judge, axis_name=axis_name) if "discriminator" in config else None
    if config.method == "fsgan":
        return FSGAN(config, generator, discriminator, axis_name)
    return KINDS[config.method](config, generator, discriminator, identity, axis_name)


def small_batch(step, size=16, method="simswap"):
    """uint8 noise; batches of same-person pairs and of different people in turn; or what another method is given."""
    random = np.random.default_rng(step)
    if method == "deepfakes":
        pictures = random.integers(0, 256, (2, size, SIZE, SIZE, 3), np.uint8)
        return {"input": pictures[0], "target": pictures[1], "person": np.arange(size, dtype=np.int32) % 2}
    if method == "fsgan":
        pictures = random.integers(0, 256, (2, size, SIZE, SIZE, 3), np.uint8)
        points = FIVE + random.uniform(-0.1, 0.1, (2, size, 1, 2)).astype(np.float32)
        given = {"target": pictures[0], "source": pictures[1], "target_points": points[0], "source_points": points[1]}
        return {**given, "same_person": np.arange(size) % 2 == 0}
    return {
        "target": random.integers(0, 256, (size, SIZE, SIZE, 3), np.uint8),
        "source": random.integers(0, 256, (size, 16, 16, 3), np.uint8),
        "same_person": np.full(size, step % 2 == 0),
    }
