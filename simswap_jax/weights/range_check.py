"""Which input normalization a generator was trained in, found out on faces.

Nothing in a weight file tells `unit` from `imagenet`. But a generator that is given a face and that face's own identity
draws the face again, if it sees and gives the values that it was trained on, and stripes or masks if not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simswap_jax.io.contact_sheet import contact_sheet
from simswap_jax.io.images import resize_square
from simswap_jax.models import families
from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.models.normalization import CONVENTIONS, denormalize, normalize

ALIKE = 0.6  # least correlation of a drawing that shows the face
CLEARLY = 0.7  # the better drawing is at most this part as far from the face as the other


@dataclass(frozen=True)
class Drawing:
    """The face drawn again under one convention.

    Attributes:
      picture: uint8 RGB [S,S,3].
      distance: mean |result − face|, of values in [0,1]; what leaves [0,1] counts in full.
      likeness: correlation of result and face, each channel less its mean, −1 to 1.
    """

    picture: np.ndarray
    distance: float
    likeness: float


@dataclass(frozen=True)
class Finding:
    """What faces told.

    Attributes:
      faces: the faces as the generator saw them, uint8 RGB [S,S,3] each.
      drawings: convention → a drawing of each face.
      convention: the one under which the results look like the faces, on average over them; None where neither does,
        or both do alike.
    """

    faces: Sequence[np.ndarray]
    drawings: Mapping[str, Sequence[Drawing]]
    convention: str | None

    def figures(self, number: int | None = None) -> str:
        """Distance and likeness under each convention, of one face or on average, for people."""
        faces = "faces" if number is None and len(self.faces) > 1 else "face"
        told = {name: _average(some if number is None else [some[number]]) for name, some in self.drawings.items()}
        return ", ".join(
            f"{name}: {one.distance:.3f} from the {faces}, correlation {one.likeness:.2f}" for name, one in told.items()
        )

    def sentence(self) -> str:
        """The finding for people."""
        several = len(self.faces) > 1
        faces, one = ("faces", "ones") if several else ("face", "one")
        figures = self.figures() + (" on average" if several else "")
        if self.convention is not None:
            return f"{self.convention} looks like the {faces} ({figures})"
        if max(_average(some).likeness for some in self.drawings.values()) < ALIKE:
            return f"neither looks like the {faces} ({figures}): give {one} aligned as the generator wants"
        return f"both look much alike ({figures}): look at the picture and say which"

    def sheet(self) -> np.ndarray:
        """Each face and its drawings in a row, uint8 RGB."""
        rows = list(zip(self.faces, *([drawing.picture for drawing in some] for some in self.drawings.values())))
        return contact_sheet(rows, ["the face", *self.drawings])


def check(
    config: Any,
    variables: Mapping[str, Any],
    network: IdentityNetwork,
    identity_variables: Mapping[str, Any],
    faces: Sequence[np.ndarray],
    size: int,
) -> Finding:
    """Draws faces with their own identities under every convention and says which results look like them.

    Args:
      config: of a generator that takes an identity vector, of any family; its convention is not looked at.
      variables: its Flax variables.
      network, identity_variables: the identity network that it was trained with.
      faces: one or several face crops aligned as the generator wants, uint8 RGB [H,W,3]; the averages decide.
      size: of the crops that the generator was trained on, pixels.
    """
    squares = [resize_square(face, size) for face in faces]
    pictures = [jnp.asarray(square, jnp.float32)[None] / 255.0 for square in squares]
    embed = jax.jit(lambda v, x: network.embed(v, x, network.config.swap_resize))
    vectors = [embed(identity_variables, picture) for picture in pictures]
    drawings = {}
    for convention in CONVENTIONS:
        apply = jax.jit(families.build(replace(config, convention=convention)).apply)
        drawings[convention] = [
            _compared(
                np.asarray(
                    denormalize(apply(variables, normalize(picture, convention), {"vector": vector}), convention)
                ),
                np.asarray(picture),
            )
            for picture, vector in zip(pictures, vectors)
        ]
    return Finding(squares, drawings, _verdict({name: _average(some) for name, some in drawings.items()}))


def _average(drawings: Sequence[Drawing]) -> Drawing:
    """The mean distance and likeness of drawings, with the picture of the first."""
    distance, likeness = (float(np.mean([getattr(one, name) for one in drawings])) for name in ("distance", "likeness"))
    return Drawing(drawings[0].picture, distance, likeness)


def _compared(result: np.ndarray, face: np.ndarray) -> Drawing:
    """A result beside its face, both [1,S,S,3] in [0,1]."""
    result, face = result[0], face[0]
    result = np.nan_to_num(result, nan=0.0, posinf=1e3, neginf=-1e3)
    both = np.stack([(x - x.mean((0, 1))).ravel() for x in (result, face)])
    likeness = float(np.corrcoef(both)[0, 1]) if both.std(axis=1).min() > 1e-6 else 0.0
    picture = np.round(np.clip(result, 0.0, 1.0) * 255.0).astype(np.uint8)
    return Drawing(picture, float(np.abs(result - face).mean()), likeness)


def _verdict(drawings: Mapping[str, Drawing]) -> str | None:
    best, other = sorted(drawings, key=lambda name: drawings[name].distance)
    clear = drawings[best].distance <= CLEARLY * drawings[other].distance
    return best if clear and drawings[best].likeness >= ALIKE else None
