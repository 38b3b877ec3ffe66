"""The paper's recipe at 224 pixels (VGGFace2, five losses, nine ID blocks).

Command:  simswap-jax train --config simswap_224 --workdir runs/simswap_224 \
              --config.data.root=VGGFACE2_CROPS --config.identity.weights=arcface_checkpoint.tar
Hardware, time, score: not trained here yet; no number is claimed.
"""

import ml_collections

from simswap_jax.training.config import default_config, tiny_config


def get_config() -> ml_collections.ConfigDict:
    """The paper's values are the defaults; a long training is guarded against updates that are not finite."""
    config = default_config()
    config.nonfinite_limit = 20
    return config


def get_test_config() -> ml_collections.ConfigDict:
    """The same experiment in small: narrow networks at 48 pixels, two steps."""
    return tiny_config(get_config(), (4, 8, 8, 8))
