"""One wrapper for every ONNX network that takes pictures: its input checked, its batch and size kept."""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simswap_jax.errors import UserError, missing_extra
from simswap_jax.inference.swapper import pad
from simswap_jax.weights import registry

BATCH_SIZE = 32  # where a file leaves it open


class OnnxNetwork:
    """A network of one input, float32 [n, 3, H, W], run by onnxruntime on the CPU.

    Attributes:
      name: the file's, for tables.
      sha256: of the file.
      size: height and width of its input, pixels.
    """

    def __init__(self, path: Path, role: str, *, side: int = 112, batch: int = BATCH_SIZE) -> None:
        """Open a file.

        Args:
          path: the ONNX file.
          role: what the network is used as, for errors, e.g. ``"a recogniser"``.
          side: height and width where the file leaves them open.
          batch: the most pictures a run, where the file leaves it open.

        Raises:
          UserError: the file is missing or no such network, or onnxruntime is not installed.
        """
        self._session = open_session(path, f"running {role} in an ONNX file")
        self.name, self.sha256 = path.stem, registry.file_sha256(path)
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] != 3:
            shapes = [(one.name, one.shape) for one in inputs]
            raise UserError(
                f"{path} takes {shapes}, but {role} takes one input [n, 3, H, W]; name another network.",
                "onnx-input-unsupported",
            )
        count, _, height, width = inputs[0].shape
        self._input = inputs[0].name
        self._fixed_batch = isinstance(count, int)
        self._batch = count if isinstance(count, int) else batch
        self.size = tuple(length if isinstance(length, int) else side for length in (height, width))

    def run(
        self, pictures: Sequence[np.ndarray], normalise: Callable[[np.ndarray], np.ndarray]
    ) -> Iterator[list[np.ndarray]]:
        """Run pictures in batches.

        Args:
          pictures: N uint8 RGB squares of any size; they are resized to the network's.
          normalise: uint8 [n, H, W, 3] → the values [n, H, W, 3] that the network takes.

        Yields:
          all outputs of a batch, a row for each of its pictures.
        """
        for start in range(0, len(pictures), self._batch):
            batch = np.stack([resized(picture, self.size) for picture in pictures[start : start + self._batch]])
            full = pad(batch, self._batch) if self._fixed_batch else batch
            planes = np.ascontiguousarray(normalise(full).transpose(0, 3, 1, 2), dtype=np.float32)
            yield [output[: len(batch)] for output in self._session.run(None, {self._input: planes})]


def open_session(path: Path, purpose: str) -> Any:
    """An onnxruntime session on the CPU.

    Raises:
      UserError: the file is missing or no network, or onnxruntime is not installed.
    """
    if not path.is_file():
        raise UserError(f"there is no network {path}; check the path.", "network-missing")
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError as error:
        raise missing_extra("onnxruntime", "onnx", purpose) from error
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own family of errors, without a common base
        raise UserError(
            f"{path} is not a network that onnxruntime can load ({str(error).splitlines()[0]}).", "onnx-unreadable"
        ) from error


def resized(picture: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A uint8 picture at (height, width): area-averaged going down, bicubic going up."""
    height, width = size
    if picture.shape[:2] == (height, width):
        return picture
    smaller = height <= picture.shape[0]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
