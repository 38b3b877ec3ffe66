"""The networks of another run, or a model folder's, as the first ones of this run: a further stage, or fine-tuning."""

import copy
import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from simswap_jax.errors import UserError
from simswap_jax.models import families
from simswap_jax.models.families import WarmStart
from simswap_jax.training import experiment
from simswap_jax.training.checkpoints import FOLDER, newest_whole
from simswap_jax.training.state import PyTree, TrainState, is_finite, without_optimizers
from simswap_jax.training.workdir import CONFIG
from simswap_jax.weights import model_folder
from simswap_jax.weights.layouts import COUNTS
from simswap_jax.weights.model_names import find_model

Shapes = Callable[[ml_collections.ConfigDict], PyTree]
RANDOM = "random"  # in place of a file or folder: weights that nobody trained


def init_from(
    state: TrainState,
    config: ml_collections.ConfigDict,
    shapes: Shapes,
    identity_sha256: str | None = None,
) -> TrainState:
    """A fresh state with the networks of ``config.init_from``: a workdir's newest whole checkpoint, or a model folder.

    Of a model folder comes the generator, for parameters and average alike; discriminators are the fresh ones.

    Step, key, position of the data and optimisers are the fresh one's: give it a short ``optimizer.warmup``. The other
    run's workdir is only read. Where this experiment's generator is another than that run's, its family is asked how
    this one starts from the former's variables.

    Args:
      state: fresh.
      config: the experiment that starts.
      shapes: an experiment's state as shapes, types and shardings.
      identity_sha256: of the identity network; a model folder that was made for another one is refused.

    Raises:
      UserError: there is no whole checkpoint, or its networks are not this experiment's.
    """
    workdir = find_model(config.init_from)
    if (workdir / model_folder.GENERATOR).is_file():
        return _with_generator(state, config, workdir, identity_sha256)
    step = newest_whole(workdir / FOLDER)
    if step is None:
        raise UserError(
            f"config.init_from is {workdir}, where there is no whole checkpoint; name the workdir of a run that was "
            "saved.",
            "init-from-no-checkpoint",
        )
    former = former_experiment(config, workdir / CONFIG)
    start_from = generator_start(former, config)
    found = _restore(workdir, step, shapes(former))
    fresh = ({name: network.params for name, network in state.networks.items()}, state.ema)
    there = ({name: network.params for name, network in found.networks.items()}, found.ema)
    params, ema = _started_like(fresh, there, start_from)
    networks = {
        name: replace(network, params=params[name], collections=found.networks[name].collections)
        for name, network in state.networks.items()
    }
    return replace(state, networks=networks, ema=ema)


def _with_generator(
    state: TrainState, config: ml_collections.ConfigDict, folder: Path, identity_sha256: str | None
) -> TrainState:
    model = model_folder.read(folder, identity_sha256=identity_sha256, with_identity=False)
    if "generator" not in config:
        raise UserError(
            f"{folder} (config.init_from) is a model folder, and this experiment trains no generator; name a workdir.",
            "init-from-without-generator",
        )
    start_from = warm_start_of(model.generator, _generator_config(config, model.network.identity_size or 0), config)
    network = {name: tree for name, tree in model.variables.items() if name != COUNTS}  # PyTorch's counts of batches
    variables = jax.tree.map(lambda x: np.asarray(x, np.float32), network)
    params, collections = variables.pop("params"), variables
    generator = state.networks["generator"]
    fresh = ({"generator": generator.params}, state.ema)
    there = ({"generator": params}, {"params": params, **collections} if state.ema else {})
    started, ema = _started_like(fresh, there, start_from)
    statistics = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), collections, generator.collections)
    networks = {**state.networks, "generator": replace(generator, params=started["generator"], collections=statistics)}
    return replace(state, networks=networks, ema=ema)


def held_out_share(config: ml_collections.ConfigDict, what: str = "held_out") -> float | None:
    """The share of the people that neither this training nor those that it starts from saw; None: not known.

    People are held out by name, so that of two shares the smaller one's people are among the larger one's.

    Args:
      config: the experiment.
      what: ``"held_out"``, or ``"held_out_pictures"``: the share of the trained people's pictures.
    """
    own, before = float(config.data[what]), _started_from(config)
    if not before:
        return own
    former = _share_of(before, what)
    return None if former is None else min(own, former)


def _started_from(fields: Any) -> str:
    """What an experiment starts from, or has inside as its first stage: a name as in ``init_from``; "" for nothing."""
    first = fields.get("first_stage") or ""
    return str(fields.get("init_from") or ("" if first == RANDOM else first))


def held_out_shares(config: ml_collections.ConfigDict) -> dict[str, float]:
    """What a model's card says of the people and pictures that were held out; of pictures nothing where none were."""
    shares = {what: held_out_share(config, what) for what in ("held_out", "held_out_pictures")}
    if not shares["held_out_pictures"]:
        del shares["held_out_pictures"]
    return {what: share for what, share in shares.items() if share is not None}


def _share_of(name: str, what: str) -> float | None:
    """What a model folder's card says, or a workdir's experiment and those before it; named as in ``init_from``."""
    try:
        stored = json.loads((find_model(name) / CONFIG).read_text(encoding="utf-8"))
        if "card" in stored:
            share = stored["card"].get(what)
            return None if share is None else float(share)
        fields = {"data.held_out_pictures": 0.0, **experiment.upgraded(stored)}  # former versions trained on all
        own, before = float(fields[f"data.{what}"]), _started_from(fields)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
        return None
    former = _share_of(before, what) if before else own
    return None if former is None else min(own, former)


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


def generator_start(former: ml_collections.ConfigDict, config: ml_collections.ConfigDict) -> WarmStart | None:
    """(the former generator's parameters, fresh ones) → parameters to start from; None without a generator.

    Raises:
      UserError: the former generator cannot become this one.
    """
    if "generator" not in config:
        return None
    any_size = 512  # the networks are compared whatever the identity vectors are
    return warm_start_of(_generator_config(former, any_size), _generator_config(config, any_size), config)


def warm_start_of(former: Any, wanted: Any, config: ml_collections.ConfigDict) -> WarmStart:
    """How parameters of a generator's configuration start another one, as the family of ``config`` says.

    Raises:
      UserError: they cannot.
    """
    start_from = families.get(config.generator.family).warm_start(former, wanted)
    if start_from is None:
        raise UserError(
            f"the generator of {config.init_from} (config.init_from) is of another shape or input normalization, or "
            "has a part that this one lacks; give this experiment the same generator.",
            "init-from-other-generator",
        )
    return start_from


def _generator_config(config: ml_collections.ConfigDict, identity_size: int) -> Any:
    fields = config.generator.to_dict()
    return families.get(fields.pop("family")).from_fields(fields, identity_size)


def _started_like(fresh: PyTree, there: PyTree, start_from: WarmStart | None) -> PyTree:
    """What starts from ``there``, with the shapes and shardings of ``fresh``."""
    shardings = jax.tree.map(lambda x: x.sharding, fresh)
    return jax.jit(functools.partial(_started, start_from), out_shardings=shardings)(there, fresh)


def _started(start_from: WarmStart | None, there: PyTree, fresh: PyTree) -> PyTree:
    if start_from is None:
        return there
    (networks, ema), (fresh_networks, fresh_ema) = there, fresh
    networks = {**networks, "generator": start_from(networks["generator"], fresh_networks["generator"])}
    return networks, {**ema, "params": start_from(ema["params"], fresh_ema["params"])} if ema else ema


def _restore(workdir: Path, step: int, like: PyTree) -> TrainState:
    folder = (workdir / FOLDER).absolute()
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
                f"the run in config.init_from ({workdir}) trained networks of other shapes or with another optimiser, "
                "or kept an average where this one keeps none; give this experiment the same generator, discriminator, "
                "optimizer.generator and ema.",
                "init-from-other-shapes",
            ) from error
    if not jax.device_get(jax.jit(is_finite)(without_optimizers(found))):
        raise UserError(
            f"the networks of step {step} of {workdir} (config.init_from) are not finite; name another run.",
            "init-from-not-finite",
        )
    return found
