"""What the loop, the runners and the checkpoints know of a training method. They never know SimSwap.

A second method is one new module in this package with a ``build(config) -> Method``, named in ``METHODS``.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import jax
import ml_collections
import numpy as np

from simswap_jax.data import loader
from simswap_jax.data.dataset import People
from simswap_jax.errors import UserError
from simswap_jax.training.state import PyTree, TrainState

Batch = Mapping[str, Any]
Metrics = dict[str, jax.Array]
Score = Callable[["Method", TrainState], float]


class Method(Protocol):
    """One way of training. ``step`` is pure and is compiled by the runner as one program.

    A method may have ``flops_per_image() -> float``, the model FLOPs of a step; then the MFU is said, too.
    """

    frozen: PyTree
    """Arrays that the step reads and never changes (the identity network's); never donated, never in a checkpoint."""

    def init(self, key: jax.Array) -> TrainState:
        """A fresh state; runs under ``jit``."""

    def step(self, state: TrainState, batch: Batch, frozen: PyTree) -> tuple[TrainState, Metrics]:
        """One update of everything that is trained, from a batch of uint8 pictures."""

    def batches(self, people: People, cache: Path, start: loader.State | None = None) -> loader.Batches:
        """An endless iterator of batches, from the position ``start`` if given.

        ``cache`` is a folder for what can be computed once from ``people``.
        """

    def sample(self, state: TrainState, batch: Batch, frozen: PyTree) -> dict[str, np.ndarray]:
        """Pictures for a sample sheet: column caption → uint8 [B, H, W, 3]; empty if there is nothing to see."""

    def export(self, state: TrainState, folder: Path) -> None:
        """Write what others load: a model folder."""


METHODS = {
    "simswap": "simswap_jax.training.simswap",
    "identity": "simswap_jax.training.identity",
    "hardening": "simswap_jax.contrib.small_models.robust_identity",
}


def build(config: ml_collections.ConfigDict, people: People, axis_name: str | None = None) -> Method:
    """The method that ``config.method`` names.

    Args:
      config: an experiment.
      people: the people trained on (the identity method needs their number).
      axis_name: the mapped axis that its step runs under (``pmap``), if any.

    Raises:
      UserError: there is no such method.
    """
    if config.method not in METHODS:
        raise UserError(f"there is no method '{config.method}'; set config.method to one of {', '.join(METHODS)}.")
    method: Method = import_module(METHODS[config.method]).build(config, people, axis_name)
    return method
