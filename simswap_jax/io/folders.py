"""What lies in a folder and is not taken: counted by ending and named, so that nothing is passed over in silence."""

import logging
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

NAMED = 3  # of each ending
MOST = 100_000  # files that are counted
OWN = {"labels.npz"}  # what this project itself lays into a data set

_log = logging.getLogger(__name__)


def warn_of_rest(root: Path, rest: Iterable[Path], why: str) -> None:
    """Log what of a folder is not done; nothing where nothing is left.

    Args:
      root: the folder that was given.
      rest: files and folders inside it that are not taken.
      why: what is taken, and what to do with the others; ends without a full stop.
    """
    found = describe_rest(root, rest)
    if found:
        _log.warning("simswap-jax: not done, of %s: %s; %s.", root, found, why)


def describe_rest(root: Path, rest: Iterable[Path]) -> str:
    """E.g. ``2 .mp4 (clip.mp4, party.mp4), 3 .jpg (album/1.jpg, album/2.jpg, …)``; empty where nothing is left.

    Args:
      root: the folder by which files are called.
      rest: files, and folders, of which all visible files are meant.
    """
    by_ending: dict[str, list[str]] = {}
    counted = 0
    for path in rest:
        for file in _files(path):
            counted += 1
            if counted > MOST:
                break
            ending = file.suffix.lower() or "without ending"
            by_ending.setdefault(ending, []).append(file.relative_to(root).as_posix())
    parts = [_counted(ending, sorted(names)) for ending, names in sorted(by_ending.items())]
    return ", ".join(parts) + (f", and more than {MOST:,} files in all" if counted > MOST else "")


def files_below(root: Path, taken: Collection[str]) -> list[Path]:
    """The visible files below a folder whose paths below it (with slashes) are not among ``taken``, sorted."""
    return [path for path in _files(root) if path.relative_to(root).as_posix() not in taken]


def _counted(ending: str, names: list[str]) -> str:
    more = ", …" if len(names) > NAMED else ""
    return f"{len(names):,} {ending} ({', '.join(names[:NAMED])}{more})"


def _files(path: Path) -> Iterator[Path]:
    """A file itself, or the visible files below a folder, by name; links to folders are not followed."""
    if not path.is_dir():
        yield from () if path.name in OWN else (path,)
        return
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if not name.startswith(".") and name not in OWN)
