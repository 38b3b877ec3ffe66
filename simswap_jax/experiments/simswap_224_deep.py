"""The paper's recipe with the deep generator: a fourth halving, ID blocks on maps of 14 by 14.

Command:  simswap-jax train --config simswap_224_deep --workdir runs/simswap_224_deep \
              --config.data.root=VGGFACE2_CROPS --config.identity.weights=arcface_checkpoint.tar
With --config.data.size=512 --config.data.alignment=ffhq it is the shape that the public release trains 512 pixels with.
Hardware, time, score: not trained here yet; no number is claimed.
"""

import ml_collections

from simswap_jax.training.config import default_config, tiny_config


def get_config() -> ml_collections.ConfigDict:
    """The paper's values but for the generator's depth."""
    config = default_config()
    config.generator.preset = "224-deep"
    config.nonfinite_limit = 20
    return config


def get_test_config() -> ml_collections.ConfigDict:
    """The same experiment in small: narrow networks of as many levels at 48 pixels, two steps."""
    return tiny_config(get_config(), (4, 8, 8, 8, 8))
