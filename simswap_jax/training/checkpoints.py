"""Checkpoints through Orbax: the state and the loader's position, saved together and whole or not at all.

A manifest in each checkpoint's folder lists its files, so that one that was cut short or damaged is known before it is
read.
"""

import json
import logging
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from simswap_jax.errors import UserError, first_line
from simswap_jax.io.atomic import file_sha256
from simswap_jax.training import distributed
from simswap_jax.training.state import PyTree, TrainState

logger = logging.getLogger(__name__)

FOLDER, SET_ASIDE = "checkpoints", "damaged"  # in a workdir
MANIFEST = "files.json"
TIMESTAMPS = "_CHECKPOINT_METADATA"  # Orbax writes into it once more after all else


class Checkpoints:
    """The checkpoints of one workdir. Where several processes train, each calls every method, in the same order.

    Args:
      workdir: gets ``checkpoints/<step>/``; damaged ones are moved to ``damaged/``. All processes see the same folder.
      keep: how many of the newest stay.

    Attributes:
      best: a step whose checkpoint stays besides; None for none.
    """

    def __init__(self, workdir: Path, keep: int) -> None:
        self.folder = (workdir / FOLDER).absolute()
        self._set_aside = workdir.absolute() / SET_ASIDE
        self._saving = 0
        self.best: int | None = None
        newest = checkpoint_managers.LatestN(keep)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy([newest, _Best(self)]),
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._list_files),
        )
        distributed.broadcast_from_primary(self._make_folder)
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=("state", "position"))

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint that was written to its end."""
        return self._manager.latest_step()

    def save(self, state: TrainState, position: Any) -> None:
        """Save, in the background. ``position`` is the loader's, JSON-able.

        Raises:
          UserError: there is no room, or the disk refuses.
        """
        step = int(jax.device_get(state.step))
        if step == self.latest:
            return
        distributed.broadcast_from_primary(lambda: require_disk_space(self.folder, state))
        try:
            self._manager.wait_until_finished()
            self._saving = step
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), position=ocp.args.JsonSave({"loader": position})
                ),
            )
        except (OSError, ValueError) as error:
            raise self._refused(error) from error

    def wait(self) -> None:
        """Until everything saved is on the disk."""
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            raise self._refused(error) from error

    def restore(
        self, like: PyTree, is_usable: Callable[[TrainState], bool] = lambda state: True
    ) -> tuple[TrainState, Any] | None:
        """The newest whole checkpoint as (state, position); None if there never was one.

        One that is damaged, or not finite, is moved to ``damaged/`` with a warning, and the one before it is taken.

        Args:
          like: the state's shapes, types and shardings; not those that it was saved with.
          is_usable: whether all of a state is finite; every process gives the same answer.

        Raises:
          UserError: there are checkpoints, but none can be read.
        """
        there = self.latest is not None
        while (step := distributed.broadcast_from_primary(self._newest_whole)) is not None:
            self._manager.reload()  # some may have been moved
            try:
                found = self._manager.restore(
                    step,
                    args=ocp.args.Composite(state=ocp.args.StandardRestore(like), position=ocp.args.JsonRestore()),
                )
                if is_usable(found["state"]):
                    return found["state"], found["position"]["loader"]
                reason = "its networks are not finite"
            except (OSError, ValueError, KeyError, TypeError) as error:
                place = self.folder / str(step)
                if isinstance(error, OSError) and has_manifest(place):
                    raise UserError(
                        f"checkpoint {place} cannot be read ({error.strerror or _said(error)}); look at the disk.",
                        "checkpoint-cannot-be-read",
                    ) from error
                if has_manifest(place):
                    raise UserError(
                        f"checkpoint {place} is whole, but cannot be restored here ({type(error).__name__}); "
                        "use the versions and the experiment that it was written with.",
                        "checkpoint-does-not-fit",
                    ) from error
                reason = f"cannot be read: {type(error).__name__}"
            distributed.broadcast_from_primary(lambda: self._set_damaged_aside(step, reason))  # noqa: B023
        if there:
            raise UserError(
                f"no checkpoint of {self.folder} is whole; they are in {self._set_aside} now. The same command would "
                "start again from the beginning: bring one back from a copy, or use another --workdir.",
                "checkpoints-damaged",
            )
        return None

    def close(self) -> None:
        """Finish what is under way and stop the background threads."""
        self._manager.close()

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"checkpoints cannot be written to {self.folder} ({error.strerror or error}); use another --workdir.",
                "checkpoints-cannot-be-written",
            ) from error

    def _list_files(self) -> None:
        """List the files of the checkpoint under way; Orbax gives it its name after this."""
        if distributed.is_primary():
            for folder in self.folder.glob(f"{self._saving}.orbax-checkpoint-tmp*"):
                write_manifest(folder)

    def _newest_whole(self) -> int | None:
        """The step to resume from; moves away what is damaged and newer."""
        return newest_whole(self.folder, self._set_damaged_aside)

    def _set_damaged_aside(self, step: int, reason: str) -> None:
        self._set_aside.mkdir(exist_ok=True)
        place = self._set_aside / str(step)
        copies = 1
        while place.exists():
            copies += 1
            place = self._set_aside / f"{step}-{copies}"
        (self.folder / str(step)).rename(place)
        logger.warning(
            "the checkpoint of step %d is damaged (%s); it is in %s now, and is not used", step, reason, place
        )

    def _refused(self, error: Exception) -> UserError:
        return UserError(
            f"the checkpoint could not be written to {self.folder} ({_said(error)}); make room, then start again: "
            "nothing before it is lost.",
            "checkpoint-not-written",
        )


def _said(error: Exception) -> str:
    return first_line(error) or type(error).__name__


@dataclass(frozen=True)
class _Best(checkpoint_managers.PreservationPolicy):
    """Keeps the checkpoint of ``Checkpoints.best``."""

    of: Checkpoints

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Which of them stay."""
        del context
        return [each.step == self.of.best for each in checkpoints]


def require_disk_space(folder: Path, state: PyTree) -> None:
    """Refuse to start a save that the disk has no room for.

    Raises:
      UserError: less is free than the state's own size and a tenth.
    """
    need = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) * 1.1
    free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
    if free < need:
        raise UserError(
            f"a checkpoint needs {need / 2**20:.0f} MiB, but the disk of {folder} has {free / 2**20:.0f} MiB free; "
            "make room or use another --workdir, then start again: the checkpoints before stay.",
            "disk-full",
        )


def quiet_orbax() -> None:
    """Keep Orbax from narrating every save, and what it left when a read failed; a setting of the whole process."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", r"coroutine '(Store\.|_read_array)", RuntimeWarning)


# ---- Manifests ----


def write_manifest(folder: Path) -> None:
    """Write the list of a checkpoint's files, with sizes and SHA-256, into its folder."""
    listed = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, TIMESTAMPS)
    }
    (folder / MANIFEST).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


def newest_whole(folder: Path, damaged: Callable[[int, str], object] = lambda step, reason: None) -> int | None:
    """The step of the newest checkpoint in ``folder`` that agrees with its manifest; None where there is none.

    Args:
      damaged: is told of those that are newer and do not, and why.
    """
    steps = sorted((int(place.name) for place in folder.glob("*") if place.name.isdigit()), reverse=True)
    for step in steps:
        if not (wrong := verify_manifest(folder / str(step))):
            return step
        damaged(step, wrong)
    return None


def has_manifest(folder: Path) -> bool:
    """Whether the folder has a manifest; those of older workdirs have none."""
    return (folder / MANIFEST).is_file()


def verify_manifest(folder: Path) -> str | None:
    """What differs from the manifest, in a few words; None where nothing does, or where there is no manifest."""
    if not has_manifest(folder):
        return None
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, told in listed.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != told["bytes"]:
                return f"{name} has {path.stat().st_size} bytes in place of {told['bytes']}"
            if file_sha256(path) != told["sha256"]:
                return f"{name} has changed"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read: {type(error).__name__}"
    return None
