"""One process at a time in a folder."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from simswap_jax.errors import UserError

LOCK = ".lock"  # a file, because NFS locks only what is open for writing


@contextlib.contextmanager
def alone(folder: Path, doing: str) -> Iterator[None]:
    """Make a folder and be the only process that does this to it; the system lets go of it when the process ends.

    Args:
      folder: need not be there yet; a file ``.lock`` stays in it.
      doing: what, for the sentence that another process gets: ``"preparing FOLDER"``.

    Raises:
      UserError: it cannot be made, its disk knows no locks, or another process is at it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); choose another place or make room.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is {doing}; wait for it, or choose another place.") from None
        except OSError as error:
            raise UserError(f"{folder} cannot be locked ({error.strerror}); choose a place on another disk.") from None
        yield
