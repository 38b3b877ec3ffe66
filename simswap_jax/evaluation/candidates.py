"""What is compared: models, other programs' results and baselines, each a row of the table."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import jax
import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.faces.alignment import TEMPLATES, similarity
from simswap_jax.faces.blending import soft_mask
from simswap_jax.inference.swapper import FaceSwapper, check_face
from simswap_jax.io.atomic import json_fingerprint
from simswap_jax.io.folders import warn_of_rest
from simswap_jax.io.images import SUFFIXES, read_picture, resized
from simswap_jax.models import families
from simswap_jax.weights.model_folder import ModelFolder

MODEL, EXTERNAL, WARPED, BASELINE = "model", "results", "warp", "baseline"


@dataclass(frozen=True)
class PairBatch:
    """Some of the pairs, read.

    Attributes:
      indices: which pairs of the protocol, n of them.
      sources, targets: n uint8 RGB squares at the size that is evaluated.
      source_points, target_points: float [n, 5, 2] in sides of the crop, NaN where neither found nor the template's.
      ground_truth: n uint8 RGB squares, where the answers are known.
      target_landmarks: float [n, P, 2] in sides of the crop, where the protocol knows them.
      altered: attribute → the same with this one attribute as the source's picture has it, where they are known.
      source_people, target_people: n names, for models that draw people by name.
    """

    indices: Sequence[int]
    sources: list[np.ndarray]
    targets: list[np.ndarray]
    source_points: np.ndarray
    target_points: np.ndarray
    ground_truth: list[np.ndarray] | None = None
    target_landmarks: np.ndarray | None = None
    altered: Mapping[str, np.ndarray] = field(default_factory=dict)
    source_people: Sequence[str] = ()
    target_people: Sequence[str] = ()


class Candidate(Protocol):
    """Anything that turns pairs into pictures to evaluate."""

    @property
    def key(self) -> str:
        """Its name in the JSON."""

    @property
    def title(self) -> str:
        """Its name in tables."""

    @property
    def kind(self) -> str:
        """``MODEL``, ``EXTERNAL``, ``WARPED`` or ``BASELINE``; a baseline stands in the tables and not on the sheet."""

    @property
    def sha256(self) -> str:
        """The hash of what it is made from."""

    @property
    def shows_source(self) -> bool:
        """Whether its pictures are meant to show the source's identity; else they show the target's."""

    def results(self, batch: PairBatch) -> list[np.ndarray]:
        """One uint8 RGB square for each pair, of the targets' size."""
        ...

    def self_swaps(self, batch: PairBatch) -> list[np.ndarray] | None:
        """The targets swapped with their own identity, where that can be done."""
        ...


@runtime_checkable
class ChoosesSource(Protocol):
    """A candidate that may take another picture of the source's person than the pair's."""

    def pictures_used(self, batch: PairBatch) -> list[str] | None:
        """The picture of each pair, ``person/picture``, in which identity is not searched then; None: the pair's."""
        ...


class ModelCandidate:
    """A model folder. One that knows people, and no identity vectors, draws the sources' people by name.

    ``strength``: how far identities move from the target's own to the source's (1), and beyond.
    """

    kind = MODEL
    shows_source = True

    def __init__(self, key: str, swapper: FaceSwapper, strength: float = 1.0) -> None:
        lacks = swapper.model.card.get("lacks")  # of a method that is not whole here
        self.key, self.title = key, f"{key}, {lacks[:200]}" if isinstance(lacks, str) else key
        self.title += f", strength {strength:g}" if strength != 1.0 else ""
        self.swapper, self.strength = swapper, strength

    @cached_property
    def sha256(self) -> str:
        """The hash of its weights and settings."""
        return model_sha256(self.swapper.model)

    def results(self, batch: PairBatch) -> list[np.ndarray]:
        """Each target with its source's identity."""
        return self._swapped(batch, batch.sources, batch.source_people)

    def self_swaps(self, batch: PairBatch) -> list[np.ndarray] | None:
        """Each target with its own, where it knows all of them."""
        if self.reason_against(batch.target_people):
            return None
        return self._swapped(batch, batch.targets, batch.target_people)

    def reason_against(self, people: Iterable[str]) -> str | None:
        """Why it cannot be shown these people, in one sentence; None where it can."""
        drawn = self.swapper.people
        others = sorted(set(people) - set(drawn)) if drawn else []
        if not others:
            return None
        return (
            f"draws only the {len(drawn)} people it was trained on ({', '.join(drawn[:4])}{', …' * (len(drawn) > 4)}), "
            f"and {len(others)} of the people here are others, '{others[0]}' for one"
        )

    def _swapped(self, batch: PairBatch, shown: list[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        swapper, points = self.swapper, batch.target_landmarks
        if swapper.people:
            vectors = np.stack([swapper.person(name) for name in names])
            return swapper.swap_faces(batch.targets, vectors, strength=self.strength)
        if points is not None and points.shape[1] != getattr(swapper.model.generator, "points", 0):
            points = None
        vectors = swapper.source_vectors(shown)
        return swapper.swap_faces(batch.targets, vectors, strength=self.strength, target_points=points)


def model_sha256(model: ModelFolder) -> str:
    """The hash of all that a model's swaps depend on: weights, configuration, crops and identity network."""
    identity = None if model.identity is None else [model.identity_sha256, model.identity.to_dict()]
    generator = [weights_sha256(model.variables), families.config_to_dict(model.generator)]
    return json_fingerprint([generator, model.face_size, model.alignment, identity])


def weights_sha256(variables: Any) -> str:
    """The hash of a tree of arrays: names and values, in order of the names."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode() + np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


class ExternalResults:
    """Aligned pictures that any other program made: ``<folder>/<index of the pair, five digits>.<png, jpg, …>``."""

    kind = EXTERNAL
    shows_source = True

    def __init__(self, key: str, folder: Path, pairs: int) -> None:
        """Find the pictures.

        Raises:
          UserError: the folder is missing, or does not hold one picture for each pair.
        """
        self.key = self.title = key
        self._files = files_by_pair(folder, pairs)
        self.sha256 = files_sha256(self._files)

    def results(self, batch: PairBatch) -> list[np.ndarray]:
        """Read them."""
        pictures = []
        for index, target in zip(batch.indices, batch.targets):
            picture = read_picture(self._files[index])
            check_face(picture, f"result {self._files[index]}")
            pictures.append(resized(picture, target.shape[0]))
        return pictures

    def self_swaps(self, batch: PairBatch) -> None:
        """There are none."""


def files_by_pair(folder: Path, pairs: int) -> list[Path]:
    """The picture of each pair, in their order.

    Raises:
      UserError: the folder is missing, lacks a picture, or holds one too many.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder of results {folder}; check the path.", "results-missing")
    visible = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    found = {path.stem: path for path in visible if path.suffix.lower() in SUFFIXES}
    names = [f"{index:05d}" for index in range(pairs)]
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(
            f"{folder} has no picture for {len(missing)} of the {pairs} pairs (the first: {missing[0]}.png); "
            "name each result by its pair's index in pairs.json, five digits, from 00000 on.",
            "results-incomplete",
        )
    if len(found) > pairs:
        extra = min(found.keys() - names)
        raise UserError(
            f"{folder} holds {found[extra].name}, which belongs to none of the {pairs} pairs; "
            "evaluate it with the pairs it was made from (--protocol pairs.json).",
            "results-of-other-pairs",
        )
    files = [found[name] for name in names]
    taken = set(files)
    warn_of_rest(
        folder, [path for path in visible if path not in taken], "taken is one picture of each pair, right inside it"
    )
    return files


def files_sha256(files: Sequence[Path]) -> str:
    """The hash of files one after the other."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


SHIFT = 2.0  # pixels of a crop of 112
HUE = 8.0  # degrees of 360


@dataclass(frozen=True)
class Baseline:
    """Pictures made from a pair by a fixed rule.

    Attributes:
      key, title, shows_source, kind, sha256: as of any candidate.
      make: makes them.
      about: what the row tells, for the page.
    """

    key: str
    title: str
    make: Callable[[PairBatch], list[np.ndarray]]
    shows_source: bool = True
    kind: str = BASELINE
    sha256: str = ""
    about: str = ""

    def results(self, batch: PairBatch) -> list[np.ndarray]:
        """Make them."""
        return self.make(batch)

    def self_swaps(self, batch: PairBatch) -> None:
        """There are none."""


def source_pasted(
    source: np.ndarray, target: np.ndarray, source_points: np.ndarray, target_points: np.ndarray
) -> np.ndarray:
    """The source's face, moved by its landmarks onto the target's, in the target's picture, with a soft border.

    Nothing is nearer to the source, and nothing keeps less of the target's face.

    Args:
      source: uint8 RGB [H, H, 3].
      target: uint8 RGB [H, H, 3], whose surroundings stay.
      source_points: float [5, 2] in units of the crop's side; NaN: those of the template `simswap-frontal`.
      target_points: of the target, likewise.
    """
    size = target.shape[0]
    template = TEMPLATES["simswap-frontal"][0]
    start, end = (p if np.isfinite(p).all() else template for p in (source_points, target_points))
    matrix = similarity(start * size - 0.5, end * size - 0.5)
    moved = cv2.warpAffine(source, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    mask = soft_mask(end * size - 0.5, size)[..., None]
    return np.clip(np.round(mask * moved + (1.0 - mask) * target), 0, 255).astype(np.uint8)


def shifted(picture: np.ndarray) -> np.ndarray:
    """Moved to the right by `SHIFT` pixels of 112; what comes in repeats the edge."""
    size = picture.shape[0]
    matrix = np.array([[1.0, 0.0, SHIFT * size / 112.0], [0.0, 1.0, 0.0]])
    return cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def hue_rotated(picture: np.ndarray) -> np.ndarray:
    """Every colour turned by `HUE` degrees of the colour circle."""
    values = cv2.cvtColor(picture.astype(np.float32) / 255.0, cv2.COLOR_RGB2HSV)
    values[..., 0] = (values[..., 0] + HUE) % 360.0
    return np.clip(np.round(cv2.cvtColor(values, cv2.COLOR_HSV2RGB) * 255.0), 0, 255).astype(np.uint8)


def half_resolution(picture: np.ndarray) -> np.ndarray:
    """Shrunk to a half and enlarged again."""
    size = picture.shape[0]
    small = cv2.resize(picture, (size // 2, size // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)


def _target_changed(
    key: str, title: str, about: str, change: Callable[[np.ndarray], np.ndarray] = lambda target: target
) -> Baseline:
    """The target's person still, changed a little or not at all."""
    return Baseline(
        key, title, lambda batch: [change(target) for target in batch.targets], shows_source=False, about=about
    )


def _sources_pasted(batch: PairBatch) -> list[np.ndarray]:
    pairs = zip(batch.sources, batch.targets, batch.source_points, batch.target_points)
    return [source_pasted(*pair) for pair in pairs]


NOISE = "noise floor: what the metrics say of a change that should not matter"
TARGET = _target_changed("target", "untouched target", "nothing of the source, and all of the target")
SOURCE = Baseline("source", "source itself", lambda batch: list(batch.sources))
PASTED = Baseline(
    "pasted",
    "copy-paste baseline",
    _sources_pasted,
    about="the source's face moved by the landmarks onto the target's and softly blended in: identity at any price",
)
BASELINES = (
    TARGET,
    PASTED,
    _target_changed("shift", f"target shifted {SHIFT:g} px of 112", NOISE, shifted),
    _target_changed("hue", f"target's hue rotated {HUE:g}°", NOISE, hue_rotated),
    _target_changed("soft", "target at half resolution", "what the loss of fine detail alone does", half_resolution),
)


def _ground_truth(batch: PairBatch) -> list[np.ndarray]:
    if batch.ground_truth is None:
        raise ValueError("this baseline needs the ground truth, which this protocol does not have.")
    return batch.ground_truth


def interpolated(fraction: float) -> Baseline:
    """A rung between the untouched target (0) and the ground truth (1), mixed pixel by pixel."""

    def mix(batch: PairBatch) -> list[np.ndarray]:
        pairs = zip(batch.targets, _ground_truth(batch))
        return [np.round((1.0 - fraction) * target + fraction * truth).astype(np.uint8) for target, truth in pairs]

    title = f"{fraction:.0%} of the way to the ground truth"
    return Baseline(f"mix_{fraction:g}", title, mix, about="the target mixed with the ground truth")


GROUND_TRUTH = Baseline(
    "truth",
    "ground truth",
    _ground_truth,
    about="the source's identity with the target's attributes: what a perfect swap gets",
)
# The genuine pair, a real picture of the source's identity, is read from the gallery and is no candidate.
GENUINE, GENUINE_TITLE = "witness", "another real photo of the source"
GENUINE_ABOUT = "the upper bound of identity, the only thing measured on it"
