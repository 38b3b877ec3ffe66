"""Where photos come from: folders of people, a flat folder with a list of names, or a public data set.

The public data sets stand in ``configs/datasets``: how they lie on disk, their terms, and what to prepare them with.
"""

import csv
import functools
import importlib.resources
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from simswap_jax.data.dataset import list_people
from simswap_jax.errors import UserError
from simswap_jax.faces.alignment import TEMPLATES
from simswap_jax.io.folders import files_below, warn_of_rest

FORMATS = ("jpg", "png")

# Reason → what the report says about it. Each photo that is left out has one of them.
REASONS: dict[str, str] = {
    "unreadable": "the file is no picture, damaged or gone",
    "not read here": "this machine lacks the package or the memory for it; the same command tries again",
    "small picture": "a side of the photo is too short",
    "no face": "the detector finds none",
    "doubtful face": "the detector is not sure that it is a face",
    "small face": "the crop would be an enlargement",
    "several faces": "a second face is about as large, so it is unclear who is meant",
    "turned away": "the face is turned too far: its landmarks fit no pose of the template",
    "cut off": "eyes, nose or mouth lie outside the photo",
    "blurred": "the face has no fine detail",
    "duplicate": "the same shot of this person is there already, larger or by an earlier name",
    "wrong person": "the identity network finds somebody else than in the person's other photos",
    "two people": "the same shot stands under two people's names, so one of them is wrong",
}


@dataclass(frozen=True)
class Settings:
    """How faces are cut out, and what is left out.

    Attributes:
      size: side of the crops in pixels.
      template: a name of ``faces.alignment.TEMPLATES``.
      format: of the crops: "jpg" (quality 95, full colour) or "png".
      least_picture: pixels of a photo's shorter side; SimSwap's training data has 250.
      least_score: of the detector, 0 to 1.
      most_enlarged: pixels of the crop per pixel of the photo, along a line.
      most_turned: root mean square distance of the landmarks from the template, in units of the crop's side.
      least_sharpness: variance of the Laplacian over that of the grey values, at 112 pixels.
      rival: area of the second largest face over the largest from which it is unclear who is meant.
      keep_duplicates: leave the same shot in, e.g. for the frames of a video.
      wrong_below: cosine to the person's other photos under which a face is somebody else's.
    """

    size: int = 224
    template: str = "simswap"
    format: str = "jpg"
    least_picture: int = 250
    least_score: float = 0.8
    most_enlarged: float = 2.0
    most_turned: float = 0.08
    least_sharpness: float = 0.02
    rival: float = 0.8
    keep_duplicates: bool = False
    wrong_below: float = 0.25

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            raise UserError(
                f"there is no template '{self.template}'; choose one of {', '.join(TEMPLATES)}.", "no-template"
            )
        if self.format not in FORMATS:
            raise UserError(
                f"faces are not written as '{self.format}'; choose one of {', '.join(FORMATS)}.", "no-face-format"
            )
        if not 16 <= self.size <= 4096:
            raise UserError(f"the size of the faces is {self.size}; it goes from 16 to 4096 pixels.", "setting-range")
        for name, least, most in LIMITS:
            value = getattr(self, name)
            if not (math.isfinite(value) and least <= value <= most):
                raise UserError(
                    f"{name.replace('_', ' ')} is {value}; it goes from {least} to {most}.", "setting-range"
                )

    def to_dict(self) -> dict[str, Any]:
        """Field → value, for JSON."""
        return asdict(self)


LIMITS = (
    ("least_picture", 1, 100_000),
    ("least_score", 0.0, 1.0),
    ("most_enlarged", 0.01, 100.0),
    ("most_turned", 0.0, 10.0),
    ("least_sharpness", 0.0, 10.0),
    ("rival", 0.0, 1.0),
    ("wrong_below", -1.0, 1.0),
)


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
      names: a text file of lines ``file,person`` or, without spaces in either, ``file person``; a first line of
        headings is passed over.

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
        listed = dict(_read_names(names))
        files = sorted((person, root / file) for file, person in listed.items())
        warn_of_rest(root, files_below(root, listed), f"taken are those that {names} names")
    return list(_named(files))


def _read_names(path: Path) -> Iterator[tuple[str, str]]:
    """(file, person) of every line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise _bad_names(f"the list of names {path} cannot be read ({error.strerror}); check the path.") from None
    except UnicodeDecodeError:
        raise _bad_names(f"{path} is no text in UTF-8; give a list of lines file,person.") from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    seen: set[str] = set()
    for number, line in lines:
        words = [word.strip() for word in (next(csv.reader([line])) if "," in line else line.split())]
        if number == lines[0][0] and words and "." not in words[0]:
            continue  # headings
        if len(words) < 2 or ("," not in line and len(words) > 2) or not words[0] or not words[1]:
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
