"""The workdir of a training run: tied to one experiment from its first checkpoint on."""

import json
import logging
from pathlib import Path
from typing import Any

import jax
import ml_collections

from simswap_jax.errors import UserError
from simswap_jax.io.atomic import refuse_address, write_json
from simswap_jax.training import config as fields
from simswap_jax.training import distributed, experiment
from simswap_jax.training.checkpoints import FOLDER, SET_ASIDE, quiet_orbax

logger = logging.getLogger(__name__)

CONFIG = "config.json"
MODELS = ("model", "best")  # the model folders that a run leaves


def connect_processes(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Connect the processes, and let only the primary speak; nothing is written.

    Raises:
      UserError: as ``distributed.initialize``; the workdir is an address.
    """
    refuse_address(workdir)
    distributed.initialize(config.processes)
    if not distributed.is_primary():
        logging.getLogger("simswap_jax").setLevel(logging.ERROR)
    quiet_orbax()


def claim_workdir(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Make the workdir this experiment's.

    Raises:
      UserError: as ``check_workdir_config``, or a process does not see it.
    """
    distributed.broadcast_from_primary(lambda: check_workdir_config(workdir, config))
    require_shared(workdir)


def require_shared(workdir: Path) -> None:
    """Every process must see the workdir that process 0 made.

    Raises:
      UserError: in a process that does not.
    """
    if not (workdir / CONFIG).is_file():
        raise UserError(
            f"process {jax.process_index()} does not see the workdir {workdir} that process 0 made; use a folder that "
            "all hosts share.",
            "workdir-not-shared",
        )


def check_workdir_config(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Make ``workdir`` this experiment's, or refuse. As long as nothing was trained it may become another's.

    Raises:
      UserError: it holds another experiment, or cannot be written.
    """
    wanted = json.loads(config.to_json())
    path = workdir / CONFIG
    try:
        if path.exists():
            tell = refuse_another if was_trained(workdir) else tell_of_another
            tell(path, wanted, config.method)
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(path, wanted)
    except OSError as error:
        raise UserError(
            f"the workdir {workdir} cannot be written: {error.strerror or error}; use another --workdir.",
            "workdir-cannot-be-written",
        ) from error


def was_trained(workdir: Path) -> bool:
    """Whether a training left something in a workdir that another must not replace."""
    saved = any(path.name.isdigit() for path in (workdir / FOLDER).glob("*"))
    return saved or any((workdir / SET_ASIDE).glob("*")) or any((workdir / name).exists() for name in MODELS)


def refuse_another(path: Path, wanted: dict[str, Any], method: str) -> None:
    """Refuse an experiment that is not the one of a config.json.

    Raises:
      UserError: with the first field that differs, or the file is damaged.
    """
    try:
        changed = changes(path, wanted, method)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is damaged, so it cannot be told which experiment {path.parent} holds; use another --workdir.",
            "workdir-config-damaged",
        ) from error
    for name, former, value in changed:
        raise UserError(
            f"{path.parent} holds another experiment: config.{name} was {former!r} and is now {value!r}; "
            "use another --workdir, or the old value to resume.",
            "workdir-of-another-experiment",
        )


def tell_of_another(path: Path, wanted: dict[str, Any], method: str) -> None:
    """Say where the experiment of a config.json, of which nothing was trained, is not the one that is wanted."""
    try:
        changed = changes(path, wanted, method)
    except (json.JSONDecodeError, UserError):
        logger.info("%s has no checkpoint yet; its %s is replaced", path.parent, CONFIG)
        return
    if changed:
        name, former, value = changed[0]
        others = f", and {len(changed) - 1} more" if len(changed) > 1 else ""
        logger.info(
            "%s has no checkpoint yet and becomes this experiment's: config.%s was %r and is now %r%s",
            *(path.parent, name, former, value, others),
        )


def changes(path: Path, wanted: dict[str, Any], method: str) -> list[tuple[str, Any, Any]]:
    """(field, former value, value wanted now) of what makes the experiment of a config.json another one.

    Raises:
      UserError: a field that is gone had a value that changed something.
    """
    stored = experiment.upgraded(json.loads(path.read_text(encoding="utf-8")))
    return list(experiment.differing(stored, wanted, fields.default_config(method)))
