"""Which input normalization a generator was trained in, found out on a face.

Nothing in a weight file tells `unit` from `imagenet`. But a generator that is given a face and that face's own identity
draws the face again, if it sees and gives the values that it was trained on, and stripes or masks if not.
"""

from collections.abc import Mapping
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
    """What a face told.

    Attributes:
      face: the face as the generator saw it, uint8 RGB [S,S,3].
      drawings: convention → drawing.
      convention: the one under which the result looks like the face; None where neither does, or both do alike.
    """

    face: np.ndarray
    drawings: dict[str, Drawing]
    convention: str | None

    def sentence(self) -> str:
        """The finding for people."""
        figures = ", ".join(
            f"{name}: {d.distance:.3f} from the face, correlation {d.likeness:.2f}" for name, d in self.drawings.items()
        )
        if self.convention is not None:
            return f"{self.convention} looks like the face ({figures})"
        if max(d.likeness for d in self.drawings.values()) < ALIKE:
            return f"neither looks like the face ({figures}): give one that is aligned as the generator wants"
        return f"both look much alike ({figures}): look at the picture and say which"

    def sheet(self) -> np.ndarray:
        """Face and drawings side by side, uint8 RGB."""
        pictures = [self.face, *(drawing.picture for drawing in self.drawings.values())]
        return contact_sheet([pictures], ["the face", *self.drawings])


def check(
    config: Any,
    variables: Mapping[str, Any],
    network: IdentityNetwork,
    identity_variables: Mapping[str, Any],
    face: np.ndarray,
    size: int,
) -> Finding:
    """Draws a face with its own identity under every convention and says which result looks like it.

    Args:
      config: of a generator that takes an identity vector, of any family; its convention is not looked at.
      variables: its Flax variables.
      network, identity_variables: the identity network that it was trained with.
      face: a face crop aligned as the generator wants, uint8 RGB [H,W,3].
      size: of the crops that the generator was trained on, pixels.
    """
    square = resize_square(face, size)
    picture = jnp.asarray(square, jnp.float32)[None] / 255.0
    method = "nearest" if network.config.family == "arcface" else "bicubic"
    vector = jax.jit(lambda v, x: network.embed(v, x, method))(identity_variables, picture)
    drawings = {}
    for convention in CONVENTIONS:
        generator = families.build(replace(config, convention=convention))
        result = jax.jit(generator.apply)(variables, normalize(picture, convention), {"vector": vector})
        drawings[convention] = _compared(np.asarray(denormalize(result, convention))[0], np.asarray(picture)[0])
    return Finding(square, drawings, _verdict(drawings))


def _compared(result: np.ndarray, face: np.ndarray) -> Drawing:
    result = np.nan_to_num(result, nan=0.0, posinf=1e3, neginf=-1e3)
    both = np.stack([(x - x.mean((0, 1))).ravel() for x in (result, face)])
    likeness = float(np.corrcoef(both)[0, 1]) if both.std(axis=1).min() > 1e-6 else 0.0
    picture = np.round(np.clip(result, 0.0, 1.0) * 255.0).astype(np.uint8)
    return Drawing(picture, float(np.abs(result - face).mean()), likeness)


def _verdict(drawings: Mapping[str, Drawing]) -> str | None:
    best, other = sorted(drawings, key=lambda name: drawings[name].distance)
    clear = drawings[best].distance <= CLEARLY * drawings[other].distance
    return best if clear and drawings[best].likeness >= ALIKE else None
