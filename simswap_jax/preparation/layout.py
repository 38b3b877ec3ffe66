"""Where each face lies: with the faces that stay, or with those that were left out, by reason."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from simswap_jax.preparation.crops import FACES

LEFT_OUT = "left_out"


def place_of(file: str, reason: str) -> str:
    """A face's path below the output folder; ``reason`` is empty where it stays."""
    return f"{LEFT_OUT}/{reason.replace(' ', '-')}/{file}" if reason else f"{FACES}/{file}"


def lying(output: Path) -> dict[str, list[str]]:
    """Face → the paths below the output folder where it lies now; first the one with those that stay."""
    found: dict[str, list[str]] = {}
    for path in _walk(output, FACES):
        found.setdefault(path.removeprefix(f"{FACES}/"), []).append(path)
    for path in _walk(output, LEFT_OUT):
        found.setdefault("/".join(path.split("/")[2:]), []).append(path)
    return found


def put_in_place(output: Path, wanted: Mapping[str, str]) -> None:
    """Move every face where it is wanted, and remove those that are not.

    Args:
      output: the folder.
      wanted: face → its path below ``output``. It lies somewhere there already.
    """
    for file, places in lying(output).items():
        place = wanted.get(file)
        if place is None:
            _remove(output, places)
        elif places != [place]:
            target = output / place
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(output / places[0], target)  # the newest is the one among the faces
            _remove(output, [other for other in places[1:] if other != place])
    _remove_empty(output)


def _remove(output: Path, places: Iterable[str]) -> None:
    for place in places:
        (output / place).unlink(missing_ok=True)


def _remove_empty(output: Path) -> None:
    """Remove folders of people that hold nothing any more."""
    for top in (FACES, LEFT_OUT):
        for folder, _, _ in os.walk(output / top, topdown=False):
            if not os.listdir(folder):
                os.rmdir(folder)


def _walk(output: Path, top: str) -> Iterator[str]:
    """The files below a folder, as paths below ``output``, sorted."""
    for folder, folders, files in os.walk(output / top):
        folders.sort()
        below = Path(folder).relative_to(output).as_posix()
        yield from (f"{below}/{file}" for file in sorted(files))
