"""The networks that evaluate: face recognition, head pose, features for FID and KID."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import cv2
import jax
import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.faces.alignment import TEMPLATES, similarity
from simswap_jax.inference.swapper import batches, embed, normalised, pad
from simswap_jax.io.images import read_picture, resized
from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.weights import identity_folder, model_folder, registry
from simswap_jax.weights.onnx_network import OnnxNetwork, Wanted
from simswap_jax.weights.onnx_session import BATCH_SIZE

MOST_FEATURES = 1 << 22  # values a picture


VECTORS = Wanted("a recogniser", "vectors [n, D]", lambda shape: len(shape) == 1 and shape[0] > 1)
ANGLES = Wanted("a head-pose network", "yaw, pitch and roll [n, 3]", lambda shape: tuple(shape) == (3,))
FEATURES = Wanted(
    "a feature network",
    "[n, D] or [n, D, h, w]",
    lambda shape: len(shape) in (1, 3) and 0 < math.prod(shape) <= MOST_FEATURES,
)


class PoseEstimator(Protocol):
    """Anything that reads head pose.

    Attributes:
      name: for tables.
      sha256: of its weights.
    """

    name: str
    sha256: str

    def angles(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, 3]: yaw, pitch and roll in degrees."""
        ...


class OnnxPose:
    """An ONNX network of BGR [1, 3, 64, 64], (x − 127.5) / 128, that answers yaw, pitch and roll.

    It is shown the whole `simswap-frontal` crop, on which it agrees best with landmarks and with its own mirror image.
    """

    def __init__(self, path: Path) -> None:
        self._network = OnnxNetwork(path, ANGLES, side=64, batch=1)
        self.name, self.sha256 = self._network.name, self._network.sha256

    def angles(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, 3]: yaw, pitch and roll in degrees."""
        return np.concatenate(list(self._network.run(pictures, bgr_symmetric)))


def bgr_symmetric(pictures: np.ndarray) -> np.ndarray:
    """uint8 RGB [n, H, W, 3] → float32 BGR, −1 to 1."""
    return (pictures[..., ::-1].astype(np.float32) - 127.5) / 128.0


SIDE = 299  # of networks whose file leaves the size open: Inception's
# What RGB values a network takes: v of 0 to 255 → (v / 255 − mean) / deviation
INPUT_RANGES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


class FeatureNetwork(Protocol):
    """Anything that turns a picture into a feature vector.

    Attributes:
      name: for tables.
      sha256: of its weights.
    """

    name: str
    sha256: str

    def features(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, D]."""
        ...


class OnnxFeatures:
    """float32 [n, 3, H, W] RGB → [n, D] or maps [n, D, h, w], which are averaged."""

    def __init__(self, path: Path, input_range: str) -> None:
        self._network = OnnxNetwork(path, FEATURES, side=SIDE)
        self.name, self.sha256 = self._network.name, f"{self._network.sha256} {input_range}"
        self._mean, self._deviation = (np.array(numbers, np.float32) for numbers in INPUT_RANGES[input_range])

    def features(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, D]."""
        maps = list(self._network.run(pictures, self._normalised))
        return np.concatenate([m.reshape(*m.shape[:2], -1).mean(axis=2).astype(np.float32) for m in maps])

    def _normalised(self, pictures: np.ndarray) -> np.ndarray:
        return (pictures.astype(np.float32) / 255 - self._mean) / self._deviation


class IdentityFeatures:
    """A recogniser's vectors, of length one. They see faces, not pictures: read such a FID with care."""

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self.name, self.sha256 = recogniser.name, recogniser.sha256

    def features(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, D]."""
        return self._recogniser.embed(pictures)


def open_features(source: str | Path, input_range: str = "255") -> FeatureNetwork:
    """A feature network.

    Args:
      source: an ONNX file, a model folder (its identity network), an identity folder or an identity weight file.
      input_range: what an ONNX file takes, a name of `INPUT_RANGES`.

    Raises:
      UserError: it is missing or no such network.
    """
    path = Path(source).expanduser()
    onnx = path.suffix.lower() == ".onnx"
    return OnnxFeatures(path, input_range) if onnx else IdentityFeatures(open_recogniser(path))


class Recogniser(Protocol):
    """Anything that turns face crops into identity vectors.

    Attributes:
      name: for tables.
      sha256: of its weights; tells whether it is the network that a model was trained with.
    """

    name: str
    sha256: str

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares of any size → float32 [N, D], L2-normalised."""
        ...


class OnnxRecogniser:
    """A recogniser in an ONNX file: float32 [n, 3, H, W] RGB 0…255 in, [n, D] out.

    A public file whose template is known (``configs/weights.yaml``) is shown crops of that template.
    """

    def __init__(self, path: Path, alignment: str | None = None) -> None:
        """Open a file; ``alignment``: the template of the crops that it will be given, None where that is unknown."""
        self._network = OnnxNetwork(path, VECTORS)
        self.name, self.sha256 = self._network.name, self._network.sha256
        known = (one.template for one in registry.catalogue().values() if one.sha256 == self.sha256)
        self._templates = alignment or "", next(known, "")

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, D], L2-normalised."""
        crops = [cut_anew(picture, *self._templates, self._network.size[0]) for picture in pictures]
        return normalised(np.concatenate(list(self._network.run(crops, np.asarray))))


def cut_anew(picture: np.ndarray, given: str, wanted: str, side: int) -> np.ndarray:
    """A crop of one template as a crop of another.

    Args:
      picture: uint8 RGB square, aligned to ``given``.
      given, wanted: names of `TEMPLATES`.
      side: of the new crop, pixels.

    Returns:
      uint8 RGB [side, side, 3], which repeats the edge where it shows more; the picture itself where the templates are
      one, or one of them is not known.
    """
    if given == wanted or given not in TEMPLATES or wanted not in TEMPLATES:
        return picture
    here, there = (
        TEMPLATES[name][len(TEMPLATES[name]) // 2] for name in (given, wanted)
    )  # of several poses the frontal
    zoom = float(np.hypot(*similarity(here, there)[:, 0]))
    before = min(picture.shape[0], max(1, round(side * zoom)))  # from which the cut neither shrinks nor skips pixels
    matrix = similarity(here * before, there * side)
    small = resized(picture, before)
    return cv2.warpAffine(small, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


class FlaxRecogniser:
    """A recogniser of this project's own kinds."""

    def __init__(self, network: IdentityNetwork, variables: Any, name: str, sha256: str) -> None:
        self.name, self.sha256 = name, sha256
        self._frame, self._variables = network.config.frame, jax.device_put(variables)
        self._embed = jax.jit(partial(embed, network, "bicubic"))

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, D], L2-normalised."""
        vectors = []
        for chunk, count in batches(len(pictures), BATCH_SIZE):
            faces = np.stack([resized(pictures[i], *self._frame) for i in chunk])
            vectors.append(np.asarray(self._embed(self._variables, pad(faces, count)))[: len(chunk)])
        return normalised(np.concatenate(vectors))


def open_recogniser(source: str | Path, alignment: str | None = None) -> Recogniser:
    """A recogniser from an ONNX file, a model folder (its identity network), an identity folder or a weight file.

    Args:
      source: its path.
      alignment: the template of the crops that it will be given, a name of `TEMPLATES`; None: unknown.

    Raises:
      UserError: it is missing, damaged or not a recogniser, or onnxruntime is not installed.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() == ".onnx":
        return OnnxRecogniser(path, alignment)
    if (path / "generator.safetensors").is_file():
        model = model_folder.read(path)
        network = model.identity_network
        return FlaxRecogniser(network, model.identity_variables, model.identity_name, model.identity_sha256)
    found = identity_folder.read(path, "evaluating")
    return FlaxRecogniser(found.network, found.variables, found.name, found.sha256)


def embed_files(recogniser: Recogniser, files: Iterable[Path]) -> tuple[np.ndarray, list[str]]:
    """Identity vectors of picture files, read while others are embedded and never all in memory.

    Args:
      recogniser: embeds them.
      files: N picture files.

    Returns:
      float32 [N, D], the rows of unreadable files NaN; and a sentence for each of those. D is 1 where none can be read.
    """
    files = list(files)
    sentences: list[str] = []

    def read(file: Path) -> np.ndarray | None:
        try:
            return read_picture(file)
        except UserError as error:
            sentences.append(str(error))
            return None

    rows: dict[int, np.ndarray] = {}
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(files), BATCH_SIZE):
            chunk = list(pool.map(read, files[start : start + BATCH_SIZE]))
            readable = [i for i, picture in enumerate(chunk) if picture is not None]
            if readable:
                vectors = recogniser.embed([picture for picture in chunk if picture is not None])
                rows.update({start + i: vector for i, vector in zip(readable, vectors)})
    unread = np.full_like(next(iter(rows.values()), np.empty(1, np.float32)), np.nan)
    return np.stack([rows.get(index, unread) for index in range(len(files))]), sentences


def no_readable_picture(reasons: Sequence[str]) -> UserError:
    """The error of data without a picture that can be read."""
    reason = reasons[0] if reasons else "there are none."
    return UserError(f"none of the pictures to embed could be read; {reason}", "no-readable-picture")
