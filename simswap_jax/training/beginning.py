"""The networks of another run as the beginning of this one: a second stage with other weights, or fine-tuning."""

from dataclasses import replace
from pathlib import Path

import orbax.checkpoint as ocp

from simswap_jax.errors import UserError
from simswap_jax.training.checkpoint_files import flaw
from simswap_jax.training.state import PyTree, TrainState


def begun(state: TrainState, like: PyTree, workdir: Path) -> TrainState:
    """A fresh state with the networks of another run's newest whole checkpoint.

    Step, key, position of the data and optimisers are the fresh one's: give it a short ``optimizer.warmup``.

    Args:
      state: fresh.
      like: its shapes, types and shardings.
      workdir: of the other run, which is only read.

    Raises:
      UserError: there is no whole checkpoint, or its networks are not this experiment's.
    """
    folder = (workdir / "checkpoints").absolute()
    steps = sorted((int(place.name) for place in folder.glob("*") if place.name.isdigit()), reverse=True)
    newest = next((step for step in steps if not flaw(folder / str(step))), None)
    if newest is None:
        raise UserError(
            f"config.start is {workdir}, where there is no whole checkpoint; name the workdir of a run that was saved."
        )
    options = ocp.CheckpointManagerOptions(read_only=True)
    with ocp.CheckpointManager(folder, options=options, item_names=("state", "position")) as manager:
        try:
            found = manager.restore(newest, args=ocp.args.Composite(state=ocp.args.StandardRestore(like)))["state"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"the run in config.start ({workdir}) trained networks of other shapes, or kept an average where this "
                "one keeps none; give this experiment the same generator, discriminator and ema."
            ) from error
    networks = {
        name: replace(fresh, params=found.networks[name].params, collections=found.networks[name].collections)
        for name, fresh in state.networks.items()
    }
    return replace(state, networks=networks, ema=found.ema)
