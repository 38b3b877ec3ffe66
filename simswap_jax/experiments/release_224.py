"""The public train script's recipe at 224 pixels: identity weighs 30, and a projected discriminator judges.

Command:  simswap-jax train --config release_224 --workdir runs/release_224 \
              --config.data.root=VGGFACE2_CROPS --config.identity.weights=arcface_checkpoint.tar \
              --config.discriminator.weights=tf_efficientnet_lite0.pth
To fine-tune what that script made: --config.discriminator.weights=latest_net_D.pth, and --config.init_from=MODEL, the
folder that `simswap-jax import` makes of its generator.
Hardware, time, score: not trained here; published trainings took 400,000 steps of 16 and more.
"""

import ml_collections

from simswap_jax.training.config import default_config, tiny_config


def get_config() -> ml_collections.ConfigDict:
    """The recipe's values are the method's defaults; a long training is guarded against updates that are not finite."""
    config = default_config("release")
    config.discriminator.weights = "tf_efficientnet_lite0.pth"
    config.nonfinite_limit = 20
    return config


def get_test_config() -> ml_collections.ConfigDict:
    """The same experiment in small: narrow networks on features that nobody trained, at 128 pixels, two steps."""
    config = tiny_config(get_config(), (4, 8, 8, 8))
    config.data.size = 128
    config.discriminator.weights = "random"
    config.discriminator.stem, config.discriminator.widths = 4, (4,) * 7
    config.discriminator.repeats, config.discriminator.projected = (1,) * 7, 4
    return config
