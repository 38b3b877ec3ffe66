"""Networks that judge a swap: recognisers (who is it?) and a head-pose estimator (where does the face look?).

A judge of identity should not be the network that the generator was trained with: it learns to please that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import cv2
import jax
import numpy as np

from simswap_jax.errors import UserError, missing_extra
from simswap_jax.inference.swapper import batches, embed, normalised, pad
from simswap_jax.io.images import read_picture
from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.weights import identity_folder, model_folder, registry

BATCH_SIZE = 32


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
    """A recogniser in an ONNX file: float32 [n, 3, H, W] RGB 0…255 in, [n, D] out."""

    def __init__(self, path: Path) -> None:
        self.name, self.sha256 = path.stem, registry.file_sha256(path)
        self._session = onnx_session(path, "judging with an ONNX network")
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] != 3:
            shapes = [(put.name, put.shape) for put in inputs]
            raise UserError(
                f"{path} takes {shapes}, but a recogniser takes one input [n, 3, H, W]; name another network."
            )
        self._input = inputs[0].name
        self._batch = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else BATCH_SIZE
        self._size = tuple(side if isinstance(side, int) else 112 for side in inputs[0].shape[2:])

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, D], L2-normalised."""
        vectors = []
        for start in range(0, len(pictures), self._batch):
            chunk = np.stack([fitted(picture, self._size) for picture in pictures[start : start + self._batch]])
            values = pad(chunk, self._batch) if self._batch != BATCH_SIZE else chunk
            values = np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)
            vectors.append(self._session.run(None, {self._input: values})[0][: len(chunk)])
        return normalised(np.concatenate(vectors))


class FlaxRecogniser:
    """A recogniser of this project's own kind."""

    def __init__(self, network: IdentityNetwork, variables: Any, name: str, sha256: str) -> None:
        self.name, self.sha256 = name, sha256
        self._frame, self._variables = network.config.frame, jax.device_put(variables)
        self._embed = jax.jit(partial(embed, network, "bicubic"))

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, D], L2-normalised."""
        vectors = []
        for chunk, count in batches(len(pictures), BATCH_SIZE):
            faces = np.stack([fitted(pictures[i], self._frame) for i in chunk])
            vectors.append(np.asarray(self._embed(self._variables, pad(faces, count)))[: len(chunk)])
        return normalised(np.concatenate(vectors))


class HeadPose:
    """Yaw, pitch and roll of aligned crops, from an ONNX network of BGR [1, 3, 64, 64], (x − 127.5) / 128.

    The whole crop is shown: of five boxes in `simswap-frontal` crops it agreed best with the landmarks (yaw against the
    nose's offset: r = −0.95) and with its own answer for the mirrored picture (1.2 to 2.1 degrees).
    """

    def __init__(self, path: Path) -> None:
        self._session = onnx_session(path, "estimating head pose")
        self.name, self.sha256 = path.stem, registry.file_sha256(path)
        self._input = self._session.get_inputs()[0].name

    def angles(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, 3]: yaw, pitch and roll in degrees."""
        return np.concatenate([self._session.run(None, {self._input: _bgr_input(picture)})[0] for picture in pictures])


def _bgr_input(picture: np.ndarray) -> np.ndarray:
    face = fitted(picture, (64, 64))[:, :, ::-1]
    return np.ascontiguousarray(((face.astype(np.float32) - 127.5) / 128.0).transpose(2, 0, 1)[None])


def open_recogniser(source: str | Path) -> Recogniser:
    """A recogniser from an ONNX file, a model folder (its identity network), an identity folder or a weight file.

    Raises:
      UserError: it is missing, damaged or not a recogniser, or onnxruntime is not installed.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() == ".onnx":
        if not path.is_file():
            raise UserError(f"there is no judge {path}; check the path.")
        return OnnxRecogniser(path)
    if (path / "generator.safetensors").is_file():
        model = model_folder.read(path)
        network = model.identity_network
        return FlaxRecogniser(network, model.identity_variables, model.identity_name, model.identity_sha256)
    found = identity_folder.read(path, "judging")
    return FlaxRecogniser(found.network, found.variables, found.name, found.sha256)


def embed_files(recogniser: Recogniser, files: Iterable[Path], progress: Any = None) -> tuple[np.ndarray, list[str]]:
    """Identity vectors of picture files, read while others are judged and never all in memory.

    Args:
      recogniser: who judges.
      files: N picture files.
      progress: something with ``add(count)``.

    Returns:
      float32 [N, D], the rows of unreadable files NaN; and a sentence for each of those.
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
            ready = [i for i, picture in enumerate(chunk) if picture is not None]
            if ready:
                vectors = recogniser.embed([picture for picture in chunk if picture is not None])
                rows.update({start + i: vector for i, vector in zip(ready, vectors)})
            if progress is not None:
                progress.add(len(chunk))
    if not rows:
        raise UserError(
            "none of the pictures to judge could be read; " + (sentences[0] if sentences else "there are none.")
        )
    unread = np.full_like(next(iter(rows.values())), np.nan)
    return np.stack([rows.get(index, unread) for index in range(len(files))]), sentences


def onnx_session(path: Path, purpose: str) -> Any:
    """An onnxruntime session on the CPU, or a UserError."""
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError as error:
        raise missing_extra("onnxruntime", "onnx", purpose) from error
    if not path.is_file():
        raise UserError(f"there is no network {path}; check the path.")
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own family of errors, without a common base
        raise UserError(f"{path} is not a network that onnxruntime can load ({str(error).splitlines()[0]}).") from error


def fitted(picture: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A uint8 picture at (height, width): area-averaged going down, bicubic going up."""
    height, width = size
    if picture.shape[:2] == (height, width):
        return picture
    smaller = height <= picture.shape[0]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
