"""Checkpoints through Orbax: the state and the loader's position, saved together and whole or not at all."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from simswap_jax.errors import UserError
from simswap_jax.training import distributed
from simswap_jax.training.checkpoint_files import flaw, is_sealed, seal
from simswap_jax.training.state import PyTree, TrainState

SCORE = "score"


class Checkpoints:
    """The checkpoints of one workdir. Where several processes train, each calls every method, in the same order.

    Args:
      workdir: gets ``checkpoints/<step>/``; damaged ones are moved to ``damaged/``. All processes see the same folder.
      keep: how many of the newest stay.
      keep_best: how many of those saved with the highest scores stay besides.
      say: prints a line.
    """

    def __init__(self, workdir: Path, keep: int, keep_best: int = 1, say: Callable[[str], None] = print) -> None:
        self.folder = (workdir / "checkpoints").absolute()
        self._set_aside = workdir.absolute() / "damaged"
        self._say = say
        self._saving = 0
        logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax narrates every save
        newest = checkpoint_managers.LatestN(keep)
        best = checkpoint_managers.BestN(get_metric_fn=score_of, n=keep_best, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=score_of,  # only so that scores are written
            preservation_policy=checkpoint_managers.AnyPreservationPolicy([newest, best]),
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
        )
        distributed.first(self._make_folder)
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=("state", "position"))

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint that was written to its end."""
        return self._manager.latest_step()

    def save(self, state: TrainState, position: Any, score: float | None = None) -> None:
        """Save, in the background. ``position`` is the loader's, JSON-able.

        Raises:
          UserError: there is no room, or the disk refuses.
        """
        step = int(jax.device_get(state.step))
        if step == self.latest:
            return
        distributed.first(lambda: room(self.folder, state))
        try:
            self._manager.wait_until_finished()
            self._saving = step
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), position=ocp.args.JsonSave({"loader": position})
                ),
                metrics=None if score is None else {SCORE: score},
            )
        except (OSError, ValueError) as error:
            raise self._refused(error) from error

    def wait(self) -> None:
        """Until everything saved is on the disk."""
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            raise self._refused(error) from error

    def restore(self, like: PyTree) -> tuple[TrainState, Any] | None:
        """The newest whole checkpoint as (state, position); None if there never was one.

        A damaged one is moved to ``damaged/`` with a word about it, and the one before it is taken.

        Args:
          like: the state's shapes, types and shardings; not those that it was saved with.

        Raises:
          UserError: there are checkpoints, but none can be read.
        """
        there = self.latest is not None
        while (step := distributed.first(self._newest_whole)) is not None:
            self._manager.reload()  # some may have been moved
            try:
                found = self._manager.restore(
                    step,
                    args=ocp.args.Composite(state=ocp.args.StandardRestore(like), position=ocp.args.JsonRestore()),
                )
                return found["state"], found["position"]["loader"]
            except (OSError, ValueError, KeyError) as error:
                place = self.folder / str(step)
                if is_sealed(place):
                    raise UserError(
                        f"checkpoint {place} is whole, but cannot be restored here ({type(error).__name__}); "
                        "use the versions and the experiment that it was written with."
                    ) from error
                reason = f"cannot be read: {type(error).__name__}"
                distributed.first(lambda: self._put_away(step, reason))  # noqa: B023
        if there:
            raise UserError(
                f"no checkpoint of {self.folder} is whole; they are in {self._set_aside} now. The same command would "
                "start again from the beginning: bring one back from a copy, or use another --workdir."
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
                f"checkpoints cannot be written to {self.folder} ({error.strerror or error}); use another --workdir."
            ) from error

    def _seal(self) -> None:
        """List the files of the checkpoint under way; Orbax gives it its name after this."""
        if distributed.is_first():
            for folder in self.folder.glob(f"{self._saving}.orbax-checkpoint-tmp*"):
                seal(folder)

    def _newest_whole(self) -> int | None:
        """The step to go on from; moves away what is damaged and newer."""
        for step in sorted(self._manager.all_steps(), reverse=True):
            place = self.folder / str(step)
            if not place.exists():
                continue
            if not (wrong := flaw(place)):
                return step
            self._put_away(step, wrong)
        return None

    def _put_away(self, step: int, reason: str) -> None:
        self._set_aside.mkdir(exist_ok=True)
        place = self._set_aside / str(step)
        copies = 1
        while place.exists():
            copies += 1
            place = self._set_aside / f"{step}-{copies}"
        (self.folder / str(step)).rename(place)
        self._say(f"the checkpoint of step {step} is damaged ({reason}); it is in {place} now, and is not used")

    def _refused(self, error: Exception) -> UserError:
        first = str(error).strip().splitlines()[0][:200]
        return UserError(
            f"the checkpoint could not be written to {self.folder} ({first}); make room, then start again: "
            "nothing before it is lost."
        )


def score_of(metrics: dict[str, float]) -> float:
    """What checkpoints are ranked by."""
    return metrics[SCORE]


def room(folder: Path, state: PyTree) -> None:
    """Refuse to start a save that the disk has no room for.

    Raises:
      UserError: less is free than the state's own size and a tenth.
    """
    need = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) * 1.1
    free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
    if free < need:
        raise UserError(
            f"a checkpoint needs {need / 2**20:.0f} MiB, but the disk of {folder} has {free / 2**20:.0f} MiB free; "
            "make room or use another --workdir, then start again: the checkpoints before stay."
        )
