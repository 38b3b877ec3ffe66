"""What the loop, the runners and the checkpoints ask of a training method. They never ask for SimSwap.

A second method is one module with ``default_config()``, ``check(config)`` and ``build(config, people, axis_name)``. It
stands in ``config.METHODS``, or anywhere: ``config.method = "package.module:build"``.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import ml_collections
import numpy as np
import optax

from simswap_jax.data import loader
from simswap_jax.data.dataset import People
from simswap_jax.models.families import SwapNetwork
from simswap_jax.training.config import reference_of
from simswap_jax.training.experiment import resolve
from simswap_jax.training.state import PyTree, TrainState
from simswap_jax.training.update import UpdateRule
from simswap_jax.training.warm_start import held_out_shares
from simswap_jax.weights import model_folder
from simswap_jax.weights.identity_folder import Identity

Batch = Mapping[str, Any]
Metrics = dict[str, jax.Array]


@dataclass(frozen=True)
class Work:
    """A call of a network that a step is made of.

    Attributes:
      name: of the network, for people.
      function, arguments: the call for one picture; traced, not run. Arguments are arrays or ``ShapeDtypeStruct``.
      passes: what of it a step costs an image, in units of this call.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    passes: float


class Method(Protocol):
    """One way of training. ``step`` is pure and is compiled by the runner as one program.

    A method may have more, and is asked for it only where it has it: ``begin(state)``, once when a new run starts;
    ``shares(metrics, step)``, the weighted losses for the log line; ``chooses_targets`` and ``with_targets(state,
    people, cache)``; ``identity``, whose ``sha256`` a model folder must match; ``model(state)``, which validation swaps
    with; ``batch_shapes()`` and, in its module, ``from_networks``, for preflight.
    """

    frozen: PyTree
    """Arrays that the step reads and never changes (the identity network's); never donated, never in a checkpoint."""

    def init(self, key: jax.Array) -> TrainState:
        """A fresh state; runs under ``jit``."""

    def step(self, state: TrainState, batch: Batch, frozen: PyTree) -> tuple[TrainState, Metrics]:
        """One update of everything that is trained, from a batch of uint8 pictures."""

    def batches(self, people: People, cache: Path) -> loader.Batches:
        """An endless iterator of batches, from the first one.

        ``cache`` is a folder for what can be computed once from ``people``.
        """

    def sample(self, state: TrainState, batch: Batch, frozen: PyTree) -> dict[str, np.ndarray]:
        """Pictures for a sample sheet: column caption → uint8 [B, H, W, 3]; empty if there is nothing to see."""

    def export(self, state: TrainState, folder: Path) -> None:
        """Write what others load: a model folder."""

    def work(self) -> Sequence[Work]:
        """What a step computes an image, for FLOPs and MFU; empty where nobody counted."""


def build(config: ml_collections.ConfigDict, people: People | None, axis_name: str | None = None) -> Method:
    """The method that ``config.method`` names.

    Args:
      config: an experiment.
      people: the people trained on (the identity method needs their number); None where the method needs none of it.
      axis_name: the mapped axis that its step runs under (``pmap``), if any.

    Raises:
      UserError: there is no such method.
    """
    method: Method = resolve(reference_of(config.method), "method")(config, people, axis_name)
    return method


class GeneratorMethod:
    """What methods share that train a swapping generator: its update, what is shown of it and what is exported.

    Attributes:
      identity: the network whose vectors the generator takes; None where it takes none.
      axis_name: the mapped axis under ``pmap``; None under ``jit``, where the batch is global by construction.
    """

    config: ml_collections.ConfigDict
    generator: SwapNetwork
    identity: Identity | None
    axis_name: str | None

    @property
    def optimizers(self) -> dict[str, optax.GradientTransformation]:
        """By name, of every network that is trained."""
        raise NotImplementedError

    @functools.cached_property
    def update(self) -> UpdateRule:
        """The optimisers, the generator's moving average, micro-batches and the guard."""
        config = self.config
        return UpdateRule(
            optimizers=self.optimizers,
            averaged="generator",
            ema_decay=config.ema,
            micro_batches=config.accumulate,
            skip_nonfinite=bool(config.nonfinite_limit),
            report_norms=True,
            axis_name=self.axis_name,
        )

    def averaged_variables(self, state: TrainState) -> PyTree:
        """The generator that is shown and exported: the average if there is one."""
        return state.ema if self.config.ema else state.networks["generator"].variables

    def model(self, state: TrainState) -> model_folder.ModelFolder:
        """What swapping loads, in memory."""
        known = self.identity
        return model_folder.ModelFolder(
            generator=self.generator.config,
            variables=jax.device_get(self.averaged_variables(state)),
            face_size=self.config.data.size,
            alignment=self.config.data.alignment,
            identity=known.network.config if known else None,
            identity_variables=jax.device_get(known.variables) if known else None,
            identity_sha256=known.sha256 if known else "",
            identity_name=known.name if known else "",
            card={
                "step": int(state.step),
                "licence": "research only: the terms of the training pictures apply",
                **held_out_shares(self.config),
            },
        )

    def export(self, state: TrainState, folder: Path) -> None:
        """Write the model folder; the identity network goes in only if it is this project's own."""
        ours = self.identity is not None and self.identity.ours
        model_folder.write(folder, self.model(state), include_identity=ours)
