"""CelebA crops at 64 pixels against a frozen MobileFaceNet: a size at which two CPU cores learn a swap in 40 minutes.

Command:  simswap-jax train --config celeba_64 --workdir runs/celeba_64 \
              --config.data.root=CELEBA_CROPS --config.identity.weights=mobilefacenet_casia.ckpt
Hardware, time, score: two CPU cores, 41 minutes beside other work; ID retrieval 53 % (top-1 of 227) over 400 swaps of
held-out identities; docs/experiments/celeba.md has the table.
"""

import ml_collections

from simswap_jax.contrib.small_models.recipe import small_model_recipe
from simswap_jax.training.config import default_config, tiny_config


def get_config() -> ml_collections.ConfigDict:
    """Narrow networks, and the recipe that learns in few steps."""
    config = small_model_recipe(default_config())
    config.steps, config.batch_size = 5_000, 16
    config.data.size, config.data.alignment, config.data.held_out = 64, "simswap-frontal", 0.12
    config.generator.widths, config.generator.blocks = (32, 96), 3
    config.discriminator.widths, config.discriminator.tail = (24, 48, 96), 96
    config.identity.weights = "mobilefacenet_casia.ckpt"
    config.losses.feature_matching_first = 2
    config.log_every, config.sample_every, config.checkpoint_every = 100, 500, 500
    return config


def get_test_config() -> ml_collections.ConfigDict:
    """The same experiment in small: narrow networks at 48 pixels, two steps."""
    return tiny_config(get_config(), (4, 8), blocks=1)
