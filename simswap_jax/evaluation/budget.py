"""Equal budgets: how fast a method trains here, how many steps fit into its seconds, and what its generator costs."""

import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import ml_collections

from simswap_jax.io.progress import format_duration
from simswap_jax.training import flops
from simswap_jax.training.experiment import flat
from simswap_jax.training.loop import train
from simswap_jax.training.metrics import read_lines
from simswap_jax.weights import model_folder

EVALUATION = 0.2  # of the minutes
TRAINING = 0.25  # of the minutes, at least: what is hardly trained says nothing
AGAIN = 0.4  # of the time to start up, when it is started again: most of what is compiled is kept
LEAST_STEPS = 20  # of a training, however few the minutes
PROBE = 12  # steps by which a method's speed is measured
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """How fast a method trains here.

    Attributes:
      startup: seconds until the second step: networks are made and compiled.
      step: seconds a step.
    """

    startup: float
    step: float


def with_fields(config: ml_collections.ConfigDict, fields: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """A copy of an experiment with other values of those fields that it has."""
    changed = config.copy_and_resolve_references()
    here = flat(changed.to_dict())
    changed.update_from_flattened_dict({name: value for name, value in fields.items() if name in here})
    return changed


def measured_pace(config: ml_collections.ConfigDict, folder: Path) -> Pace | None:
    """Make a few steps and throw them away; None if it was stopped."""
    shutil.rmtree(folder, ignore_errors=True)
    few = with_fields(config, {"steps": PROBE, "init_from": "", "sample_every": 0, "checkpoint_every": PROBE})
    few.log_every = PROBE
    began = time.monotonic()
    if not train(few, folder).finished:
        return None
    step = trained_seconds(read_lines(folder)) / (PROBE - 1)
    shutil.rmtree(folder, ignore_errors=True)
    return Pace(max(0.0, time.monotonic() - began - PROBE * step), step)


def steps_within(minutes: float, spent: float, paces: Mapping[str, Pace], parts: Mapping[str, int]) -> dict[str, int]:
    """Steps of each method, so that all train for the same seconds.

    Args:
      minutes: for everything.
      spent: seconds that have passed.
      paces: method → how fast it trains.
      parts: method → how many trainings it is made of, each of which starts up.
    """
    starting = AGAIN * sum(pace.startup * parts[name] for name, pace in paces.items())
    wanted, least = 60.0 * minutes * (1.0 - EVALUATION) - spent - starting, 60.0 * minutes * TRAINING
    if wanted < least:
        logger.warning("all of it takes longer than %g minutes: the trainings get a quarter of them", minutes)
    each = max(wanted, least) / len(paces)
    logger.info("each method trains for about %s", format_duration(each))
    return {name: max(LEAST_STEPS, int(each / pace.step)) for name, pace in paces.items()}


def left_of(minutes: float | None, spent: float) -> str:
    """What is left of the minutes after so many seconds, for a line of the log; nothing where there is no limit."""
    if minutes is None:
        return ""
    return f"; about {format_duration(max(0.0, 60.0 * minutes - spent))} left of {minutes:g} minutes"


def cost(model: model_folder.ModelFolder) -> tuple[int, float]:
    """Parameters of a generator, and its GFLOP for one face."""
    network, side = model.network, model.face_size
    variables = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), model.variables)
    target = jax.ShapeDtypeStruct((1, side, side, 3), "float32")
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    return count, flops.forward(network.apply, variables, target, network.input_shapes(1, side)) / 1e9


def trained_seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """Seconds that the steps of a training took, by its metrics; compiling and saving are not among them."""
    seconds, before = 0.0, 0
    for row in rows:
        if row.get("steps_per_second"):
            seconds += (int(row["step"]) - before) / float(row["steps_per_second"])
        before = int(row["step"])
    return seconds
