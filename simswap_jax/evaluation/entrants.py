"""The methods that `simswap-jax compare` knows: a line each, and the rows that need no training."""

from dataclasses import dataclass

import ml_collections

from simswap_jax.evaluation.warp import FAMILY, FITS, NEAREST
from simswap_jax.models import families


@dataclass(frozen=True)
class Entrant:
    """A method that can be compared.

    Attributes:
      title: in tables.
      experiment: that trains it: a name of `simswap_jax.experiments`, with its preset behind a colon.
      lacks: what it has not that the published method has, for the table.
    """

    title: str
    experiment: str
    lacks: str


ENTRANTS = {
    "simswap": Entrant("SimSwap", "celeba_64", "narrow networks; the recipe that learns in few steps"),
    "faceshifter": Entrant(
        "FaceShifter, small faithful", "faceshifter:small-64", "narrow; the first stage only, without HEAR-Net"
    ),
    "deepfakes": Entrant(
        "DeepFakes, small faithful", "deepfakes:small-64", "narrow; tens of pictures a person in place of hundreds"
    ),
    "ipgan": Entrant("IPGAN, small faithful", "ipgan:small-64", "narrow; identity features of this identity network"),
    "fsgan": Entrant(
        "FSGAN, small faithful", "fsgan:small-64", "narrow; its perceptual losses and its segmentation network"
    ),
}
BASELINES = ("warp_similarity", "warp_similarity_nearest", "warp_tps", "warp_tps_nearest")
TAKES = {
    "vector": "identity vector",
    "person": "trained person",
    "picture": "picture",
    "source_points": "its landmarks",
    "target_points": "the target's landmarks",
}


def takes(config: ml_collections.ConfigDict) -> frozenset[str]:
    """What an experiment's generator takes beside the target, of ``families.INPUTS``."""
    fields = config.get("generator") or {}
    family = families.get(fields["family"]) if "family" in fields else families.of_former_fields(fields)
    return family.takes


def what_it_takes(config: ml_collections.ConfigDict) -> str:
    """The same in words."""
    taken = takes(config)
    return ", ".join(TAKES.get(name, name) for name in families.INPUTS if name in taken)


def title_of(baseline: str) -> str:
    """What a row of `BASELINES` is called in tables."""
    fit = FITS[baseline.removeprefix(f"{FAMILY}_").removesuffix(NEAREST)][0]
    short = fit.removesuffix(" + Poisson").removeprefix("thin-plate ")
    return f"{short}, nearest pose" if baseline.endswith(NEAREST) else short
