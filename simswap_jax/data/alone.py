"""One process at a time in a folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from simswap_jax.errors import UserError


@contextlib.contextmanager
def alone(folder: Path, doing: str) -> Iterator[None]:
    """Make a folder and be the only process that does this to it; the system lets go of it when the process ends.

    Args:
      folder: need not be there yet.
      doing: what, for the sentence that another process gets: ``"preparing FOLDER"``.

    Raises:
      UserError: it cannot be made, or another process is at it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); choose another place or make room.") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another process is {doing}; wait for it, or choose another place.") from None
        yield
    finally:
        os.close(lock)
