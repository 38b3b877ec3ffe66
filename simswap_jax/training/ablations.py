"""The paper's ablations of feature matching and of the losses' weights, as changes to any experiment."""

import ml_collections

from simswap_jax.errors import UserError


def names(maps: int) -> list[str]:
    """All of them, for discriminators of so many feature maps.

    The paper's m is a number from 1 to ``maps`` − 1: wFM keeps the maps from m on, counted from 0, and not_wFM (the
    paper's wFM with a bar) those before it. fm5 halves the weight of feature matching and id20 doubles that of
    identity, as the paper's 5 and 20 do its 10 and 10.
    """
    later = range(1, maps)
    swept = [*(f"wFM_{m}" for m in later), *(f"not_wFM_{m}" for m in later)]
    return ["oFM", "nFM", *swept, "oFM_fm5", "oFM_id20", "wFM_id20"]


def feature_maps(config: ml_collections.ConfigDict) -> int:
    """How many maps a discriminator of an experiment has: one a width, and the one before the last convolution."""
    return len(config.discriminator.widths) + 1


def ablated(config: ml_collections.ConfigDict, name: str) -> ml_collections.ConfigDict:
    """A copy of an experiment with one thing changed.

    Raises:
      UserError: there is no ablation of that name for discriminators of so many maps.
    """
    known = names(feature_maps(config))
    if name not in known:
        raise UserError(f"there is no ablation '{name}'; choose one of {', '.join(known)}.", "ablation-unknown")
    config = config.copy_and_resolve_references()
    losses = config.losses
    if name == "nFM":
        losses.feature_matching = 0.0
    elif name.startswith("oFM"):
        losses.feature_matching_first, losses.feature_matching_end = 0, 0
    elif name.startswith("wFM_") and name != "wFM_id20":
        losses.feature_matching_first, losses.feature_matching_end = int(name.removeprefix("wFM_")), 0
    elif name.startswith("not_wFM_"):
        losses.feature_matching_first, losses.feature_matching_end = 0, int(name.removeprefix("not_wFM_"))
    if name.endswith("_fm5"):
        losses.feature_matching *= 0.5
    elif name.endswith("_id20"):
        losses.identity *= 2.0
    return config
