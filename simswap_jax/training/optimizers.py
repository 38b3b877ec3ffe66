"""Adam as the paper uses it (β1 = 0), with a warm-up and, if wanted, a cosine decay; Muon for runs of few steps."""

import jax
import ml_collections
import optax
from optax.contrib import MuonDimensionNumbers, muon

from simswap_jax.training.state import PyTree

EDGES = ("first_layer", "last_layer")  # to and from pixels: Adam's, as biases and norms are


def schedule(config: ml_collections.ConfigDict, peak: float) -> optax.Schedule:
    """Learning rate by step: a linear warm-up to ``peak``, then constant or a cosine down to a twentieth of it."""
    warmup = config.optimizer.warmup
    if config.optimizer.decay == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0 if warmup else peak, peak, warmup, max(config.steps, warmup + 1), end_value=peak / 20
        )
    if warmup:
        return optax.linear_schedule(0.0, peak, warmup)
    return optax.constant_schedule(peak)


def adam(config: ml_collections.ConfigDict, peak: float) -> optax.GradientTransformation:
    """Adam with the experiment's betas."""
    return optax.adam(schedule(config, peak), b1=config.optimizer.b1, b2=config.optimizer.b2)


def generator(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """Adam; with ``config.optimizer.muon_learning_rate``, Muon for the kernels between the edges and Adam for the rest.

    Muon (Jordan et al. 2024) moves a kernel equally far in all directions that its gradients have, where Adam moves it
    mostly in the few that are large. Not in the paper, which trains for hundreds of thousands of steps.
    """
    rates = config.optimizer
    if not rates.muon_learning_rate:
        return adam(config, rates.learning_rate)
    return muon(
        schedule(config, rates.muon_learning_rate),
        adam_learning_rate=schedule(config, rates.learning_rate),
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
