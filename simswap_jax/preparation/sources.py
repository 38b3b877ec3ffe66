"""Where photos come from: folders of people, a flat folder with a list of names, or a public data set.

The public data sets stand in ``configs/datasets``: how they lie on disk, their terms, and what to prepare them with.
"""

import csv
import functools
import importlib.resources
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from simswap_jax.data.dataset import list_people
from simswap_jax.errors import UserError
from simswap_jax.preparation.settings import Settings


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo of a person.

    Attributes:
      person: who is said to be in it.
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
            raise UserError(
                f"there is no folder {root}; give the folder that {names} names the photos of.", "no-folder"
            )
        files = sorted((person, root / file) for file, person in _read_names(names))
    return list(_named(files))


def _read_names(path: Path) -> Iterator[tuple[str, str]]:
    """(file, person) of every line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise _bad_names(f"the list of names {path} cannot be read ({error.strerror}); check the path.") from None
    except UnicodeDecodeError:
        raise _bad_names(f"{path} is no text in UTF-8; give a list of lines file,person.") from None
    lines = [line for line in text.splitlines() if line.strip()]
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        words = [word.strip() for word in (next(csv.reader([line])) if "," in line else line.split())]
        if number == 1 and words and "." not in words[0]:
            continue  # headings
        if len(words) < 2 or not words[0] or not words[1]:
            raise _bad_names(f"line {number} of {path} is '{line[:60]}'; each line should say file,person.")
        file, person = words[:2]
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise _bad_names(f"line {number} of {path} names {file}; name files inside the folder of photos.")
        if person.startswith(".") or "/" in person or "\\" in person:
            raise _bad_names(
                f"line {number} of {path} has the person '{person}'; a name makes a folder, so no slashes."
            )
        if file in seen:
            raise _bad_names(f"line {number} of {path} names {file} a second time; name each photo once.")
        seen.add(file)
        yield file, person
    if not seen:
        raise _bad_names(f"{path} names no photo; its lines should say file,person.")


def _bad_names(sentence: str) -> UserError:
    return UserError(sentence, "bad-list-of-names")


def _named(files: list[tuple[str, Path]]) -> Iterator[Photo]:
    """Photos with the names of their faces; where files differ in ending or folder only, that stays in the name."""
    stems = Counter((person, path.stem) for person, path in files)
    names = Counter((person, path.name) for person, path in files)
    taken: Counter[str] = Counter()
    for person, path in files:
        stem = path.stem if stems[person, path.stem] == 1 else path.name
        if names[person, path.name] > 1:
            stem = f"{path.parent.name}-{path.name}"
        name = f"{person}/{stem}"
        taken[name] += 1
        yield Photo(person, path, name if taken[name] == 1 else f"{name}-{taken[name]}")


@dataclass(frozen=True)
class Dataset:
    """One public data set.

    Attributes:
      name: of its file in ``configs/datasets``.
      title, content: what it is called and holds.
      origin: where a person gets it.
      terms: what its publishers ask for.
      layout: how it lies on disk.
      before: what to do first; empty where nothing.
      photos: folder of the photos below the one that was downloaded; "" for that one.
      names: list of names below it; "" where folders say whose photos they are.
      settings: those that differ from ``Settings()``.
      command: the command that prepares it.
    """

    name: str
    title: str
    content: str
    origin: str
    terms: str
    layout: str
    photos: str
    names: str
    settings: Mapping[str, Any]
    command: str
    before: str = ""

    def places(self, downloaded: Path) -> tuple[Path, Path | None]:
        """The folder of the photos and the list of names."""
        return downloaded / self.photos, downloaded / self.names if self.names else None

    def about(self) -> str:
        """A few lines for a terminal."""
        first = f"\nfirst:   {self.before}" if self.before else ""
        where = f"from:    {self.origin}\nterms:   {self.terms}\nlayout:  {self.layout}"
        return f"{self.title}: {self.content}\n{where}{first}"


@functools.cache
def datasets() -> dict[str, Dataset]:
    """Name → data set.

    Raises:
      ValueError: a file of ``configs/datasets`` has a field that is not known, or lacks one.
    """
    import yaml

    folder = importlib.resources.files("simswap_jax.configs") / "datasets"
    found = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            name = file.name.removesuffix(".yaml")
            described = yaml.safe_load(file.read_text(encoding="utf-8"))
            try:
                found[name] = Dataset(name, **{key: _one_line(value) for key, value in described.items()})
            except TypeError as error:
                raise ValueError(f"configs/datasets/{file.name}: {error}") from error
            unknown = set(found[name].settings) - {field.name for field in fields(Settings)}
            if unknown:
                raise ValueError(f"configs/datasets/{file.name}: there is no setting {', '.join(sorted(unknown))}")
    return found


def dataset(name: str) -> Dataset:
    """A data set by name.

    Raises:
      UserError: there is none of that name.
    """
    if name not in datasets():
        raise UserError(
            f"the data set '{name}' is not described here; there are {', '.join(datasets())}.", "no-such-dataset"
        )
    return datasets()[name]


def _one_line(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value
