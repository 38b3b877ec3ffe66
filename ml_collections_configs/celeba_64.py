"""CelebA crops at 64 pixels against a frozen MobileFaceNet: a size at which two CPU cores learn a swap in an hour.

Command:  simswap-jax train --config ml_collections_configs/celeba_64.py --workdir runs/celeba_64 \
              --config.data.root=CELEBA_CROPS --config.identity.weights=mobilefacenet_casia.ckpt
Hardware, time, score: two CPU cores, 41 minutes beside other work; of 400 swaps of held-out people an outside
recogniser takes 53 % for the source among 227 people; docs/training.md has the table.
"""

import ml_collections

from simswap_jax.training.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Narrow networks, and a recipe that learns in few steps.

    Where it differs from the paper: widths, three ID blocks, pixel-unshuffled entry, larger first styles, mixed
    batches, discriminators without norm or penalty, an identity weight that grows in, identity vectors computed once.
    """
    config = default_config()
    config.steps, config.batch_size = 5_000, 16
    config.data.size = 64
    config.data.alignment = "simswap-frontal"
    config.data.vectors = True
    config.data.held_out = 0.12
    config.data.pairing, config.data.same_fraction = "mixed", 0.375
    config.generator.preset = ""
    config.generator.widths, config.generator.blocks = (32, 96), 3
    config.generator.patch, config.generator.edge_kernel = 2, 3
    config.generator.style_gain = 8.0
    config.discriminator.widths, config.discriminator.tail, config.discriminator.norm = (24, 48, 96), 96, "none"
    config.identity.weights = "mobilefacenet_casia.ckpt"
    config.losses.identity, config.losses.identity_ramp = 10.0, 300
    config.losses.adversarial, config.losses.gradient_penalty = 0.1, 0.0
    config.losses.feature_matching, config.losses.feature_matching_first = 2.0, 2
    config.optimizer.learning_rate, config.optimizer.discriminator_learning_rate = 1.5e-3, 4e-4
    config.optimizer.b1, config.optimizer.warmup, config.optimizer.decay = 0.8, 100, "cosine"
    config.ema = 0.998
    config.log_every, config.sample_every, config.checkpoint_every = 100, 500, 500
    return config


def get_test_config() -> ml_collections.ConfigDict:
    """The same experiment in small: narrow networks at 48 pixels, two steps."""
    config = get_config()
    config.steps, config.batch_size = 2, 4
    config.data.size = 48
    config.generator.widths, config.generator.blocks = (4, 8), 1
    config.discriminator.widths, config.discriminator.tail = (4, 4, 4), 4
    config.log_every, config.sample_every, config.checkpoint_every = 1, 2, 2
    return config
