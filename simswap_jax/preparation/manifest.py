"""What became of each photo, a line each: written as it happens, read again after a kill, sorted at the end."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from simswap_jax.errors import UserError
from simswap_jax.weights.files import replacing


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one photo. Where it was refused, ``reason`` and ``detail`` say why and the numbers are empty.

    Attributes:
      file: of the face, ``person/picture.jpg``.
      photo: the path of the photo.
      stamp: its bytes and time of change; another stamp, another photo.
      landmarks: ten numbers, x and y in the face's pixels.
      hash, photo_hash: 64 hex digits each.
    """

    file: str
    photo: str
    stamp: str
    reason: str = ""
    detail: str = ""
    landmarks: tuple[float, ...] = ()
    score: float = 0.0
    enlarged: float = 0.0
    sharpness: float = 0.0
    hash: str = ""
    photo_hash: str = ""

    @property
    def person(self) -> str:
        """Whose face it is said to be."""
        return self.file.split("/")[0]

    def line(self) -> str:
        """As JSON on one line, without what is empty."""
        return json.dumps({name: value for name, value in asdict(self).items() if value}, ensure_ascii=True) + "\n"


class Journal:
    """A file of lines: the head says with which settings, the others are `Seen`.

    A line that was being written when the process was killed is dropped when it is opened again.
    """

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        """Open or begin a journal.

        Raises:
          UserError: it was begun with another head.
        """
        self.path, self.head = path, json.dumps(head, sort_keys=True) + "\n"
        self.seen: dict[str, Seen] = {}
        whole = self._read()
        self._stream = path.open("r+b" if whole else "wb")
        self._stream.truncate(whole)
        self._stream.seek(whole)
        if not whole:
            self._stream.write(self.head.encode())

    def _read(self) -> int:
        """Read what is there; returns how many bytes of it are whole lines."""
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return 0
        if not lines or not lines[0].endswith(b"\n"):
            return 0
        if lines[0] != self.head.encode():
            raise UserError(
                f"{self.path.parent} was begun otherwise ({_difference(lines[0], self.head)}); "
                "go on with the same options, or choose another output folder."
            )
        whole = len(lines[0])
        for line in lines[1:]:
            try:
                fields = json.loads(line)
                one = Seen(**{**fields, "landmarks": tuple(fields.get("landmarks", ()))})
            except (ValueError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            self.seen[one.file] = one
            whole += len(line)
        return whole

    def add(self, entries: Iterable[Seen]) -> None:
        """Note what became of some photos."""
        for one in entries:
            self.seen[one.file] = one
            self._stream.write(one.line().encode())
        self._stream.flush()

    def sort(self, files: Sequence[str]) -> None:
        """Leave the lines of these faces only, in their order."""
        self._stream.flush()
        self.seen = {file: self.seen[file] for file in files}
        with replacing(self.path) as temporary, temporary.open("wb") as stream:
            stream.write(self.head.encode())
            stream.writelines(one.line().encode() for one in self.seen.values())

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


def stamp(path: Path) -> str:
    """Bytes and time of change of a file; empty where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def _difference(line: bytes, head: str) -> str:
    """The first field in which two heads differ, in words."""
    try:
        former, now = json.loads(line), json.loads(head)
    except ValueError:
        return "its journal is damaged"
    for name in now:
        if former.get(name) != now[name]:
            return f"{name.replace('_', ' ')} was {former.get(name)} and is now {now[name]}"
    return "its journal is of another version"
