"""Which photos there are, and whose: folders of people, or a flat folder and a list of names."""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from simswap_jax.data.folder import list_people
from simswap_jax.errors import UserError


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo of a person.

    Attributes:
      person: whose it is said to be.
      path: of the file.
      name: of the face that is cut out of it, ``person/picture`` without an ending.
    """

    person: str
    path: Path
    name: str


def list_photos(root: Path, names: Path | None = None) -> list[Photo]:
    """The photos of a folder, by person and name.

    Args:
      root: ``<root>/<person>/<picture>``; with ``names``, the folder that its paths start from.
      names: a text file of lines ``file,person`` or ``file person``; a first line of headings is passed over.

    Raises:
      UserError: the folder or list is missing or empty, or a line says no person.
    """
    if names is None:
        files = [(person, path) for person, paths in list_people(root).items() for path in paths]
    else:
        if not root.is_dir():
            raise UserError(f"there is no folder {root}; give the folder that {names} names the photos of.")
        files = sorted((person, root / file) for file, person in _read_names(names))
    return list(_named(files))


def _read_names(path: Path) -> Iterator[tuple[str, str]]:
    """(file, person) of every line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"the list of names {path} cannot be read ({error.strerror}); check the path.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8; give a list of lines file,person.") from None
    lines = [line for line in text.splitlines() if line.strip()]
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        words = [word.strip() for word in (next(csv.reader([line])) if "," in line else line.split())]
        if number == 1 and words and "." not in words[0]:
            continue  # headings
        if len(words) < 2 or not words[0] or not words[1]:
            raise UserError(f"line {number} of {path} is '{line[:60]}'; each line should say file,person.")
        file, person = words[:2]
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise UserError(f"line {number} of {path} names {file}; name files inside the folder of photos.")
        if person.startswith(".") or "/" in person or "\\" in person:
            raise UserError(f"line {number} of {path} has the person '{person}'; a name makes a folder, so no slashes.")
        if file in seen:
            raise UserError(f"line {number} of {path} names {file} a second time; name each photo once.")
        seen.add(file)
        yield file, person
    if not seen:
        raise UserError(f"{path} names no photo; its lines should say file,person.")


def _named(files: list[tuple[str, Path]]) -> Iterator[Photo]:
    """Photos with the names of their faces; where files differ in ending or folder only, that stays in the name."""
    stems = Counter((person, path.stem) for person, path in files)
    names = Counter((person, path.name) for person, path in files)
    taken: Counter[str] = Counter()
    for person, path in files:
        word = path.stem if stems[person, path.stem] == 1 else path.name
        if names[person, path.name] > 1:
            word = f"{path.parent.name}-{path.name}"
        name = f"{person}/{word}"
        taken[name] += 1
        yield Photo(person, path, name if taken[name] == 1 else f"{name}-{taken[name]}")
