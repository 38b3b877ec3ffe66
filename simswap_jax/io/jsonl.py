"""Files of JSON lines that only grow. A last line that a kill cut short is passed over, and dropped before the next."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


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
