"""What a long job has done so far, in a folder of its own: the same job takes it up again, another one begins anew."""

import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.io.atomic import replacing_file, write_json
from simswap_jax.io.lock import LOCK


def open_job(folder: Path, job: Mapping[str, Any], file: str = "job.json") -> bool:
    """Make a folder this job's; what another job left in it is removed.

    Args:
      folder: need not be there yet.
      job: everything that the result depends on, JSON-able.
      file: where in the folder ``job`` is kept.

    Returns:
      whether it was this job's already, so that what is in it counts.

    Raises:
      CannotWrite: the folder cannot be made or written.
    """
    if _read(folder / file) == json.loads(json.dumps(job)):
        return True
    clear_job(folder)
    write_json(folder / file, job, sort_keys=True)
    return False


def clear_job(folder: Path) -> None:
    """Remove what is in a job's folder, but for its lock."""
    for path in folder.glob("*"):
        if path.name == LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


class ChunkCache:
    """The chunks of one job by name, each computed once.

    Attributes:
      folder: where they lie, ``<name>.npz`` each.
      resumed: whether the folder was this job's already.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any], file: str = "job.json") -> None:
        """Args: as `open_job`."""
        self.folder = folder
        self.resumed = open_job(folder, job, file)

    def get_or_compute(self, name: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays of a chunk: read if they are there and whole, else computed and kept."""
        path = self.folder / f"{name}.npz"
        if path.is_file():
            try:
                with path.open("rb") as file, np.load(file) as stored:
                    return {key: stored[key] for key in stored.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile):
                path.unlink(missing_ok=True)  # damaged: computed again
        arrays = compute()
        with replacing_file(path) as temporary, temporary.open("wb") as fresh:
            np.savez(fresh, **arrays)  # type: ignore[arg-type]  # its stub takes the names for allow_pickle
        return arrays

    def clear(self) -> None:
        """Remove the folder: the job is done."""
        shutil.rmtree(self.folder, ignore_errors=True)
