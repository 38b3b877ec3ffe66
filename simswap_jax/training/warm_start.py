"""The networks of another run as the beginning of this one: a second stage with other weights, or fine-tuning.

A generator that gets a gate only now (``generator.gated``) begins with a nearly closed one: its results are at first
what they were. Where the gate is there from the first step on, copying the target is the shortest way down, and the
identity is not learned; given to a generator that knows whose face it draws, it takes over the rest of the picture.
"""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import orbax.checkpoint as ocp

from simswap_jax.errors import UserError
from simswap_jax.training.checkpoint_files import flaw
from simswap_jax.training.state import PyTree, TrainState

CLOSED = -3.0  # the bias of a gate that is nearly closed: 5 % of the target


def begun(
    state: TrainState,
    config: ml_collections.ConfigDict,
    shapes: Callable[[ml_collections.ConfigDict], PyTree],
    described: str,
) -> TrainState:
    """A fresh state with the networks of the newest whole checkpoint of ``config.start``.

    Step, key, position of the data and optimisers are the fresh one's: give it a short ``optimizer.warmup``. The other
    run's workdir is only read.

    Args:
      state: fresh.
      config: the experiment that begins.
      shapes: an experiment's state as shapes, types and shardings.
      described: name of the file in a workdir that holds its experiment.

    Raises:
      UserError: there is no whole checkpoint, or its networks are not this experiment's.
    """
    workdir = Path(config.start).expanduser()
    folder = (workdir / "checkpoints").absolute()
    steps = sorted((int(place.name) for place in folder.glob("*") if place.name.isdigit()), reverse=True)
    newest = next((step for step in steps if not flaw(folder / str(step))), None)
    if newest is None:
        raise UserError(
            f"config.start is {workdir}, where there is no whole checkpoint; name the workdir of a run that was saved."
        )
    like = shapes(_as_it_was(config, workdir / described))
    options = ocp.CheckpointManagerOptions(read_only=True)
    with ocp.CheckpointManager(folder, options=options, item_names=("state", "position")) as manager:
        wanted = ocp.args.Composite(state=ocp.args.StandardRestore(like))
        try:
            found: TrainState = manager.restore(newest, args=wanted)["state"]
        except OSError as error:
            raise UserError(
                f"checkpoint {folder / str(newest)} (config.start) cannot be read ({error.strerror or error}); "
                "look at the disk, or name another run."
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"the run in config.start ({workdir}) trained networks of other shapes, or kept an average where this "
                "one keeps none; give this experiment the same generator, discriminator and ema."
            ) from error
    fresh = ({name: network.params for name, network in state.networks.items()}, state.ema)
    there = ({name: network.params for name, network in found.networks.items()}, found.ema)
    params, ema = jax.jit(_with_gate, out_shardings=jax.tree.map(lambda x: x.sharding, fresh))(there, fresh)
    networks = {
        name: replace(network, params=params[name], collections=found.networks[name].collections)
        for name, network in state.networks.items()
    }
    return replace(state, networks=networks, ema=ema)


def _as_it_was(config: ml_collections.ConfigDict, described: Path) -> ml_collections.ConfigDict:
    """The experiment, but without a gate if the run described there had none."""
    former = copy.deepcopy(config)
    try:
        former.generator.gated = bool(json.loads(described.read_text(encoding="utf-8"))["generator"]["gated"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{described} is missing or damaged, so config.start cannot be used; name another run."
        ) from error
    if former.generator.gated and not config.generator.gated:
        raise UserError(
            f"the generator of {described.parent} (config.start) is gated, and cannot do without its gate; "
            "set config.generator.gated to True."
        )
    return former


def _with_gate(there: PyTree, fresh: PyTree) -> PyTree:
    """``there`` in the shapes of ``fresh``: a last layer that lacks the gate's channel gets it, nearly closed."""

    def fitted(old: jax.Array, new: jax.Array) -> jax.Array:
        if old.shape == new.shape:
            return old
        value = CLOSED if old.ndim == 1 else 0.0  # bias, kernel
        return jnp.concatenate([old, jnp.full((*old.shape[:-1], 1), value, old.dtype)], axis=-1)

    return jax.tree.map(fitted, there, fresh)
