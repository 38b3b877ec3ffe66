"""A robust copy of MobileFaceNet, by which SimSwap's results are judged while it trains (config.identity.robust).

Command:  simswap-jax train --config robust_mobilefacenet --workdir runs/robust \
              --config.data.root=CELEBA_CROPS --config.identity.weights=mobilefacenet_casia.ckpt
Hardware, time, score: two CPU cores, 15 to 31 images a second; docs/experiments/robust_identity.md has what a copy
withstands, and what it does for a swap.
"""

import ml_collections

from simswap_jax.contrib.small_models import robust_identity
from simswap_jax.training.config import tiny_config


def get_config() -> ml_collections.ConfigDict:
    """The method's own values, on the training people of celeba_112.py."""
    config = robust_identity.default_config()
    config.data.held_out = 0.12
    config.identity.weights = "mobilefacenet_casia.ckpt"
    config.log_every, config.sample_every, config.checkpoint_every = 50, 0, 200
    return config


def get_test_config() -> ml_collections.ConfigDict:
    """The same experiment in small: 48 pixels, two steps."""
    return tiny_config(get_config(), (4, 8))
