"""One process at a time in a folder."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from simswap_jax.errors import UserError
from simswap_jax.io.atomic import explain_write_errors

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
