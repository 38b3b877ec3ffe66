"""The second stage of celeba_112.py: from networks that know whose face it is to all that the target keeps.

Command:  simswap-jax train --config ml_collections_configs/celeba_112_second.py --workdir runs/celeba_112_second \
              --config.data.root=CELEBA_CROPS --config.identity.weights=mobilefacenet_casia.ckpt \
              --config.identity.hardened=runs/hardened/model --config.start=runs/celeba_112
Hardware, time, score: two CPU cores, 22 images a second; docs/training.md has the table.
"""

import ml_collections

from simswap_jax.training.config import default_config, few_steps, in_small


def get_config() -> ml_collections.ConfigDict:
    """The networks of celeba_112.py, with four times the weight on reconstruction and feature matching."""
    config = few_steps(default_config())
    config.steps, config.batch_size = 3_000, 16
    config.data.size, config.data.alignment, config.data.held_out = 112, "simswap-frontal", 0.12
    config.data.same_fraction = 0.5
    config.generator.widths, config.generator.blocks = (32, 64, 128), 4
    config.discriminator.widths, config.discriminator.tail = (24, 48, 96), 96
    config.identity.weights = "mobilefacenet_casia.ckpt"
    config.losses.identity_ramp = 0
    config.losses.reconstruction, config.losses.adversarial = 40.0, 0.2
    config.losses.feature_matching, config.losses.feature_matching_first = 4.0, 2
    config.optimizer.learning_rate, config.optimizer.warmup = 1e-3, 50
    config.log_every, config.sample_every, config.checkpoint_every = 50, 200, 500
    return config


def get_test_config() -> ml_collections.ConfigDict:
    """The same experiment in small: narrow networks at 48 pixels, two steps."""
    return in_small(get_config(), (4, 8, 8), blocks=1)
