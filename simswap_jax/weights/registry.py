"""Where a public weight file lies: the user's folders, the cache, its origin; checked by SHA-256 where one is known.

The files are listed in ``configs/weights.yaml``. Environment: ``SIMSWAP_JAX_WEIGHTS``, folders separated as in PATH;
``XDG_CACHE_HOME``, where fetched files are kept (a temporary folder where it cannot be written);
``SIMSWAP_JAX_OFFLINE=1``, never fetch.
"""

import functools
import hashlib
import importlib.resources
import os
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from simswap_jax.errors import UserError, printable
from simswap_jax.io import user_folders
from simswap_jax.io.atomic import CannotWrite, file_sha256, is_file, is_folder, replacing_file
from simswap_jax.io.progress import to_terminal

__all__ = ["Entry", "catalogue", "file_sha256", "find", "find_by_sha256", "folders", "known", "locate", "locate_sha256"]

ENDINGS = (".pth", ".pt", ".bin", ".tar", ".ckpt", ".safetensors", ".onnx")
SECONDS = 30.0  # without a byte from the origin


@dataclass(frozen=True)
class Entry:
    """A public file of ``configs/weights.yaml``; what is unknown is empty."""

    name: str
    purpose: str
    verbs: tuple[str, ...]
    format: str
    licence: str
    origin: str
    note: str = ""
    url: str = ""
    sha256: str = ""
    size: int = 0  # bytes
    template: str = ""


@functools.cache
def catalogue() -> dict[str, Entry]:
    """File name → entry, in the order of ``configs/weights.yaml``."""
    import yaml

    text = (importlib.resources.files("simswap_jax.configs") / "weights.yaml").read_text(encoding="utf-8")
    entries = yaml.safe_load(text)
    return {name: Entry(name, **{**fields, "verbs": tuple(fields["verbs"])}) for name, fields in entries.items()}


def cache_folder() -> Path | None:
    """Where fetched files are kept; None where this user has no home."""
    folder = user_folders.cache_folder()
    return None if folder is None else folder / "weights"


def folders() -> list[Path]:
    """The folders that are searched, in order: those of SIMSWAP_JAX_WEIGHTS, then the cache."""
    named = [Path(os.path.expanduser(f)) for f in os.environ.get("SIMSWAP_JAX_WEIGHTS", "").split(os.pathsep) if f]
    cache = cache_folder()
    return named if cache is None else [*named, cache]


def offline() -> bool:
    """Whether SIMSWAP_JAX_OFFLINE forbids fetching."""
    return os.environ.get("SIMSWAP_JAX_OFFLINE", "") not in ("", "0")


def locate(name: str) -> Path | None:
    """The first file of that name in the folders, unchecked."""
    return next((folder / name for folder in folders() if is_file(folder / name)), None)


def ready(verb: str) -> list[str]:
    """Names of the known files that a command could use now: they are here, or may be fetched."""
    entries = (entry for entry in catalogue().values() if verb in entry.verbs)
    return [entry.name for entry in entries if locate(entry.name) or (entry.url and not offline())]


def find_network(name_or_path: str | Path, purpose: str) -> Path:
    """A network that is named by a path (of a file or a folder) or, if it is a known or local one, by its file name.

    Args:
      name_or_path: as of `find`.
      purpose: as of `find`.

    Raises:
      UserError: as `find`.
    """
    path = Path(name_or_path).expanduser()
    return path if is_file(path) or is_folder(path) else find(name_or_path, purpose)


def find(name_or_path: str | Path, purpose: str) -> Path:
    """Finds a weight file, fetching a known one where that is allowed.

    Args:
      name_or_path: a path, or a file name to look for in the folders, the cache and ``configs/weights.yaml``.
      purpose: what it is wanted for, e.g. ``"finding faces in photos"``; stands in the sentence when it is missing.

    Raises:
      UserError: it is missing, is not the file known by that name, or could not be fetched.
    """
    path = Path(name_or_path).expanduser()
    if is_file(path):
        return path
    name = str(name_or_path)
    if path.name != name:
        raise UserError(
            f"{printable(path)}, needed for {purpose}, does not exist; give a weight file or the name of a known one.",
            "weight-file-missing",
        )
    entry = catalogue().get(name)
    found = locate(name)
    if found is not None and (entry is None or not entry.sha256 or file_sha256(found) == entry.sha256):
        return found
    if found is not None and found.parent != cache_folder():
        raise UserError(
            f"{found} is not the file known as {name} (its SHA-256 differs from {_short(entry)}); rename or replace "
            "it.",
            "public-weights-differ",
        )
    if entry is None or not entry.url:
        where = f"get it from {entry.origin}" if entry else "name an existing file"
        raise UserError(_missing(name, purpose, where), "public-weights-missing")
    if offline():
        raise UserError(
            _missing(name, purpose, f"get it from {entry.origin} (SIMSWAP_JAX_OFFLINE forbids fetching it)"),
            "public-weights-offline",
        )
    return _fetch(entry, purpose)


def find_by_sha256(sha256: str, name: str, purpose: str) -> Path:
    """Finds the very file that a model folder names.

    Args:
      sha256: of the file.
      name: what it was called.
      purpose: as in `find`.

    Raises:
      UserError: no such file is here, and it could not be fetched.
    """
    if (path := locate_sha256(sha256, name)) is not None:
        return path
    entry = known(sha256)
    if entry is not None and entry.url:
        return find(entry.name, purpose)
    other, entry = locate(name), entry or catalogue().get(name)
    lacking = f"{other} is another file, and none" if other else "no file"
    looked = ", ".join(map(str, folders())) or "any folder that is searched"
    origin = entry.origin if entry else "whoever made the model"
    raise UserError(
        f"{printable(name)}, needed for {purpose}, is missing: {lacking} with the SHA-256 {sha256} lies in {looked}; "
        f"get it from {origin}, and put it there or into a folder named by SIMSWAP_JAX_WEIGHTS.",
        "weights-of-sha256-missing",
    )


def locate_sha256(sha256: str, name: str) -> Path | None:
    """The file in the folders that has this SHA-256, whatever it is called.

    Files called ``name``, or as ``configs/weights.yaml`` calls it, are read first, so that the usual case reads one;
    others only where they are of the known size, or where none is known.
    """
    entry = known(sha256)
    names, size = ([name, entry.name], entry.size) if entry else ([name], 0)
    return next((path for path in _candidates(names, size) if file_sha256(path) == sha256), None)


def known(sha256: str) -> Entry | None:
    """The public file with this SHA-256."""
    return next((entry for entry in catalogue().values() if entry.sha256 == sha256), None)


def _candidates(names: Sequence[str], size: int) -> Iterator[Path]:
    first = [folder / name for name in dict.fromkeys(names) for folder in folders()]
    yield from (path for path in first if is_file(path) and os.access(path, os.R_OK))
    for folder in folders():
        if os.path.isdir(folder) and os.access(folder, os.R_OK):
            files = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS and is_file(path))
            others = (path for path in files if path not in first and size in (0, path.stat().st_size))
            yield from (path for path in others if os.access(path, os.R_OK))


def _missing(name: str, purpose: str, where: str) -> str:
    shown = printable(name)
    return f"{shown}, needed for {purpose}, is missing: {where} and put it into a folder named by SIMSWAP_JAX_WEIGHTS."


def _short(entry: Entry | None) -> str:
    return f"{entry.sha256[:16]}…" if entry else ""


def _fetch(entry: Entry, purpose: str) -> Path:
    """Downloads a file into the cache, or where that cannot be written into a folder for temporary files."""
    refused: Exception | None = None
    for folder in [cache_folder(), user_folders.temporary_folder()]:
        place = None if folder is None else folder / entry.name
        if place is None:
            continue
        if os.path.isfile(place) and file_sha256(place) == entry.sha256:  # of an earlier run, where there is no cache
            return place
        try:
            return _fetch_into(place, entry, purpose)
        except CannotWrite as error:
            refused = error
    where = f"there is no place to keep it ({refused}); get it from {entry.origin}"
    raise UserError(_missing(entry.name, purpose, where), "download-not-kept")


def _fetch_into(place: Path, entry: Entry, purpose: str) -> Path:
    """Downloads a file under a temporary name, checks it, and only then gives it its own."""
    digest = hashlib.sha256()
    with replacing_file(place) as temporary, temporary.open("wb") as file:
        to_terminal(f"fetching {entry.name} ({purpose}; {entry.licence}) from {entry.origin} into {place.parent}")
        for piece in _pieces(entry, purpose):
            digest.update(piece)
            file.write(piece)
        if digest.hexdigest() != entry.sha256:
            reason = f"what came from {entry.url} is not the known file (SHA-256 {digest.hexdigest()[:16]}…)"
            raise UserError(_missing(entry.name, purpose, f"{reason}; get it from {entry.origin}"), "download-differs")
    return place


def _pieces(entry: Entry, purpose: str) -> Iterator[bytes]:
    """The bytes of a file's address, or a sentence why they do not come."""
    try:
        with urllib.request.urlopen(entry.url, timeout=SECONDS) as response:
            while piece := response.read(1 << 20):
                yield piece
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        where = f"{entry.url} could not be fetched ({reason}); get it from {entry.origin}"
        raise UserError(_missing(entry.name, purpose, where), "download-failed") from error
