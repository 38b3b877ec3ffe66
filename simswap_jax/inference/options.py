"""What a swap is asked for: frozen dataclasses, built by the command line, by the page and by Python callers alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.io.images import QUALITY
from simswap_jax.provenance.options import MarkOptions as MarkOptions  # beside the others for callers

CHOICES = ("largest", "best", "all")
KEEP = ("mouth", "hair", "front")  # of the target: the mouth, the forehead's hairline, what is in front of the face
BLENDS = ("feather", "poisson")
THRESHOLD = 0.3  # cosine: with MobileFaceNet one person has 0.59 ± 0.14, two people 0.03 ± 0.11
BATCH_SIZE = 16
CRF = 18
STRONGEST = 2.0  # strength: no more was measured (docs/experiments/celeba.md)


@dataclass(frozen=True, eq=False)
class FaceSelection:
    """Which faces are swapped.

    Attributes:
      which: ``"largest"``, ``"best"`` (the detector's most confident), ``"all"``, or ``"named"``: those of ``people``.
      people: for each person an identity vector [D] of theirs, and the source's vector [D]; None: the one source's.

    Raises:
      UserError: another word, or people without "named", or the other way round.
    """

    which: str = "largest"
    people: tuple[tuple[np.ndarray, np.ndarray | None], ...] = ()

    def __post_init__(self) -> None:
        if self.which not in (*CHOICES, "named"):
            raise UserError(
                f"'{self.which}' does not say which faces to swap; choose {', '.join(CHOICES)}, or name a person.",
                "selection-unknown",
            )
        if (self.which == "named") != bool(self.people):
            raise UserError(
                "nobody is named to be swapped; give at least one pair (person, source).", "selection-without-people"
            )

    @classmethod
    def of(cls, faces: Faces) -> FaceSelection:
        """A selection from what is short to write.

        Args:
          faces: ``"largest"``, ``"best"``, ``"all"``; an identity vector [D] of the one person; a mapping
            {vector of theirs: the source's vector}, or such pairs (NumPy arrays cannot be keys; tuples of floats can).
        """
        if isinstance(faces, FaceSelection):
            return faces
        if isinstance(faces, str):
            return cls(faces)
        if isinstance(faces, np.ndarray):
            return cls("named", ((faces, None),))
        pairs = faces.items() if isinstance(faces, Mapping) else faces
        return cls("named", tuple((np.asarray(person, np.float32), source) for person, source in pairs))

    @property
    def has_sources(self) -> bool:
        """Whether every person brings a source of their own."""
        return bool(self.people) and all(source is not None for _, source in self.people)


# What `FaceSelection.of` takes.
Faces = (
    str | np.ndarray | Sequence[tuple[np.ndarray, np.ndarray]] | Mapping[tuple[float, ...], np.ndarray] | FaceSelection
)


@dataclass(frozen=True)
class SwapOptions:
    """How faces are chosen, swapped and pasted back.

    Attributes:
      faces: which of a photo or video.
      threshold: the least cosine by which a face is a named person.
      strength: 0 is the target's own identity, 1 the source's; above 1, to `STRONGEST`, further from the target's.
      match_colour: give the results the mean and spread of the colours that they replace.
      keep: what stays of the target: ``"mouth"``, ``"hair"`` (the forehead's hairline), ``"front"`` (glasses; needs
        the weights of face parsing, with which hair and hands in front of a face stay anyway).
      blend: ``"feather"``, or ``"poisson"`` to carry over gradients instead of colours.
      batch_size: the most faces that go through a network at once.
      source_faces: which face of each source photo gives the identity: its number from the left, or 0 for the largest;
        one number counts for all photos.

    Raises:
      UserError: a value out of its range.
    """

    faces: FaceSelection = field(default_factory=FaceSelection)
    threshold: float = THRESHOLD
    strength: float = 1.0
    match_colour: bool = False
    keep: tuple[str, ...] = ()
    blend: str = BLENDS[0]
    batch_size: int = BATCH_SIZE
    source_faces: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        keep, faces = self.keep, self.source_faces  # one alone may stand without its tuple
        object.__setattr__(self, "keep", (keep,) if isinstance(keep, str) else tuple(keep))
        object.__setattr__(self, "source_faces", (faces,) if isinstance(faces, int) else tuple(faces))
        object.__setattr__(self, "faces", FaceSelection.of(self.faces))
        check_strength(self.strength)
        check_batch_size(self.batch_size)
        if not -1.0 <= self.threshold <= 1.0:
            raise UserError(
                f"the threshold is {self.threshold}; it is a cosine, from −1 to 1 (different people are near 0).",
                "threshold-range",
            )
        if unknown := set(self.keep) - set(KEEP):
            raise UserError(f"'{min(unknown)}' cannot be kept; choose from {', '.join(KEEP)}.", "keep-unknown")
        if self.blend not in BLENDS:
            raise UserError(f"'{self.blend}' is no way to blend; choose {' or '.join(BLENDS)}.", "blend-unknown")

    @property
    def needs_parsing(self) -> bool:
        """Whether face parsing must be there."""
        return "front" in self.keep


@dataclass(frozen=True, eq=False)
class Source:
    """Who gives the identity.

    Attributes:
      vector: v_S of the paper, [D]; None where the named people of a `FaceSelection` bring their own.
      files: the pictures that it comes from; the result's metadata names each by its SHA-256.
    """

    vector: np.ndarray | None
    files: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", tuple(map(Path, self.files)))


@dataclass(frozen=True)
class EncodingOptions:
    """How the frames of a video or an animation are encoded.

    Attributes:
      crf: of x264, from 0 (lossless) to 51 (worst).
      quality: of a WebP animation, 1 to 100.

    Raises:
      UserError: a value out of its range.
    """

    crf: int = CRF
    quality: int = QUALITY

    def __post_init__(self) -> None:
        check_quality(self.quality)
        if not 0 <= self.crf <= 51:
            raise UserError(f"the crf is {self.crf}; it goes from 0 (lossless) to 51 (worst).", "crf-range")


def face_numbers(numbers: int | Sequence[int], photos: int) -> list[int]:
    """Which face of each of some photos is meant: one number for all of them, or one for each.

    Raises:
      UserError: another count, or a number under 0.
    """
    each = [numbers] if isinstance(numbers, int) else list(numbers)
    each = each * photos if len(each) == 1 else each
    if len(each) != photos or any(number < 0 for number in each):
        raise UserError(
            f"there are {photos} source photos and the face numbers {', '.join(map(str, each)) or 'are none'}; "
            "give one number for each photo or one for all: 1 is the face on the left, 0 the largest.",
            "source-face-numbers",
        )
    return each


def check_strength(strength: float) -> None:
    """A UserError unless it is from 0 to `STRONGEST`."""
    if not 0.0 <= strength <= STRONGEST:
        raise UserError(
            f"strength is {strength}; it goes from 0 (the target's own identity) through 1 (the source's) to "
            f"{STRONGEST:g} (as far again beyond the source's).",
            "strength-range",
        )


def check_quality(quality: int) -> None:
    """A UserError unless it is a quality of JPEG and WebP."""
    if not 1 <= quality <= 100:
        raise UserError(f"the quality is {quality}; it goes from 1 to 100.", "quality-range")


def check_batch_size(batch_size: int) -> None:
    """A UserError unless it is at least 1."""
    if batch_size < 1:
        raise UserError(f"the batch size is {batch_size}; it must be at least 1.", "batch-size-range")


DEFAULT_SWAP, DEFAULT_ENCODING = SwapOptions(), EncodingOptions()
