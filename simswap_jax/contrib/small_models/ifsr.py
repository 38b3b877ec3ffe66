"""Interpreted feature similarity regularisation (IFSR; FaceDancer, arXiv 2210.10473): a hinge on identity maps.

What an identity network sees of pose, expression and face parts lies in its middle maps. The result's may differ from
the target's by a margin a map, and what is beyond costs. Margins are of one network: those below are 0.7 times what
swaps differed from their targets in maps of MobileFaceNet's robust copy (docs/experiments/recipe_ablation.md).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.models.identity.network import normalise

BLOCKS = (0, 2, 4, 5, 7, 10, 11, 12)  # of MobileFaceNet's bottlenecks
MARGINS = (0.12, 0.15, 0.18, 0.22, 0.21, 0.22, 0.23, 0.31)


def vectors_and_maps(
    network: IdentityNetwork, variables: Mapping[str, Any], pictures: Float[Array, "b h w 3"]
) -> tuple[Float[Array, "b d"], list[Float[Array, "b _"]]]:
    """A MobileFaceNet's identity vectors, as `IdentityNetwork.embed` gives them, and its maps, in one pass.

    Args:
      network: a MobileFaceNet.
      variables: its own.
      pictures: aligned faces in [0, 1].

    Returns:
      vectors of length one, and the maps after `BLOCKS`, each as one row a picture.
    """
    names = [f"block_{index}" for index in BLOCKS]

    def kept(module: nn.Module, method: str) -> bool:
        return method == "__call__" and module.name in names

    given = network.preprocess(pictures)
    vectors, found = network.module.apply(variables, given, capture_intermediates=kept, mutable=["intermediates"])
    each = [found["intermediates"][name]["__call__"][0] for name in names]
    return normalise(vectors), [one.astype(jnp.float32).reshape(one.shape[0], -1) for one in each]


def distances(one: Sequence[Float[Array, "b _"]], other: Sequence[Float[Array, "b _"]]) -> Float[Array, "b m"]:
    """1 − cosine of each map of two lists, [B, maps]."""

    def distance(a: Array, b: Array) -> Array:
        lengths = jnp.sqrt(jnp.sum(jnp.square(a), -1) * jnp.sum(jnp.square(b), -1) + 1e-12)
        return 1.0 - jnp.sum(a * b, -1) / lengths

    return jnp.stack([distance(a, b) for a, b in zip(one, other, strict=True)], -1)


def ifsr(distance: Float[Array, "b m"], margins: Sequence[float] = MARGINS) -> Float[Array, ""]:
    """Σ over maps of max(0, distance − margin), averaged over the batch."""
    over = jnp.maximum(distance - jnp.asarray(np.array(margins, np.float32))[None], 0.0)
    return jnp.mean(jnp.sum(over, -1))
