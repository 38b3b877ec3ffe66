"""What stands for a source where a generator takes its picture: the picture, and landmarks, as one row of numbers.

Such rows go where identity vectors go. Their last number is 1 when they are made, so that a row that was L2-normalised
can be scaled back.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from simswap_jax.data import landmarks
from simswap_jax.errors import UserError
from simswap_jax.faces.alignment import TEMPLATES
from simswap_jax.inference.arrays import check_face
from simswap_jax.io.images import resized
from simswap_jax.models.families import SwapNetwork
from simswap_jax.models.normalization import normalize
from simswap_jax.weights.model_folder import ModelFolder
from simswap_jax.weights.onnx_network import LandmarkNetwork

TARGETS = "target_points"  # of what a generator takes, what comes of the target


def takes_pictures(network: SwapNetwork) -> bool:
    """Whether a generator takes the source's picture."""
    return "picture" in network.takes


def row_size(network: SwapNetwork, size: int) -> int:
    """How many numbers stand for a source."""
    shapes = network.input_shapes(1, size)
    return 1 + sum(math.prod(shape.shape[1:]) for name, shape in shapes.items() if name != TARGETS)


def rows_of(faces: Sequence[np.ndarray], model: ModelFolder, finds: "Landmarks") -> np.ndarray:
    """Sources as rows, float32 [N, `row_size`].

    Args:
      faces: uint8 RGB squares of any size.
      model: whose generator takes pictures.
      finds: asked where it takes the source's landmarks.
    """
    for face in faces:
        check_face(face, "source")
    if not faces:
        return np.zeros((0, row_size(model.network, model.face_size)), np.float32)
    pictures = [resized(face, model.face_size) for face in faces]
    parts: list[np.ndarray] = [np.reshape(pictures, (len(faces), -1)).astype(np.float32) / np.float32(255)]
    if "source_points" in model.network.takes:
        parts.append(finds(pictures).reshape(len(faces), -1))
    return np.concatenate([*parts, np.ones((len(faces), 1), np.float32)], axis=1)


def unscaled(rows: np.ndarray) -> np.ndarray:
    """Rows of any scale [N, D] → the pictures and landmarks that they stand for, [N, D − 1]."""
    return (rows[:, :-1] / rows[:, -1:]).astype(np.float32)


def with_target_points(rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Rows of any scale [N, D] and the targets' landmarks [N, P, 2] → what `given` reads."""
    return np.concatenate([unscaled(rows), points.reshape(len(rows), -1)], axis=1).astype(np.float32)


def given(network: SwapNetwork, rows: jax.Array, size: int) -> dict[str, jax.Array]:
    """What a generator takes beside the target, of one row for each target; pure.

    Args:
      network: the generator.
      rows: identity vectors; of one that draws people by number, one-hot; of one that takes pictures, of
        `with_target_points`.
      size: side of its faces.
    """
    if "vector" in network.takes:
        return {"vector": rows}
    if "person" in network.takes:
        return {"person": jnp.argmax(rows, -1)}
    found, start = {}, 0
    for name, shape in network.input_shapes(rows.shape[0], size).items():
        end = start + math.prod(shape.shape[1:])
        values = rows[:, start:end].reshape(shape.shape)
        found[name] = normalize(values, network.convention) if name == "picture" else values
        start = end
    return found


class Landmarks:
    """Finds the landmarks that a model takes in aligned faces; its network is looked for when it is first asked."""

    def __init__(self, model: ModelFolder) -> None:
        self._model = model
        self._network: LandmarkNetwork | None = None

    def __call__(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, P, 2], fractions of the square; the template's five where none are found.

        Raises:
          UserError: nothing here finds them, or not in one of the faces.
        """
        points = self._opened().find(faces).astype(np.float32)
        lost = landmarks.lost(points)
        template = TEMPLATES.get(self._model.alignment)
        if lost.any() and (template is None or points.shape[1] != 5):
            raise UserError(
                "the landmark network finds no face in one of these pictures; give one that shows its face better.",
                "landmarks-not-found",
            )
        if template is not None:
            points[lost] = template[len(template) // 2]  # the frontal one
        return points

    def _opened(self) -> LandmarkNetwork:
        name, count = getattr(self._model.generator, "landmarks", ""), getattr(self._model.generator, "points", 0)
        if not name or ":" in name:
            raise UserError(
                "this model was trained on landmarks that only its own pictures have; train it with those of a network "
                "(config.generator.landmarks), or give the targets' (target_points) in Python.",
                "landmarks-known-only",
            )
        if self._network is None:
            self._network = landmarks.network(name, count)
        return self._network
