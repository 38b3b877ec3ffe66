"""The networks of another run as the first ones of this run: a second stage with other weights, or fine-tuning."""

import copy
import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import ml_collections
import orbax.checkpoint as ocp

from simswap_jax.errors import UserError
from simswap_jax.models import families
from simswap_jax.training import experiment
from simswap_jax.training.checkpoints import verify_manifest
from simswap_jax.training.state import PyTree, TrainState, is_finite, without_optimizers

Shapes = Callable[[ml_collections.ConfigDict], PyTree]


def init_from(state: TrainState, config: ml_collections.ConfigDict, shapes: Shapes, config_name: str) -> TrainState:
    """A fresh state with the networks of the newest whole checkpoint of ``config.init_from``.

    Step, key, position of the data and optimisers are the fresh one's: give it a short ``optimizer.warmup``. The other
    run's workdir is only read. Where this experiment's generator is another than that run's, its family is asked how
    the former's variables grow into it.

    Args:
      state: fresh.
      config: the experiment that starts.
      shapes: an experiment's state as shapes, types and shardings.
      config_name: name of the file in a workdir that holds its experiment.

    Raises:
      UserError: there is no whole checkpoint, or its networks are not this experiment's.
    """
    workdir = Path(config.init_from).expanduser()
    step = newest_whole(workdir)
    former = former_experiment(config, workdir / config_name)
    grow = growth(former, config, workdir)
    found = _restore(workdir, step, shapes(former))
    fresh = ({name: network.params for name, network in state.networks.items()}, state.ema)
    there = ({name: network.params for name, network in found.networks.items()}, found.ema)
    params, ema = jax.jit(functools.partial(_grown, grow), out_shardings=jax.tree.map(lambda x: x.sharding, fresh))(
        there, fresh
    )
    networks = {
        name: replace(network, params=params[name], collections=found.networks[name].collections)
        for name, network in state.networks.items()
    }
    return replace(state, networks=networks, ema=ema)


def newest_whole(workdir: Path) -> int:
    """The step of a workdir's newest whole checkpoint.

    Raises:
      UserError: there is none.
    """
    folder = workdir / "checkpoints"
    steps = sorted((int(place.name) for place in folder.glob("*") if place.name.isdigit()), reverse=True)
    for step in steps:
        if not verify_manifest(folder / str(step)):
            return step
    raise UserError(
        f"config.init_from is {workdir}, where there is no whole checkpoint; name the workdir of a run that was saved.",
        "init-from-no-checkpoint",
    )


def former_experiment(config: ml_collections.ConfigDict, stored: Path) -> ml_collections.ConfigDict:
    """The experiment with the generator of the run that is described there.

    Raises:
      UserError: the description is missing or damaged.
    """
    former = copy.deepcopy(config)
    if "generator" not in config:
        return former
    try:
        fields = experiment.upgraded(json.loads(stored.read_text(encoding="utf-8")))
        experiment.use_generator(former, fields["generator.family"])
        for name in former.generator:
            value = fields.get(f"generator.{name}", former.generator[name])
            former.generator[name] = tuple(value) if isinstance(value, list) else value
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{stored} is missing or damaged, so config.init_from cannot be used; name another run.",
            "init-from-damaged",
        ) from error
    return former


def growth(
    former: ml_collections.ConfigDict, config: ml_collections.ConfigDict, workdir: Path
) -> Callable[[PyTree, PyTree], PyTree] | None:
    """(the former generator's parameters, fresh ones) → parameters to start from; None without a generator.

    Raises:
      UserError: the former generator cannot become this one.
    """
    if "generator" not in config:
        return None
    configs = [generator_shape(each) for each in (former, config)]
    grow: Callable[[PyTree, PyTree], PyTree] | None = families.get(config.generator.family).grown_from(*configs)
    if grow is None:
        raise UserError(
            f"the generator of {workdir} (config.init_from) is of another shape, or has a part that this one lacks; "
            "give this experiment the same generator.",
            "init-from-other-generator",
        )
    return grow


def generator_shape(config: ml_collections.ConfigDict) -> Any:
    """The generator's configuration of an experiment, for comparison: whatever the identity vectors are."""
    fields = config.generator.to_dict()
    return families.get(fields.pop("family")).from_fields(fields, 512)


def _grown(grow: Callable[[PyTree, PyTree], PyTree] | None, there: PyTree, fresh: PyTree) -> PyTree:
    if grow is None:
        return there
    (networks, ema), (fresh_networks, fresh_ema) = there, fresh
    networks = {**networks, "generator": grow(networks["generator"], fresh_networks["generator"])}
    return networks, {**ema, "params": grow(ema["params"], fresh_ema["params"])} if ema else ema


def _restore(workdir: Path, step: int, like: PyTree) -> TrainState:
    folder = (workdir / "checkpoints").absolute()
    options = ocp.CheckpointManagerOptions(read_only=True)
    with ocp.CheckpointManager(folder, options=options, item_names=("state", "position")) as manager:
        wanted = ocp.args.Composite(state=ocp.args.StandardRestore(like))
        try:
            found: TrainState = manager.restore(step, args=wanted)["state"]
        except OSError as error:
            raise UserError(
                f"checkpoint {folder / str(step)} (config.init_from) cannot be read ({error.strerror or error}); "
                "look at the disk, or name another run.",
                "init-from-cannot-be-read",
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"the run in config.init_from ({workdir}) trained networks of other shapes, or kept an average where "
                "this one keeps none; give this experiment the same generator, discriminator and ema.",
                "init-from-other-shapes",
            ) from error
    if not jax.device_get(jax.jit(is_finite)(without_optimizers(found))):
        raise UserError(
            f"the networks of step {step} of {workdir} (config.init_from) are not finite; name another run.",
            "init-from-not-finite",
        )
    return found
