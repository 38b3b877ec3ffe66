"""Files and folders that are there whole or not at all: written beside their place, synced, renamed; their SHA-256."""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from simswap_jax.errors import UserError

_log = logging.getLogger(__name__)
_reading_umask = threading.Lock()

SHOWN = 40  # letters of a name that its temporary name begins with; a name may be as long as file systems allow
NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}  # what file systems without fsync answer


class CannotWrite(UserError, OSError):
    """A place that cannot be written, as one sentence; it is an `OSError` too, for callers who know a better sentence.

    Attributes:
      path: the place.
      errno, strerror: of the error behind it.
    """

    def __init__(self, path: str | os.PathLike, error: OSError) -> None:
        reason = error.strerror or str(error)
        super().__init__(f"{path} cannot be written ({reason}); choose another place or make room.", "cannot-write")
        self.path, self.errno, self.strerror = os.fspath(path), error.errno, reason

    def __reduce__(self) -> tuple[Any, ...]:  # it crosses processes, and its sentence is not what it is made of
        return CannotWrite, (self.path, OSError(self.errno, self.strerror))

    def __str__(self) -> str:
        return str(self.args[0])


# As gs:// and, once it went through Path, gs:/; neither Windows' C:/ nor net.onnx:/contract.yaml
ADDRESS = re.compile(r"(?![^:]*\.onnx:)[A-Za-z][A-Za-z0-9+.-]+:/")


def refuse_address(path: str | os.PathLike) -> None:
    """Raise a UserError for ``gs://…`` and other addresses: they would become local folders called ``gs:``."""
    if ADDRESS.match(os.fspath(path)):
        raise UserError(
            f"{os.fspath(path)} is an address, and only folders and files of this computer are read and written; mount "
            "the bucket (gcsfuse, mountpoint-s3) and name the folder, or copy it here.",
            "address-not-supported",
        )


@contextlib.contextmanager
def explain_write_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turn an `OSError` of the block into a `CannotWrite` that names ``path``; refuse addresses before it."""
    refuse_address(path)
    try:
        yield
    except CannotWrite:
        raise
    except OSError as error:
        raise CannotWrite(path, error) from error


@contextlib.contextmanager
def replacing_file(
    path: str | os.PathLike, *, sync: bool = True, temporary_folder: Path | None = None
) -> Iterator[Path]:
    """A temporary name that becomes ``path`` when the block ends well, and is removed when it does not.

    Args:
      path: the file; folders above it are made.
      sync: wait until the disk has it. False for thousands of small files, each of which can be made again.
      temporary_folder: where the temporary file lies, on the same disk; None: beside ``path``, hidden.

    Raises:
      CannotWrite: the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = temporary_folder or path.parent
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{path.name[:SHOWN]}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            if sync:
                _sync(temporary)
            temporary.replace(path)
            if sync:
                _sync_folder(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write a file, whole or not at all. Raises `CannotWrite`."""
    with replacing_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file (UTF-8; file names that are no text keep their bytes), whole or not at all.

    Raises:
      CannotWrite: it cannot be written.
    """
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: str | os.PathLike, value: Any, **options: Any) -> None:
    """Write a value as a JSON file, whole or not at all.

    Args:
      path: the file.
      value: anything that JSON knows.
      options: of ``json.dumps``; one space of indent where nothing is said.

    Raises:
      CannotWrite: it cannot be written.
    """
    write_text(path, json.dumps(value, **{"indent": 1, **options}) + "\n")


@contextlib.contextmanager
def replacing_folder(
    folder: str | os.PathLike,
    names: Sequence[str] = (),
    what: str = "model",
    *,
    optional: Sequence[str] = (),
    sync: bool = True,
) -> Iterator[Path]:
    """An empty folder beside ``folder``, put in its place when the block ends well and removed when it does not.

    What stood there goes only when the new one stands. Files that are none of ours are kept.

    Args:
      folder: its place.
      names: files that a folder that may be replaced has, all of them; any other folder stays. None: only an empty
        folder is replaced.
      what: what the folder holds, for the sentence.
      optional: files of ours that it may have besides.
      sync: as in `replacing_file`.

    Raises:
      UserError: something else stands at that place.
      CannotWrite: it cannot be written.
    """
    folder = Path(folder)
    ours = bool(names) and all(is_file(folder / name) for name in names)
    with explain_write_errors(folder):  # a name that cannot be one
        exists = folder.exists()
    if exists and not ours and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} holds something that is no {what}; choose another place.", "folder-in-use")
    with explain_write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name[:SHOWN]}-", dir=folder.parent))
        try:
            yield fresh
            fresh.chmod(0o777 & ~_umask())
            if sync:
                _sync_tree(fresh)
            _put_in_place(fresh, folder, (*names, *optional))
            if sync:
                _sync_folder(folder.parent)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def say_replaced(outputs: Sequence[str | os.PathLike], folder: str | os.PathLike = "") -> None:
    """Log in one line what of a job's outputs is there already; say it before the job, which replaces it.

    Args:
      outputs: files or folders that the job writes; an empty folder holds nothing that could be lost.
      folder: that holds them all, where they are counted, and each is replaced when its own is done, or stays;
        empty: there is one output, and it is named.
    """
    there = [path for path in map(Path, outputs) if is_file(path) or (is_folder(path) and any(path.iterdir()))]
    if not there:
        return
    if folder:
        named = f"{len(there):,} of {len(outputs):,} results in {os.fspath(folder)}"
        verb, then = "are" if len(there) > 1 else "is", ", and each is replaced when its own is done"
    else:
        named, verb, then = os.fspath(there[0]), "is", " and will be replaced"
    _log.info("simswap-jax: %s %s there already%s.", named, verb, then)


def _put_in_place(fresh: Path, folder: Path, ours: Sequence[str]) -> None:
    """Rename ``fresh`` to ``folder``; the old one goes only when the new one stands, without what is none of ours."""
    if not folder.exists():
        fresh.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name[:SHOWN]}-old-", dir=folder.parent))
    former = old / "former"
    try:
        folder.rename(former)
        try:
            fresh.rename(folder)
        except OSError:
            former.rename(folder)
            raise
        try:
            for kept in former.iterdir():
                if kept.name not in ours and not (folder / kept.name).exists():
                    kept.rename(folder / kept.name)
        except OSError as error:  # the new one stands
            _log.warning("simswap-jax: other files of %s are in %s now (%s).", folder, former, error.strerror)
        else:
            shutil.rmtree(former, ignore_errors=True)
    finally:
        with contextlib.suppress(OSError):  # not empty where something could not be moved
            old.rmdir()


def _sync_tree(folder: Path) -> None:
    """Wait until the disk has every file of a folder, and the folders themselves."""
    for place, _, files in os.walk(folder):
        for name in files:
            _sync(Path(place) / name)
        _sync_folder(Path(place))


def _sync_folder(folder: Path) -> None:
    if sys.platform != "win32":  # there folders cannot be opened, and renames are journaled
        _sync(folder, os.O_RDONLY)


def _sync(path: Path, flags: int = os.O_RDWR) -> None:
    """Wait until the disk has a file; nothing where its file system has no such wait."""
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(handle)


def _umask() -> int:
    with _reading_umask:  # it can be read only by setting it
        mask = os.umask(0)
        os.umask(mask)
    return mask


def is_file(path: Path) -> bool:
    """Whether there is a regular file: no pipe or device, which may wait for ever, and no name too long to be one."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether there is a folder."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def file_sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def arrays_sha256(tree: Any) -> str:
    """SHA-256 of a tree's arrays, of their types and shapes, 64 hexadecimal digits; names in the tree do not count."""
    import jax
    import numpy as np

    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def json_fingerprint(value: Any) -> str:
    """SHA-256 of a JSON value, 64 hexadecimal digits; the order of its keys does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
