"""CelebA crops at 112 pixels against a frozen MobileFaceNet, narrow enough for a CPU: the first stage, identity.

Command:  simswap-jax train --config ml_collections_configs/celeba_112.py --workdir runs/celeba_112 \
              --config.data.root=CELEBA_CROPS --config.identity.weights=mobilefacenet_casia.ckpt \
              --config.identity.hardened=runs/hardened/model
Hardware, time, score: two CPU cores, 12 images a second on one of them; celeba_112_second.py goes on from it, and
docs/training.md has the table.
"""

import ml_collections

from simswap_jax.training.config import default_config, few_steps, in_small


def get_config() -> ml_collections.ConfigDict:
    """Narrow networks; first whose face it is, then, as the other weights grow, everything else."""
    config = few_steps(default_config())
    config.steps, config.batch_size = 1_500, 16
    config.data.size, config.data.alignment, config.data.held_out = 112, "simswap-frontal", 0.12
    config.data.same_fraction = 0.25
    config.generator.widths, config.generator.blocks = (32, 64, 128), 4
    config.discriminator.widths, config.discriminator.tail = (24, 48, 96), 96
    config.identity.weights = "mobilefacenet_casia.ckpt"
    config.optimizer.decay = "constant"  # the second stage decays
    config.losses.identity_ramp, config.losses.rest_ramp = 0, 2_000
    config.losses.feature_matching, config.losses.feature_matching_first = 1.0, 2
    config.log_every, config.sample_every, config.checkpoint_every = 50, 200, 500
    return config


def get_test_config() -> ml_collections.ConfigDict:
    """The same experiment in small: narrow networks at 48 pixels, two steps."""
    return in_small(get_config(), (4, 8, 8), blocks=1)
