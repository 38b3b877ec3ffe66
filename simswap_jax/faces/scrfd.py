"""Where the faces of a photo are: SCRFD with landmarks (InsightFace's detectors in ONNX), in place of YuNet."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from simswap_jax.faces.detection import Face, distinct

SIDE = 640  # pixels of the square that the network sees
STRIDES = (8, 16, 32)
ANCHORS = 2  # in each place of a map
OUTPUTS = 9  # scores, boxes and landmarks for each stride


class ScrfdDetector:
    """Finds faces and their five landmarks with one of InsightFace's ``scrfd_*_bnkps`` or ``det_10g`` networks."""

    def __init__(self, model: str | Path, threshold: float = 0.5) -> None:
        """Load the network.

        Args:
          model: its ONNX file.
          threshold: the least confidence of a face.

        Raises:
          ValueError: the file is missing, no SCRFD with landmarks, or onnxruntime is not installed.
        """
        if not Path(model).is_file():
            raise ValueError(f"there is no face detector {model}; name an ONNX file.")
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError("SCRFD needs the package onnxruntime; install the extra 'onnx'.") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions share no class
            raise ValueError(f"{model} is no network that onnxruntime reads; name SCRFD's ONNX file.") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != OUTPUTS:
            raise ValueError(
                f"{model} is no SCRFD with landmarks ({len(outputs)} outputs, {OUTPUTS} are wanted); "
                "name YuNet, or an SCRFD whose name has 'kps' in it."
            )
        self._input, self._threshold = inputs[0].name, threshold

    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """The faces of a photo, uint8 RGB [H, W, 3], the most confident first."""
        height, width = photo.shape[:2]
        scale = SIDE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        kernel = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
        square: np.ndarray = np.zeros((SIDE, SIDE, 3), np.uint8)
        square[: size[1], : size[0]] = cv2.resize(photo, size, interpolation=kernel)
        blob = ((square.astype(np.float32) - 127.5) / 128.0).transpose(2, 0, 1)[None]
        maps = [np.asarray(one).reshape(-1, one.shape[-1]) for one in self._session.run(None, {self._input: blob})]
        back = np.array([width / size[0], height / size[1]])
        return distinct(decoded(maps, self._threshold, back))


def decoded(maps: list[Float[np.ndarray, "_ _"]], threshold: float, back: Float[np.ndarray, " 2"]) -> list[Face]:
    """Faces of the network's answer.

    Args:
      maps: for the three strides scores [N, 1], then boxes [N, 4] (distances from an anchor to the left, top, right and
        bottom), then landmarks [N, 10] (offsets), both in units of the stride. N = 2 · (SIDE / stride)², row by row.
      threshold: the least score.
      back: from the square's pixels to the photo's, x and y.
    """
    faces = []
    for stride, scores, boxes, points in zip(STRIDES, maps[:3], maps[3:6], maps[6:]):
        places = SIDE // stride
        for i in np.flatnonzero(scores[:, 0] >= threshold):
            row, column = divmod(int(i) // ANCHORS, places)
            anchor = np.array([column, row], np.float64) * stride
            left_top, right_bottom = anchor - boxes[i, :2] * stride, anchor + boxes[i, 2:] * stride
            left, top = left_top * back
            width, height = (right_bottom - left_top) * back
            landmarks = (anchor + points[i].reshape(5, 2) * stride + 0.5) * back - 0.5
            box = float(left), float(top), float(width), float(height)
            faces.append(Face(box, landmarks, float(scores[i, 0])))
    return faces
