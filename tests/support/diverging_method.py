"""A method of three numbers that are no longer finite from a step on: what the loop does then needs no network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_collections

from simswap_jax.training.identity import (
    ShuffledPictures,
    default_config,  # noqa: F401
)
from simswap_jax.training.state import NetworkState, TrainState

DIVERGES = 5  # the step that makes NaN


@dataclass(frozen=True)
class Diverging(ShuffledPictures):
    config: ml_collections.ConfigDict
    frozen: Any = None

    def init(self, key):
        networks = {"numbers": NetworkState({"w": jnp.ones(3)}, {}, ())}
        return TrainState.create(key, networks, {})

    def step(self, state, batch, frozen):
        del batch, frozen
        added = jnp.where(state.step + 1 < DIVERGES, 1.0, jnp.nan)
        w = state.networks["numbers"].params["w"] + added
        networks = {"numbers": NetworkState({"w": w}, {}, ())}
        return TrainState(state.step + 1, state.key, networks, {}), {"loss": jnp.sum(w)}

    def export(self, state, folder):
        Path(folder).mkdir()


def build(config, people, axis_name=None):
    return Diverging(ml_collections.FrozenConfigDict(config))
