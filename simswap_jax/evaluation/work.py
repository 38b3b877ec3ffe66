"""What a resumable job has computed so far, on disk and valid for one fingerprint only."""

import json
import logging
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.provenance.writer import whole_file, write_text

FOLDER = ".unfinished"
logger = logging.getLogger(__name__)


class ChunkCache:
    """Chunks of a job by name, each computed once."""

    def __init__(self, folder: Path, fingerprint: dict[str, Any]) -> None:
        """Open the cache of a job, or start an empty one.

        Args:
          folder: the job's output.
          fingerprint: everything that the chunks depend on, JSON-able.
        """
        self.folder = folder / FOLDER
        text = json.dumps(fingerprint, indent=1, sort_keys=True) + "\n"
        stored = self.folder / "about.json"
        if stored.is_file() and stored.read_text(encoding="utf-8") == text:
            logger.info("resuming the job that was stopped in %s", folder)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
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
        with whole_file(path) as temporary, temporary.open("wb") as fresh:
            np.savez(fresh, **arrays)  # type: ignore[arg-type]  # its stub takes the names for allow_pickle
        return arrays

    def clear(self) -> None:
        """The job is done: nothing has to be kept."""
        shutil.rmtree(self.folder, ignore_errors=True)
