"""The arrays that a swapper takes: photos, face crops and identity vectors, checked, resized and in batches."""

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.inference.options import check_batch_size


def check_photo(picture: np.ndarray, role: str) -> None:
    """A UserError unless ``picture`` is uint8 RGB [H, W, 3] with at least one pixel."""
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        found = f"{picture.dtype} {list(picture.shape)}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise UserError(
            f"a {role} must be a uint8 RGB picture [H, W, 3], not {found}; convert it first.", "picture-not-uint8-rgb"
        )
    if not picture.size:
        raise UserError(f"the {role} has no pixels; give another picture.", "picture-empty")


def check_face(picture: np.ndarray, role: str) -> None:
    """A UserError unless ``picture`` is a uint8 RGB square [H, H, 3]."""
    check_photo(picture, role)
    height, width = picture.shape[:2]
    if height != width:
        raise UserError(
            f"an aligned {role} must be square, not {width}×{height}; crop it around the face first.", "face-not-square"
        )


def check_vectors(vectors: np.ndarray, count: int, size: int) -> np.ndarray:
    """Identity vectors [count, size] or [size], floating, as L2-normalised float32 [count, size].

    Raises:
      UserError: another type, shape, length or number, or one that is zero or not finite.
    """
    vectors = np.asarray(vectors)
    if not np.issubdtype(vectors.dtype, np.floating) or vectors.ndim not in (1, 2):
        raise UserError(
            f"identity vectors must be float [B, D] or [D], not {vectors.dtype} {list(vectors.shape)}; "
            "take what identity() gives.",
            "vector-type",
        )
    if vectors.shape[-1] != size:
        raise UserError(
            f"the identity vectors have {vectors.shape[-1]} dimensions and this model takes {size}; "
            "make them with the same model's identity().",
            "vector-size",
        )
    if vectors.ndim == 2 and vectors.shape[0] != count:
        raise UserError(
            f"there are {count} targets and {vectors.shape[0]} identity vectors; give one for each, or one for all.",
            "vector-count",
        )
    if not np.isfinite(vectors).all() or not (np.linalg.norm(vectors, axis=-1) > 0).all():
        raise UserError("an identity vector is zero or not finite; make it again with identity().", "vector-not-finite")
    return normalised(np.broadcast_to(vectors.astype(np.float32), (count, size)))


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Vectors [..., D] scaled to length one, float32; a zero vector stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(length, 1e-12)).astype(np.float32)


def mixed(own: np.ndarray, wanted: np.ndarray, strength: float) -> np.ndarray:
    """Identity vectors [..., D] on the line from one's own (strength 0) to those wanted (1) and beyond, of length one.

    Beyond 1 the target's own identity is subtracted: results are less like the target, and pose and expression follow
    it a little less.
    """
    return normalised((1.0 - strength) * normalised(own) + strength * normalised(wanted))


def batches(count: int, batch_size: int) -> list[tuple[list[int], int]]:
    """Indices 0 … count − 1 in chunks, each with the size it is padded to: a power of two, or ``batch_size``.

    So at most log2(batch_size) + 1 programs are ever compiled, and a single face does not pay for a full batch.

    Raises:
      UserError: a batch size under one.
    """
    check_batch_size(batch_size)
    starts = range(0, count, batch_size)
    chunks = [list(range(start, min(start + batch_size, count))) for start in starts]
    return [(chunk, min(batch_size, 1 << (len(chunk) - 1).bit_length())) for chunk in chunks]


def pad(array: np.ndarray, count: int) -> np.ndarray:
    """Repeat the last row of ``array`` [n, …] until there are ``count``."""
    return np.concatenate([array, np.repeat(array[-1:], count - len(array), axis=0)]) if len(array) < count else array
