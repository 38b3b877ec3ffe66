"""The paper's ablations of feature matching and of the losses' weights; the name of one stands behind a colon.

Command:  simswap-jax train --config ablations:oFM --workdir runs/oFM \
              --config.data.root=VGGFACE2_CROPS --config.identity.weights=arcface_checkpoint.tar
Hardware, time, score: not trained here yet; no number is claimed.
"""

import ml_collections

from simswap_jax.evaluation.sweep import ablated, feature_maps, names
from simswap_jax.training.config import default_config, tiny_config

ABLATIONS = names(feature_maps(default_config()))


def get_config(name: str = "oFM") -> ml_collections.ConfigDict:
    """The paper's recipe with one thing changed.

    Raises:
      UserError: there is no ablation of that name.
    """
    config = ablated(default_config(), name)
    config.nonfinite_limit = 20
    return config


def get_test_config(name: str = "oFM") -> ml_collections.ConfigDict:
    """The same ablation in small: narrow networks at 48 pixels, with all five feature maps, two steps."""
    config = tiny_config(get_config(name), (4, 8), maps=4, blocks=1)
    config.discriminator.scales = 1
    return config
