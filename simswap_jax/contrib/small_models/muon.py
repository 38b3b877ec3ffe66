"""Muon for runs of few steps; `use_muon` turns it on in an experiment's file."""

import jax
import ml_collections
import optax
from optax.contrib import MuonDimensionNumbers
from optax.contrib import muon as optax_muon

from simswap_jax.errors import UserError
from simswap_jax.training.experiment import MUON
from simswap_jax.training.schedules import adam, learning_rate
from simswap_jax.training.state import PyTree

EDGES = ("first_layer", "last_layer")  # to and from pixels: Adam's, as biases and norms are


def use_muon(config: ml_collections.ConfigDict, rate: float) -> ml_collections.ConfigDict:
    """Train the generator's inner kernels with Muon at this learning rate. Changes ``config`` and gives it back."""
    with config.unlocked():
        config.optimizer.generator = MUON
        config.optimizer.muon_learning_rate = rate
    return config


def muon(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """Muon for the kernels between the edges, at ``optimizer.muon_learning_rate``, and Adam for the rest; 0: Adam.

    Muon (Jordan et al. 2024) moves a kernel equally far in all directions that its gradients have, where Adam moves it
    mostly in the few that are large. Not in the paper, which trains for hundreds of thousands of steps.

    Raises:
      UserError: there is no such rate, or it is below 0.
    """
    rates = config.optimizer
    if "muon_learning_rate" not in rates:
        raise UserError(
            "config.optimizer.generator is Muon, whose learning rate this experiment does not have; call use_muon in "
            "its file.",
            "muon-without-learning-rate",
        )
    if rates.muon_learning_rate < 0.0:
        raise UserError(
            f"config.optimizer.muon_learning_rate is {rates.muon_learning_rate}; use 0 (Adam for all) or more.",
            "muon-learning-rate",
        )
    if not rates.muon_learning_rate:
        return adam(config, rates.learning_rate)
    return optax_muon(
        learning_rate(config, rates.muon_learning_rate),
        adam_learning_rate=learning_rate(config, rates.learning_rate),
        adam_b1=rates.b1,
        adam_b2=rates.b2,
        muon_weight_dimension_numbers=inner_kernels,
    )


def inner_kernels(params: PyTree) -> PyTree:
    """Which parameters are Muon's: each as the matrix from all that goes in to what comes out; None for the others."""

    def matrix(path: tuple[jax.tree_util.DictKey, ...], value: jax.Array) -> MuonDimensionNumbers | None:
        if value.ndim < 2 or path[0].key in EDGES:
            return None
        return MuonDimensionNumbers(tuple(range(value.ndim - 1)), (value.ndim - 1,))

    return jax.tree_util.tree_map_with_path(matrix, params)
