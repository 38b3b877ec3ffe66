"""The rows of the table: models, other programs' pictures, and controls. Each turns pairs into pictures to judge."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation import baselines
from simswap_jax.inference.swapper import FaceSwapper, check_face, resized
from simswap_jax.io.images import SUFFIXES, read_picture

MODEL, GIVEN, CONTROL = "model", "results", "control"


@dataclass(frozen=True)
class Chunk:
    """Some of the pairs, read.

    Attributes:
      numbers: which pairs of the protocol.
      sources, targets: uint8 RGB squares at the size that is judged.
      source_points, target_points: float [n, 5, 2] in sides of the crop, NaN where unknown.
      truths: the true answers, where they are known.
    """

    numbers: Sequence[int]
    sources: list[np.ndarray]
    targets: list[np.ndarray]
    source_points: np.ndarray
    target_points: np.ndarray
    truths: list[np.ndarray] | None = None


class Row(Protocol):
    """Attributes:
    key: its name in the JSON.
    title: in tables.
    kind: ``MODEL``, ``GIVEN`` or ``CONTROL``.
    sha256: of what it is made from.
    """

    key: str
    title: str
    kind: str
    sha256: str

    def results(self, chunk: Chunk) -> list[np.ndarray]:
        """One uint8 RGB square for each pair, of the targets' size."""
        ...

    def copies(self, chunk: Chunk) -> list[np.ndarray] | None:
        """The targets swapped with their own identity, where that can be done."""
        ...


class ModelRow:
    """A model folder."""

    kind = MODEL

    def __init__(self, key: str, swapper: FaceSwapper) -> None:
        self.key = self.title = key
        self.swapper = swapper
        self.sha256 = weights_sha256(swapper.model.variables)

    def results(self, chunk: Chunk) -> list[np.ndarray]:
        """Each target with its source's identity."""
        return self.swapper.swap_faces(chunk.targets, self.swapper.identity_vectors(chunk.sources))

    def copies(self, chunk: Chunk) -> list[np.ndarray]:
        """Each target with its own."""
        return self.swapper.swap_faces(chunk.targets, self.swapper.identity_vectors(chunk.targets))


class GivenRow:
    """Aligned pictures that any other program made: ``<folder>/<number of the pair, five digits>.<png, jpg, …>``."""

    kind = GIVEN

    def __init__(self, key: str, folder: Path, pairs: int) -> None:
        self.key = self.title = key
        if not folder.is_dir():
            raise UserError(f"there is no folder of results {folder}; check the path.")
        found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}
        missing = [number for number in range(pairs) if f"{number:05d}" not in found]
        if missing:
            raise UserError(
                f"{folder} has no picture for {len(missing)} of the {pairs} pairs (the first: {missing[0]:05d}.png); "
                "name each result by its pair's number in pairs.json, five digits, from 00000 on."
            )
        if len(found) > pairs:
            extra = next(stem for stem in found if not (stem.isdigit() and int(stem) < pairs))
            raise UserError(
                f"{folder} holds {found[extra].name}, which belongs to none of the {pairs} pairs; "
                "judge it with the pairs it was made from (--protocol pairs.json)."
            )
        self._files = [found[f"{number:05d}"] for number in range(pairs)]
        self.sha256 = files_sha256(self._files)

    def results(self, chunk: Chunk) -> list[np.ndarray]:
        """Read them."""
        pictures = []
        for number, target in zip(chunk.numbers, chunk.targets):
            picture = read_picture(self._files[number])
            check_face(picture, f"result {self._files[number]}")
            pictures.append(resized(picture, target.shape[0]))
        return pictures

    def copies(self, chunk: Chunk) -> None:
        """There are none."""


def weights_sha256(variables: Any) -> str:
    """Of a tree of arrays: names and values, in order of the names."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode() + np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def files_sha256(files: Sequence[Path]) -> str:
    """Of files one after the other."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


@dataclass
class ControlRow:
    """What a number can mean: pictures that no model made."""

    key: str
    title: str
    make: Callable[[Chunk], list[np.ndarray]]
    kind: str = CONTROL
    sha256: str = ""

    def results(self, chunk: Chunk) -> list[np.ndarray]:
        """Make them."""
        return self.make(chunk)

    def copies(self, chunk: Chunk) -> None:
        """There are none."""


def _each(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Chunk], list[np.ndarray]]:
    return lambda chunk: [change(target) for target in chunk.targets]


def _pasted(chunk: Chunk) -> list[np.ndarray]:
    places = zip(chunk.sources, chunk.targets, chunk.source_points, chunk.target_points)
    return [baselines.pasted(*place) for place in places]


TARGET = ControlRow("target", "untouched target (floor)", lambda chunk: list(chunk.targets))
SOURCE = ControlRow("source", "source itself", lambda chunk: list(chunk.sources))
CONTROLS = (
    TARGET,
    ControlRow("pasted", "source pasted in (ceiling of identity)", _pasted),
    ControlRow("shift", f"target moved by {baselines.SHIFT:g} px of 112", _each(baselines.shifted)),
    ControlRow("hue", f"target's hue turned by {baselines.HUE:g}°", _each(baselines.other_hue)),
    ControlRow("soft", "target at half its resolution", _each(baselines.softened)),
)
WITNESS, WITNESS_TITLE = "witness", "another photo of the source"
