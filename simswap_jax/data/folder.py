"""A folder of people, ``<root>/<person>/<picture>``: which pictures it holds, and a fingerprint of them."""

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from simswap_jax.errors import UserError
from simswap_jax.io.images import is_picture

RECORDS_VERSION = "1.0.0"  # of the records that are built of a folder


def list_people(root: str | os.PathLike) -> dict[str, list[Path]]:
    """The picture files of `<root>/<person>/<picture>`, by person, both in the order of their names.

    Hidden files and files that are not called pictures are passed over. A person without a picture has an empty list.

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
    people = {folder.name: [f for f in _visible(folder) if is_picture(f)] for folder in entries if folder.is_dir()}
    if any(people.values()):
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


def folder_fingerprint(listing: Mapping[str, Sequence[Path]], min_side: int = 16) -> str:
    """A hash of every file's name, size and time of change, and of what decides which are left out."""
    digest = hashlib.sha256(f"{RECORDS_VERSION} {min_side}\n".encode())
    for person, files in listing.items():
        for file in files:
            with contextlib.suppress(OSError):  # a dangling link is reported when it is read
                status = file.stat()
                digest.update(
                    f"{person}/{file.name} {status.st_size} {status.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
                )
    return digest.hexdigest()


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be listed ({error.strerror}); check its permissions.", "folder-unreadable"
        ) from None
