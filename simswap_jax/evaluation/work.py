"""What an evaluation has done so far, on disk: a killed one goes on, from its own leavings only."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.io.atomic import replacing_file, write_text

FOLDER = ".unfinished"


class Work:
    """Pieces of work by name, each done once."""

    def __init__(self, folder: Path, about: dict[str, Any], say: Callable[[str], None]) -> None:
        """Open or begin.

        Args:
          folder: the evaluation's output.
          about: everything that the pieces depend on, JSON-able.
          say: is told when there is something to go on from.
        """
        self.folder = folder / FOLDER
        text = json.dumps(about, indent=1, sort_keys=True) + "\n"
        mine = self.folder / "about.json"
        if mine.is_file() and mine.read_text(encoding="utf-8") == text:
            say(f"going on with the evaluation that was stopped in {folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
            write_text(mine, text)

    def piece(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays called ``name``: read if they are there and whole, else made and kept."""
        path = self.folder / f"{name}.npz"
        if path.is_file():
            try:
                with path.open("rb") as file, np.load(file) as stored:
                    return {key: stored[key] for key in stored.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile):
                path.unlink(missing_ok=True)  # damaged: made again
        arrays = make()
        with replacing_file(path) as temporary, temporary.open("wb") as fresh:
            np.savez(fresh, **arrays)  # type: ignore[arg-type]  # its stub takes the names for allow_pickle
        return arrays

    def clear(self) -> None:
        """All is told: nothing has to be kept."""
        shutil.rmtree(self.folder, ignore_errors=True)
