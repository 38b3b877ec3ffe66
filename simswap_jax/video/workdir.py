"""What a film leaves beside its output while it is being made, so that a run that was stopped can go on."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.io.atomic import write_text
from simswap_jax.io.lock import LOCK, exclusive_lock
from simswap_jax.video.encode import segment_files
from simswap_jax.weights import registry

SEGMENT = 120  # frames; what a kill loses


class Parts:
    """A hidden folder beside the output: the job it belongs to, the first pass, and the segments that are done."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(f".{output.name}.parts")
        self.look = self.folder / "faces.jsonl"
        self.whole = self.folder / f"whole{output.suffix}"
        self.signed = self.folder / f"signed{output.suffix}"

    @contextlib.contextmanager
    def open(self, job: dict[str, Any]) -> Iterator[None]:
        """Make the folder, or go on with it where it belongs to the same job; nobody else may meanwhile.

        Args:
          job: everything that the result depends on, for JSON.

        Raises:
          UserError: the folder cannot be made, or another process is making the same film.
        """
        name = self.folder / "job.json"
        said = json.dumps(job, sort_keys=True)
        with exclusive_lock(self.folder, f"making {self.output}"):
            try:
                self._begin(name, said)
                yield
            finally:
                if not self._contents():
                    with contextlib.suppress(OSError):  # another process has begun in it
                        (self.folder / LOCK).unlink()
                        self.folder.rmdir()

    def _begin(self, name: Path, said: str) -> None:
        """Keep what is there if it is the same job's, else begin anew."""
        try:
            if not name.is_file() or name.read_text(encoding="utf-8") != said:
                self.discard()
                write_text(name, said)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(
                f"{self.folder} cannot be written ({reason}); choose another place or make room."
            ) from error

    def segments(self) -> int:
        """How many segments are done, from the first on without a gap."""
        number = 0
        while all(path.is_file() for path in segment_files(self.folder, number)):
            number += 1
        return number

    def discard(self) -> None:
        """Remove all that is in it; the folder itself goes when it is closed."""
        for path in self._contents():
            path.unlink(missing_ok=True)

    def _contents(self) -> list[Path]:
        return [path for path in self.folder.glob("*") if path.name != LOCK]


def digest_of(tree: Any) -> str:
    """A hash of arrays, of their types and shapes."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def digest_of_file(name: str | Path) -> str | None:
    """SHA-256 of a weight file, by its path or by a name to look for in the folders; None where it is in neither."""
    path: Path | None = Path(name).expanduser()
    if path is not None and not path.is_file():
        path = registry.locate(str(name))
    return None if path is None else registry.file_sha256(path)


def stamp_of(path: Path) -> list[str | int]:
    """Where a file lies, its size and when it was changed: tells a changed film without reading it."""
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
