"""The paper's ablations of feature matching and of the losses' weights; the name of one stands behind a colon.

Command:  simswap-jax train --config ml_collections_configs/ablations.py:oFM --workdir runs/oFM \
              --config.data.root=VGGFACE2_CROPS --config.identity.weights=arcface_checkpoint.tar
Hardware, time, score: not trained here yet; no number is claimed.
"""

import ml_collections

from simswap_jax.training.config import default_config, in_small

MAPS = 5  # feature maps of a discriminator

# Fields of config.losses. The paper's m is a number from 1 to 4: wFM keeps the maps from m on, counted from 0, as the
# paper does, and not_wFM (the paper's wFM with a bar) those before it.
ABLATIONS: dict[str, dict[str, float | int]] = {
    "oFM": {"feature_matching_first": 0},
    "nFM": {"feature_matching": 0.0},
    **{f"wFM_{m}": {"feature_matching_first": m} for m in range(1, MAPS)},
    **{f"not_wFM_{m}": {"feature_matching_first": 0, "feature_matching_end": m} for m in range(1, MAPS)},
    "oFM_fm5": {"feature_matching_first": 0, "feature_matching": 5.0},
    "oFM_id20": {"feature_matching_first": 0, "identity": 20.0},
    "wFM_id20": {"identity": 20.0},
}


def get_config(name: str = "oFM") -> ml_collections.ConfigDict:
    """The paper's recipe with one thing changed.

    Raises:
      ValueError: there is no ablation of that name.
    """
    if name not in ABLATIONS:
        raise ValueError(f"there is no ablation '{name}'; choose one of {', '.join(ABLATIONS)}.")
    config = default_config()
    config.losses.update(ABLATIONS[name])
    config.nonfinite_limit = 20
    return config


def get_test_config(name: str = "oFM") -> ml_collections.ConfigDict:
    """The same ablation in small: narrow networks at 48 pixels, with all five feature maps, two steps."""
    config = in_small(get_config(name), (4, 8), maps=4, blocks=1)
    config.discriminator.scales = 1
    return config
