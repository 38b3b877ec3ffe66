"""What a video leaves beside its output while it is being made, so that an interrupted run can resume."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.io.atomic import CannotWrite, arrays_sha256
from simswap_jax.io.job_cache import LOCK, clear_job, exclusive_lock, open_job
from simswap_jax.video.encode import segment_files
from simswap_jax.weights import registry


class VideoWorkdir:
    """A hidden folder beside the output: the job it belongs to, the first pass, and the segments that are done.

    Attributes:
      output: the video that is being made.
      folder: the hidden folder.
      detections: the first pass, JSON lines.
      whole: the video put together, and
      signed: with its manifest.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(f".{output.name}.parts")
        self.detections = self.folder / "faces.jsonl"
        self.whole = self.folder / f"whole{output.suffix}"
        self.signed = self.folder / f"signed{output.suffix}"

    @contextlib.contextmanager
    def open(self, job: dict[str, Any]) -> Iterator[None]:
        """Make the folder, or resume with it where it belongs to the same job; nobody else may meanwhile.

        Args:
          job: everything that the result depends on, for JSON.

        Raises:
          UserError: the folder cannot be made, or another process is making the same video.
        """
        with exclusive_lock(self.folder, f"making {self.output}"):
            try:
                open_job(self.folder, job)
                yield
            finally:
                if all(path.name == LOCK for path in self.folder.glob("*")):
                    with contextlib.suppress(OSError):  # another process has taken it
                        (self.folder / LOCK).unlink()
                        self.folder.rmdir()

    @contextlib.contextmanager
    def cleared(self) -> Iterator[None]:
        """Empty the folder when the block is done or the video cannot be made; keep it when the run is interrupted.

        Raises:
          UserError: the output cannot be written.
        """
        try:
            yield
        except UserError:
            self.clear()
            raise
        except OSError as error:
            self.clear()
            raise CannotWrite(self.output, error) from error
        self.clear()

    def segments(self) -> list[tuple[Path, Path]]:
        """List and data of the segments that are done, from the first on without a gap."""
        done: list[tuple[Path, Path]] = []
        while all(path.is_file() for path in segment_files(self.folder, len(done))):
            done.append(segment_files(self.folder, len(done)))
        return done

    def clear(self) -> None:
        """Remove all that is in it; the folder itself goes when it is closed."""
        clear_job(self.folder)


def digested(value: Any) -> Any:
    """A value for JSON, with a hash in place of every array in it."""
    if isinstance(value, dict):
        return {key: digested(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [digested(each) for each in value]
    return arrays_sha256(value) if isinstance(value, np.ndarray) else value


def digest_of_file(name: str | Path) -> str | None:
    """SHA-256 of a weight file, by its path or by a name to look for in the folders; None where it is in neither."""
    path: Path | None = Path(name).expanduser()
    if path is not None and not path.is_file():
        path = registry.locate(str(name))
    return None if path is None else registry.file_sha256(path)


def stamp_of(path: Path) -> list[str | int]:
    """Where a file lies, its size and when it was changed: tells a changed video without reading it."""
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
