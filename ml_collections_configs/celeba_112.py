"""CelebA crops at 112 pixels against a frozen MobileFaceNet, narrow enough for a CPU, in three stages: whose face it
is; what the target keeps; and a gate, by which the generator leaves alone what need not change.

Command:  simswap-jax train --config ml_collections_configs/celeba_112.py --workdir runs/celeba_112 \
              --config.data.root=CELEBA_CROPS --config.identity.weights=mobilefacenet_casia.ckpt \
              --config.identity.hardened=runs/hardened/model
          and the same with celeba_112.py:second, --workdir runs/celeba_112_second, --config.start=runs/celeba_112;
          and with celeba_112.py:third, --workdir runs/celeba_112_third, --config.start=runs/celeba_112_second
Hardware, time, score: two CPU cores, 12 (first stage, on one of them) to 24 images a second; docs/training.md has the
table.
"""

import ml_collections

from simswap_jax.training.config import default_config, few_steps, in_small


def get_config(stage: str = "first") -> ml_collections.ConfigDict:
    """One stage; a later one begins with the networks of the one before (``config.start``)."""
    config = few_steps(default_config())
    config.batch_size = 16
    config.data.size, config.data.alignment, config.data.held_out = 112, "simswap-frontal", 0.12
    config.generator.widths, config.generator.blocks = (32, 64, 128), 4
    config.discriminator.widths, config.discriminator.tail = (24, 48, 96), 96
    config.identity.weights = "mobilefacenet_casia.ckpt"
    config.losses.identity_ramp, config.losses.feature_matching_first = 0, 2
    config.log_every, config.sample_every, config.checkpoint_every = 50, 200, 500
    if stage == "first":
        config.steps, config.data.same_fraction = 1_500, 0.25
        config.losses.rest_ramp, config.losses.feature_matching = 2_000, 1.0
        config.optimizer.decay = "constant"
        return config
    if stage not in ("second", "third"):
        raise ValueError(f"there is no stage '{stage}'; the stages are first, second, third")
    config.steps, config.data.same_fraction = 1_600, 0.5
    config.generator.gated = stage == "third"
    config.losses.reconstruction, config.losses.adversarial, config.losses.feature_matching = 40.0, 0.2, 4.0
    config.optimizer.learning_rate, config.optimizer.warmup = 1e-3, 50
    return config


def get_test_config(stage: str = "first") -> ml_collections.ConfigDict:
    """The same experiment in small: narrow networks at 48 pixels, two steps."""
    return in_small(get_config(stage), (4, 8, 8), blocks=1)
