"""What a resumable job has computed so far, in a folder of its own and for that job only."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.io.atomic import replacing_file, write_text

JOB = "job.json"


class ChunkCache:
    """The chunks of one job by name, each computed once.

    Attributes:
      folder: where they lie.
      resumed: whether the folder was this job's already.
    """

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        """Open the cache of a job, or start an empty one.

        Args:
          folder: for nothing else.
          job: everything that the chunks depend on, JSON-able.
        """
        self.folder = folder
        text, stored = json.dumps(job, indent=1, sort_keys=True) + "\n", folder / JOB
        self.resumed = stored.is_file() and stored.read_text(encoding="utf-8") == text
        if not self.resumed:
            shutil.rmtree(folder, ignore_errors=True)
            write_text(stored, text)

    def get_or_compute(self, name: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays called ``name``: read if they are there and whole, else computed and kept."""
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
