"""What a film leaves beside its output while it is being made, so that a run that was stopped can go on."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.swapping.film_writer import segment_files

SEGMENT = 120  # frames; what a kill loses


class Parts:
    """A hidden folder beside the output: the job it belongs to, the first pass, and the segments that are done."""

    def __init__(self, output: Path) -> None:
        self.folder = output.with_name(f".{output.name}.parts")
        self.look = self.folder / "faces.jsonl"
        self.whole = self.folder / f"whole{output.suffix}"
        self.signed = self.folder / f"signed{output.suffix}"

    def open(self, job: dict[str, Any]) -> None:
        """Make the folder, or go on with it where it belongs to the same job.

        Args:
          job: everything that the result depends on, for JSON.

        Raises:
          UserError: the folder cannot be made.
        """
        name = self.folder / "job.json"
        said = json.dumps(job, sort_keys=True)
        try:
            if self.folder.is_dir() and (not name.is_file() or name.read_text(encoding="utf-8") != said):
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            name.write_text(said, encoding="utf-8")
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(
                f"nothing can be written into {self.folder.parent} ({reason}); choose another place or make room."
            ) from error

    def segments(self) -> int:
        """How many segments are done, from the first on without a gap."""
        number = 0
        while all(path.is_file() for path in segment_files(self.folder, number)):
            number += 1
        return number

    def discard(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def digest_of(tree: Any) -> str:
    """A hash of arrays, of their types and shapes."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
