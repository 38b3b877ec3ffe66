"""CelebA crops at 112 pixels against a frozen MobileFaceNet, narrow enough for a CPU.

Command:  simswap-jax train --config ml_collections_configs/celeba_112.py --workdir runs/celeba_112 \
              --config.data.root=CELEBA_CROPS --config.identity.weights=mobilefacenet_casia.ckpt
Hardware, time, score: the recipe is that of celeba_64.py, whose run is in docs/training.md; at this size a step costs
twice as much, and the recipe has not been run to its end.
"""

import ml_collections

from simswap_jax.training.config import default_config, few_steps, in_small


def get_config() -> ml_collections.ConfigDict:
    """Narrow networks, and the recipe that learns in few steps."""
    config = few_steps(default_config())
    config.steps, config.batch_size = 12_000, 16
    config.data.size, config.data.alignment, config.data.held_out = 112, "simswap-frontal", 0.12
    config.generator.widths, config.generator.blocks = (32, 64, 128), 5
    config.discriminator.widths, config.discriminator.tail = (24, 48, 96, 128), 128
    config.identity.weights = "mobilefacenet_casia.ckpt"
    config.losses.feature_matching_first = 3
    config.log_every, config.sample_every, config.checkpoint_every = 50, 400, 200
    return config


def get_test_config() -> ml_collections.ConfigDict:
    """The same experiment in small: narrow networks at 48 pixels, two steps."""
    return in_small(get_config(), (4, 8, 8), blocks=1)
