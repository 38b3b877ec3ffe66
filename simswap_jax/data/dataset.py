"""The data set as the rest of the project sees it: people, whose each picture is, the pictures, who is held out."""

import contextlib
import hashlib
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.io.folders import warn_of_rest
from simswap_jax.io.images import decode_plain, has_picture_ending, is_picture, resize_square


class Records(Protocol):
    """What a TFDS data source looks like from here."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


class PictureCache:
    """Decoded pictures of one size, kept in memory as they are first asked for."""

    def __init__(self, count: int, size: int) -> None:
        # the system gives the memory page by page, as it is written to
        self.pictures: np.ndarray = np.zeros((count, size, size, 3), np.uint8)
        self.present: np.ndarray = np.zeros(count, bool)

    def get(self, row: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The picture of a row, made if it is not there yet. Safe to call from several threads."""
        if not self.present[row]:
            self.pictures[row] = make()
            self.present[row] = True
        return self.pictures[row].copy()


class People:
    """A data set of people: pictures 0 … N−1, each of one person.

    Attributes:
      names: the people's names, sorted.
      person: int32 [N], index into `names`; ascending.
      files: ``person/picture.jpg`` of each picture, below the folder it was built from.
      fingerprint: changes when the pictures or the selection do.
      whole: the fingerprint of all records, selected or not.
    """

    def __init__(
        self,
        records: Records,
        names: Sequence[str],
        person: np.ndarray,
        files: Sequence[str],
        rows: np.ndarray,
        fingerprint: str,
        whole: str = "",
    ) -> None:
        """Args:
        records: all records; shared, never copied.
        names, person, files, fingerprint: as the attributes.
        rows: int64 [N], the record of each picture.
        whole: as the attribute; the fingerprint itself where it is left out.
        """
        self.names = list(names)
        self.person = np.asarray(person, np.int32)
        self.files = list(files)
        self.fingerprint = fingerprint
        self.whole = whole or fingerprint
        self._records = records
        self._rows = rows
        self._cache_bytes = 0
        self._caches: dict[int, PictureCache | None] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.files)

    @property
    def rows(self) -> np.ndarray:
        """int64 [N], which record each picture is."""
        return self._rows

    @property
    def count_of_whole(self) -> int:
        """How many records there are, selected or not."""
        return len(self._records)

    def __repr__(self) -> str:
        return f"People({len(self.names):,} people, {len(self):,} pictures)"

    def encoded(self, index: int) -> bytes:
        """The JPEG or PNG bytes of a picture."""
        return self._records[int(self._rows[index])]["picture"]

    def picture(self, index: int, size: int | None = None) -> np.ndarray:
        """A picture, decoded.

        Args:
          index: 0 … N−1.
          size: side in pixels of the centred square to return (area-averaged when it shrinks, bicubic when it grows);
            None for the picture as it is.

        Returns:
          uint8 RGB [size,size,3] or [H,W,3].

        Raises:
          UserError: naming the file, when its record cannot be decoded.
        """
        if size is None:
            return self._decode(index)
        cache = self._cache(size)
        if cache is None:
            return resize_square(self._decode(index), size)
        return cache.get(index, lambda: resize_square(self._decode(index), size))

    def select(self, names: Iterable[str]) -> "People":
        """The same data set with only these people; records are shared, `person` counts anew.

        Raises:
          UserError: for a name that is not there, or no name at all.
        """
        wanted = set(names)
        if missing := sorted(wanted - set(self.names)):
            raise UserError(
                f"The data set has no person {missing[0]!r}; choose from its {len(self.names)} folders of people.",
                "no-such-person",
            )
        if not wanted:
            raise UserError(
                "The selection holds no people; choose another held-out fraction or add people.", "nobody-selected"
            )
        keep = np.array([name in wanted for name in self.names])
        return self._subset(np.flatnonzero(keep[self.person]), keep)

    def without(self, files: Iterable[str]) -> "People":
        """The same data set without these pictures; whoever has no other is left out, too.

        Raises:
          UserError: no picture is left.
        """
        away = set(files)
        chosen = np.array([i for i, file in enumerate(self.files) if file not in away], np.int64)
        if not len(chosen):
            raise UserError(
                "All pictures are held out; choose a smaller config.data.held_out_pictures.", "no-pictures-left"
            )
        return self._subset(chosen, np.isin(np.arange(len(self.names)), self.person[chosen]))

    def _subset(self, chosen: np.ndarray, keep: np.ndarray) -> "People":
        """Some of the pictures, int [M] ascending, and the people that are kept, bool [people]; both counted anew."""
        new_number = np.cumsum(keep) - 1
        rows = self._rows[chosen]
        people = People(
            self._records,
            [name for name, kept in zip(self.names, keep) if kept],
            new_number[self.person[chosen]],
            [self.files[i] for i in chosen],
            rows,
            hashlib.sha256(self.fingerprint.encode() + rows.tobytes()).hexdigest(),
            self.whole,
        )
        return people.remember(self._cache_bytes)

    def remember(self, max_bytes: int) -> "People":
        """From now on keep decoded pictures in memory, for every size at which the whole data set takes at most
        `max_bytes`.

        Returns:
          itself.
        """
        self._cache_bytes = max_bytes
        self._caches.clear()
        return self

    def _cache(self, size: int) -> PictureCache | None:
        if size not in self._caches:
            with self._lock:
                if size not in self._caches:
                    fits = len(self) * size * size * 3 <= self._cache_bytes
                    self._caches[size] = PictureCache(len(self), size) if fits else None
        return self._caches[size]

    def _decode(self, index: int) -> np.ndarray:
        return decode_plain(self.encoded(index), self.files[index])


def held_out(names: Iterable[str], fraction: float, seed: int = 0) -> list[str]:
    """The names that are kept from training, in the order given.

    Each name decides on its own, so that adding people moves nobody from one side to the other: a person is held out
    when ``crc32(f"{seed}/{name}") / 2**32 < fraction``.

    Args:
      names: people's names; or pictures', ``person/picture``.
      fraction: about what part of them, 0 to 1.
      seed: another seed, another choice.

    Raises:
      ValueError: when the fraction is not between 0 and 1.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"The held-out fraction is {fraction}; give one between 0 and 1.")
    return [name for name in names if _position(name, seed) < fraction]


def _position(name: str, seed: int) -> float:
    return zlib.crc32(f"{seed}/{name}".encode("utf-8", "surrogateescape")) / 2**32


RECORDS_VERSION = "1.0.0"  # of the records that are built of a folder


def list_people(root: str | os.PathLike) -> dict[str, list[Path]]:
    """The picture files of `<root>/<person>/<picture>`, by person, both in the order of their names.

    Hidden files are passed over. Others that are not called pictures, and those in other folders, are not taken: the
    log names and counts them. A person without a picture has an empty list.

    Raises:
      UserError: when the folder is missing, empty, or not one of people.
    """
    root = Path(root)
    if not root.exists():
        raise UserError(
            f"There is no folder {root}; give the folder that holds one folder of pictures for each person.",
            "no-folder",
        )
    if not root.is_dir():
        raise UserError(
            f"{root} is a file; give the folder that holds one folder of pictures for each person.", "folder-is-file"
        )
    entries = _visible(root)
    people: dict[str, list[Path]] = {}
    rest = [entry for entry in entries if not entry.is_dir()]
    for folder in (entry for entry in entries if entry.is_dir()):
        people[folder.name] = []
        for file in _visible(folder):
            (people[folder.name] if is_picture(file) else rest).append(file)
    if any(people.values()):
        warn_of_rest(root, rest, "taken are pictures named <person>/<picture>, right inside a person's folder")
        return people
    layout = f"put each person's pictures in a folder of their own, {root}/<person>/<picture>"
    if not entries:
        raise UserError(f"{root} is empty; {layout}.", "folder-empty")
    if any(is_picture(entry) for entry in entries):
        raise UserError(f"{root} holds pictures but no folders of people; {layout}.", "no-person-folders")
    for person in people:
        if any(child.is_dir() and any(map(is_picture, _visible(child))) for child in _visible(root / person)):
            raise UserError(
                f"The pictures in {root} lie one level too deep; did you mean {root / person}?", "folder-too-deep"
            )
    raise UserError(f"There is no picture file in the folders of {root}; {layout} (jpg, png, webp, …).", "no-pictures")


def folder_fingerprint(root: Path, min_side: int = 16) -> str:
    """A hash of every picture's name, size and time of change, and of what decides which are left out.

    Of millions of pictures only one person's are in memory at a time.

    Args:
      root: as of `list_people`, in whose order pictures count.
      min_side: of a picture that is taken, in pixels.

    Raises:
      UserError: a folder cannot be listed.
    """
    digest = hashlib.sha256(f"{RECORDS_VERSION} {min_side}\n".encode())
    for folder in _entries(root):
        if not folder.is_dir():
            continue
        for file in _entries(folder.path):
            if not has_picture_ending(file.name) or file.is_dir():
                continue
            with contextlib.suppress(OSError):  # a dangling link is reported when it is read
                status = file.stat()
                digest.update(
                    f"{folder.name}/{file.name} {status.st_size} {status.st_mtime_ns}\n".encode(
                        "utf-8", "surrogateescape"
                    )
                )
    return digest.hexdigest()


def _visible(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(folder)]


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """What of a folder is not hidden, by name."""
    try:
        with os.scandir(folder) as entries:
            return sorted((one for one in entries if not one.name.startswith(".")), key=lambda one: one.name)
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be listed ({error.strerror}); check its permissions.", "folder-unreadable"
        ) from None
