"""Checkpoints through Orbax: the state and the loader's position, saved together and whole or not at all."""

import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from simswap_jax.errors import UserError
from simswap_jax.training.state import PyTree, TrainState


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
      workdir: gets ``checkpoints/<step>/``.
      keep: how many of the newest stay.
    """

    def __init__(self, workdir: Path, keep: int) -> None:
        self.folder = (workdir / "checkpoints").absolute()
        logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax narrates every save
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=("state", "position"))
        except OSError as error:
            raise UserError(f"checkpoints cannot be written to {self.folder}: {error.strerror or error}.") from error

    @property
    def latest(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def save(self, state: TrainState, position: Any) -> None:
        """Save, in the background. ``position`` is the loader's, JSON-able.

        Raises:
          UserError: there is no room, or the disk refuses.
        """
        step = int(state.step)
        if step == self.latest:
            return
        room(self.folder, state)
        try:
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

    def restore(self, like: PyTree) -> tuple[TrainState, Any] | None:
        """The newest checkpoint as (state, position); None if there is none.

        Args:
          like: the state's shapes, types and shardings.

        Raises:
          UserError: it cannot be read.
        """
        if self.latest is None:
            return None
        try:
            found = self._manager.restore(
                self.latest,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(like), position=ocp.args.JsonRestore()),
            )
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"checkpoint {self.folder / str(self.latest)} cannot be read ({type(error).__name__}); "
                "remove that folder to go on from the one before it."
            ) from error
        return found["state"], found["position"]["loader"]

    def close(self) -> None:
        """Finish what is under way and stop the background threads."""
        self._manager.close()

    def _refused(self, error: Exception) -> UserError:
        first = str(error).strip().splitlines()[0][:200]
        return UserError(
            f"the checkpoint could not be written to {self.folder} ({first}); make room, then start again: "
            "nothing before it is lost."
        )


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
