"""What became of each photo, a line each: written as it happens, read again after a kill, sorted at the end."""

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from simswap_jax.errors import UserError
from simswap_jax.io import job_cache
from simswap_jax.io.atomic import replacing_file

FORMER_NAME = "journal.jsonl"  # of the file in the former version


@dataclass(frozen=True, slots=True)
class PhotoRecord:
    """What became of one photo. Where it was rejected, ``reason`` and ``detail`` say why and the measures are empty.

    Attributes:
      file: of the face, ``person/picture.jpg``.
      photo: the path of the photo.
      stamp: its bytes and time of change; another stamp, another photo.
      landmarks: ten coordinates, x and y in the face's pixels.
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

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without what is empty."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "PhotoRecord":
        """Undo `to_dict`.

        Raises:
          TypeError: these are the fields of something else.
        """
        return cls(**{**fields, "landmarks": tuple(fields.get("landmarks", ()))})


class Manifest:
    """A file of JSON lines: the head says with which options, the others are `PhotoRecord`s.

    What a kill cut short is dropped when it is opened again.

    Attributes:
      path: the file.
      head: the options.
      records: by the face's file.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        """Open a manifest or start one.

        Raises:
          UserError: it was started with another head.
        """
        former = path.with_name(FORMER_NAME)
        if former.exists() and not path.exists():
            former.rename(path)
        self.path, self.head = path, json.loads(json.dumps(head))
        self.records: dict[str, PhotoRecord] = {}
        lines = job_cache.recover(path)
        if not lines:
            job_cache.append(path, [self.head])
        elif lines[0] != self.head:
            raise UserError(
                f"{path.parent} was prepared with other options ({_difference(lines[0], self.head)}); "
                "resume with the same options, or choose another output folder.",
                "prepared-with-other-options",
            )
        with contextlib.suppress(TypeError):  # damaged: this photo and those after it are done again
            for fields in lines[1:]:
                record = PhotoRecord.from_dict(fields)
                self.records[record.file] = record

    def add(self, records: Iterable[PhotoRecord]) -> None:
        """Note what became of some photos."""
        records = list(records)
        job_cache.append(self.path, [record.to_dict() for record in records])
        self.records.update((record.file, record) for record in records)

    def sort(self, files: Sequence[str]) -> None:
        """Leave the lines of these faces only, in their order."""
        self.records = {file: self.records[file] for file in files}
        with replacing_file(self.path) as temporary:
            job_cache.append(temporary, [self.head])
            job_cache.append(temporary, (record.to_dict() for record in self.records.values()))


def stamp(path: Path) -> str:
    """Bytes and time of change of a file; empty where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def _difference(former: Any, now: Mapping[str, Any]) -> str:
    """The first option in which two heads differ, in words."""
    for name in now:
        if not isinstance(former, dict) or former.get(name) != now[name]:
            was = former.get(name) if isinstance(former, dict) else None
            return f"{name.replace('_', ' ')} was {was} and is now {now[name]}"
    return "it is of another version"
