"""What a long job has done so far, in a folder of its own: the same job takes it up again, another one begins anew."""

import contextlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.io.atomic import explain_write_errors, replacing_file, write_json

LOCK = ".lock"  # a file, because NFS locks only what is open for writing


@contextlib.contextmanager
def exclusive_lock(folder: Path, doing: str) -> Iterator[None]:
    """Make a folder and be the only process that does this to it; the system lets go of it when the process ends.

    Args:
      folder: need not be there yet; a file ``.lock`` stays in it.
      doing: what, for the sentence that another process gets: ``"preparing FOLDER"``.

    Raises:
      UserError: it cannot be made (``"cannot-write"``), its disk knows no locks (``"cannot-lock"``), or another
        process holds the lock (``"locked"``).
    """
    import filelock

    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if filelock.FileLock is not filelock.SoftFileLock:  # which a file that is there already keeps out
            (folder / LOCK).touch()
    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"another process is {doing}; wait for it, or choose another place.", "locked") from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        sentence = f"{folder} cannot be locked ({reason}); choose a place on another disk."
        raise UserError(sentence, "cannot-lock") from None
    try:
        yield
    finally:
        lock.release()


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


def read(path: str | os.PathLike) -> list[Any]:
    """The values of a file's whole lines, up to the first that is damaged; none where there is no file."""
    return [value for value, _ in _whole_lines(Path(path))]


def recover(path: str | os.PathLike) -> list[Any]:
    """As `read`, and the file ends there: what is damaged is cut off."""
    path = Path(path)
    lines = _whole_lines(path)
    if path.exists():
        os.truncate(path, sum(length for _, length in lines))
    return [value for value, _ in lines]


def append(path: str | os.PathLike, values: Iterable[Any]) -> None:
    """Add lines to a file, which is made where there is none; a last line that was cut short goes first."""
    with Path(path).open("a+b") as file:
        _drop_torn_line(file)
        file.writelines((json.dumps(value) + "\n").encode() for value in values)


def _whole_lines(path: Path) -> list[tuple[Any, int]]:
    """(value, bytes of its line) of each line that ends and can be read."""
    found: list[tuple[Any, int]] = []
    try:
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                found.append((json.loads(line), len(line)))
    except (FileNotFoundError, ValueError):  # json's and Unicode's errors are ValueErrors
        pass
    return found


def _drop_torn_line(file: Any) -> None:
    """Cut a file, open for appending, after its last newline."""
    size = end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - (65536 if end < size else 1))
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        file.truncate(end)
