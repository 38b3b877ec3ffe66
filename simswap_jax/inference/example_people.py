"""The example people that ship: real, consenting, with landmarks and identity vectors, so that a swap needs no network.

They are of the Face Research Lab London Set (CC BY 4.0; ``pretrained/people/README.md`` has the credit).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.faces.alignment import align
from simswap_jax.faces.detection import Face
from simswap_jax.inference.photo import FoundFace
from simswap_jax.inference.swapper import PRETRAINED, FaceSwapper
from simswap_jax.io.contact_sheet import contact_sheet
from simswap_jax.io.images import read_picture
from simswap_jax.provenance.label_xmp import draw_label
from simswap_jax.weights.model_folder import ModelFolder

FOLDER = PRETRAINED / "people"
CREDIT = "DeBruine & Jones (2017), Face Research Lab London Set, doi 10.6084/m9.figshare.5047666.v5, CC BY 4.0"


@dataclass(frozen=True)
class ExamplePicture:
    """A photo of one face: its file, and where the face is in it."""

    path: Path
    face: Face

    def read(self) -> np.ndarray:
        """The photo, uint8 RGB [320, 320, 3]."""
        return read_picture(self.path)


@dataclass(frozen=True)
class ExamplePerson:
    """A person who ships.

    Attributes:
      name: the number in the London Set.
      vector: identity vector of the shipped model's identity network, float32 [128], of length one.
      neutral, smiling: two photos.
    """

    name: str
    vector: np.ndarray
    neutral: ExamplePicture
    smiling: ExamplePicture


def read_people(model: ModelFolder) -> list[ExamplePerson]:
    """The example people, for a model that was trained with the shipped model's identity network.

    Raises:
      UserError: the model takes the vectors of another network.
    """
    described = json.loads((FOLDER / "people.json").read_text(encoding="utf-8"))
    if model.identity_sha256 != described["identity_sha256"]:
        raise UserError(
            f"the example people's identity vectors are not of {model.identity_name or 'this model'}; give pictures "
            "with --source and --target.",
            "example-people-other-identity",
        )
    return [_person(row) for row in described["people"]]


def _person(row: Mapping[str, Any]) -> ExamplePerson:
    neutral, smiling = (
        ExamplePicture(FOLDER / each["file"], Face(tuple(each["box"]), np.array(each["landmarks"]), 1.0))
        for each in row["pictures"]
    )
    return ExamplePerson(row["name"], np.array(row["vector"], np.float32), neutral, smiling)


def swap(swapper: FaceSwapper, source: ExamplePerson, target: ExamplePicture) -> np.ndarray:
    """A target's photo with the source's identity, uint8 RGB [320, 320, 3]; it carries no mark."""
    photo = target.read()
    alignment = align(target.face.landmarks, swapper.model.alignment, swapper.face_size)
    return swapper.photos.swap_chosen(photo, [FoundFace(target.face, alignment)], {0: source.vector})


def swap_sheet(swapper: FaceSwapper, sources: Sequence[ExamplePerson], targets: Sequence[ExamplePerson]) -> np.ndarray:
    """Every source's identity on every target's smiling photo, with the visible label: uint8 RGB [H, W, 3].

    Sources are the columns, by their neutral photos; targets the rows.
    """
    corner = np.full_like(sources[0].neutral.read(), 255)
    rows = [[corner, *(source.neutral.read() for source in sources)]]
    for target in targets:
        swapped = [draw_label(swap(swapper, source, target.smiling)) for source in sources]
        rows.append([target.smiling.read(), *swapped])
    return contact_sheet(rows, ["target", *(f"source {source.name}" for source in sources)])
