"""Masks from face parsing: BiSeNet says of every pixel whether it is skin, mouth, glasses, hair, …"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from simswap_jax.faces.alignment import Alignment, align, crop, inverse, transform
from simswap_jax.faces.blending import border_ramp
from simswap_jax.models.normalization import normalize
from simswap_jax.weights import registry, torch_weights

WEIGHTS = "79999_iter.pth"  # of configs/weights.yaml
SIDE = 512  # pixels: what the network was trained on, aligned as FFHQ
FACE = (1, 2, 3, 4, 5, 10, 11, 12, 13)  # skin, brows, eyes, nose, mouth, lips
GLASSES = 6
SOFT = 0.012  # of the side: how far the mask's edge is softened
LEAST = 0.08  # of the crop: less face than this, and the network has not understood the picture


class FaceParser:
    """A `photo.Parse`: masks of faces by BiSeNet. What is no face (hair, hats, hands) never belongs to them."""

    def __init__(self, path: str | Path) -> None:
        """Load the network.

        Raises:
          UserError: the file is missing, damaged or no BiSeNet.
        """
        network, self._variables = torch_weights.load_face_parsing(Path(path))
        self._labels = jax.jit(partial(labels, network))

    def __call__(self, photo: np.ndarray, alignment: Alignment, keep: Sequence[str]) -> np.ndarray | None:
        """The mask of a face, float32 [size, size]; None where too little face is seen."""
        landmarks = transform(inverse(alignment.matrix), alignment.landmarks)
        own = align(landmarks, "ffhq", SIDE)
        seen = np.asarray(self._labels(self._variables, crop(photo, own)[None]))[0]
        face = np.isin(seen, FACE if "front" in keep else (*FACE, GLASSES)).astype(np.float32)
        return onto_crop(face, own, alignment)


def onto_crop(face: np.ndarray, own: Alignment, alignment: Alignment) -> np.ndarray | None:
    """A mask [SIDE, SIDE] of one alignment as another sees it, softened and 0 at its border: float32 [size, size]."""
    there = inverse(own.matrix)
    matrix = alignment.matrix[:, :2] @ there
    matrix[:, 2] += alignment.matrix[:, 2]
    # Also as soft as a pixel of the crop is wide, so that sampling skips nothing.
    soft = cv2.GaussianBlur(face, (0, 0), max(SOFT * SIDE, 0.5 * own.density / alignment.density))
    mask = cv2.warpAffine(soft, matrix, (alignment.size,) * 2, flags=cv2.INTER_LINEAR, borderValue=0.0)
    mask = (mask * border_ramp(alignment.size)).astype(np.float32)
    return mask if float(mask.mean()) >= LEAST else None


def labels(network: Any, variables: Any, pictures: jax.Array) -> jax.Array:
    """The class of every pixel: uint8 [B, H, W, 3] → int32 [B, H, W]. Pure; to be jitted."""
    values = normalize(pictures.astype(jnp.float32) / 255.0, "imagenet")
    return jnp.argmax(network.apply(variables, values), axis=-1)


def parser_here() -> FaceParser | None:
    """The parser whose weights lie in one of the folders that are searched; None without."""
    path = registry.locate(WEIGHTS)
    return FaceParser(path) if path is not None else None
