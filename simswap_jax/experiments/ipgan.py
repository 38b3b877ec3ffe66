"""IPGAN with its paper's losses: its kinds of networks at 128 pixels, or small at 64 or 112.

Command:  simswap-jax train --config ipgan --workdir runs/ipgan \
              --config.data.root=FACES --config.identity.weights=arcface_checkpoint.tar
          and, small, ipgan:small-64 or ipgan:small-112 with --config.data.root=CELEBA_CROPS
              --config.identity.weights=mobilefacenet_casia.ckpt; --config.generator.attributes=16 is another length of
              the attribute vector
Hardware, time, score: not trained here yet; no number is claimed.
"""

import ml_collections

from simswap_jax.training.config import default_config, tiny_config, use_preset

SIZES = {"original": 128, "small-64": 64, "small-112": 112}


def get_config(preset: str = "original") -> ml_collections.ConfigDict:
    """The paper's losses in either size; the small ones learn from CelebA crops.

    Raises:
      UserError: there is no preset of that name.
    """
    config = use_preset(default_config("ipgan"), preset, SIZES)
    config.nonfinite_limit = 20
    if preset != "original":
        config.steps, config.batch_size = 5_000, 16
        config.data.alignment, config.data.held_out = "simswap-frontal", 0.12
        config.data.precompute_embeddings = True
        config.identity.weights = "mobilefacenet_casia.ckpt"
        config.discriminator.widths, config.discriminator.tail = (24, 48, 96), 96
        config.log_every, config.sample_every, config.checkpoint_every = 100, 500, 500
    return config


def get_test_config(preset: str = "original") -> ml_collections.ConfigDict:
    """The same experiment in small: two narrow levels at 48 pixels, two steps."""
    config = tiny_config(get_config(preset), ())
    config.generator.preset, config.generator.bottom = "", 12
    config.generator.encoder, config.generator.decoder = (4, 4), (4, 4)
    config.generator.attributes, config.generator.convolutions = 8, 1
    return config
