"""The paper's recipe at 512 pixels: one more halving at full size, narrow there (the shape of the released 512 beta).

Command:  simswap-jax train --config simswap_512 --workdir runs/simswap_512 \
              --config.data.root=VGGFACE2_HQ_CROPS --config.identity.weights=arcface_checkpoint.tar
Hardware, time, score: not trained here yet; no number is claimed.
"""

import ml_collections

from simswap_jax.training.config import default_config, tiny_config


def get_config() -> ml_collections.ConfigDict:
    """Five times the pixels of 224: computed in bfloat16, ID blocks computed again for the gradient, micro-batches."""
    config = default_config()
    config.data.size = 512
    config.data.alignment = "ffhq"
    config.generator.preset = "512"
    config.generator.dtype = config.discriminator.dtype = "bfloat16"
    config.generator.remat = True
    config.accumulate = 2
    config.nonfinite_limit = 20
    return config


def get_test_config() -> ml_collections.ConfigDict:
    """The same experiment in small: narrow networks of as many levels at 48 pixels, two steps."""
    return tiny_config(get_config(), (2, 4, 8, 8, 8))
