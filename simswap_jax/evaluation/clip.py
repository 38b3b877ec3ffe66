"""Temporal stability on a clip: `simswap-jax evaluate --clip`."""

from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.candidates import ModelCandidate
from simswap_jax.evaluation.frames import frames_of
from simswap_jax.evaluation.geometry import crop_template
from simswap_jax.evaluation.judges.evaluators import Evaluators
from simswap_jax.evaluation.metrics import regions
from simswap_jax.evaluation.metrics.identity import cosine
from simswap_jax.evaluation.metrics.intervals import Estimate, estimate
from simswap_jax.inference.arrays import mixed
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.io.html_report import Table
from simswap_jax.io.images import read_picture, resized

BLOCK = 8  # pairs of frames resampled together by the bootstrap: neighbours flicker together


def warp_error(clip: np.ndarray, moved_as: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """How a clip changes beyond its own motion: float64 [T − 1], L1 of values 0 to 1 inside the face.

    Each frame is fetched from the one before by the optical flow of ``moved_as`` (the target's clip: the same motion is
    asked of the result) and compared with what is there.
    """
    height, width = clip.shape[1:3]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in moved_as]
    errors = []
    for now in range(1, len(clip)):
        back = finder.calc(grey[now], grey[now - 1], None)
        fetched = cv2.remap(clip[now - 1], grid + back, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        difference = np.abs(fetched.astype(np.float64) - clip[now]).mean(axis=-1) / 255.0
        errors.append(float((difference * masks[now]).sum() / masks[now].sum()))
    return np.array(errors)


def identity_jitter(vectors: np.ndarray) -> np.ndarray:
    """1 − cosine of the identity vectors [T, D] of neighbouring frames: float64 [T − 1]."""
    return 1.0 - cosine(vectors[1:], vectors[:-1])


def jitter(values: np.ndarray) -> np.ndarray:
    """How values [T, …] (angles, landmarks) tremble: |xₜ₋₁ − 2 xₜ + xₜ₊₁|, 0 for steady motion: float64 [T − 2]."""
    second = np.diff(np.asarray(values, np.float64), n=2, axis=0)
    return np.sqrt((second.reshape(len(second), -1) ** 2).sum(axis=1))


def blocks(count: int) -> np.ndarray:
    """Groups for the bootstrap of ``count`` neighbouring values: int [count]."""
    return np.arange(count) // BLOCK


LEAST = 2 * BLOCK + 2  # frames: second differences fill two blocks, and one alone has no interval
MOST = 600
METRICS = {
    "flicker": ("change beyond the target's own motion, L1 × 1000", 2),
    "identity_jitter": ("identity, 1 − cosine of neighbouring frames", 4),
    "pose_jitter": ("pose, second difference, °", 2),
    "landmark_jitter": ("landmarks, second difference, % of the crop", 3),
}


def measure_clip(
    path: Path, source: Path, model: ModelCandidate, evaluators: Evaluators, size: int
) -> tuple[dict[str, Any], Table]:
    """Swap every frame of a clip and compare its stability with that of the clip itself.

    Args:
      path: a video, or a folder of frames in order of their names. Square frames are taken for aligned crops; others
        are photos, in which the largest face is found. They are cut at its place in the first frame: a crop that
        follows the face would follow the landmarks' jitter, too.
      source: a picture of the identity; aligned if the frames are.
      model: swaps.
      evaluators: pose and landmarks are measured where there are networks for them.
      size: side in pixels of the crops.

    Returns:
      for the JSON: ``frames`` and metric → ``result`` and ``target``; and a table.

    Raises:
      UserError: too few frames, or no face.
    """
    targets, vector = clip_inputs(path, source, model.swapper, size)
    if model.strength != 1.0:  # as videos do it: one own identity for the whole track
        vector = mixed(model.swapper.identity_vectors(targets).mean(axis=0), vector, model.strength)
    results = model.swapper.swap_faces(targets, np.broadcast_to(vector, (len(targets), len(vector))))
    template = crop_template(model.swapper.model.alignment, size)
    masks = regions.face_masks(evaluators.five_points(targets, template), len(targets), size)
    values = {
        "result": clip_metrics(np.stack(results), np.stack(targets), masks, evaluators),
        "target": clip_metrics(np.stack(targets), np.stack(targets), masks, evaluators),
    }
    names = list(values["result"])
    rows = [[METRICS[n][0], *(values[clip][n].text(METRICS[n][1]) for clip in values)] for n in names]
    caption = f"Temporal stability over {len(targets)} frames by {model.key}, beside the clip itself (noise floor)."
    content = {name: {clip: vars(values[clip][name]) for clip in values} for name in names}
    return {"frames": len(targets), **content}, Table(caption, ["", *values], rows)


def clip_inputs(
    path: Path, source: Path, swapper: FaceSwapper, size: int, most: int = MOST
) -> tuple[list[np.ndarray], np.ndarray]:
    """Aligned crops of a clip's first frames, and the source's identity vector.

    Args:
      path, source, size: as of `measure_clip`.
      swapper: the model's.
      most: so many frames are read, `LEAST` or more; only their crops stay in memory.

    Returns:
      uint8 RGB [size, size, 3] each; float32 [D].

    Raises:
      UserError: there is no such clip or picture, too few frames, no face, or the model takes no identity vectors.
    """
    picture = read_picture(source)
    crops: list[np.ndarray] = []
    for frame in islice(frames_of(path), most):
        if not crops:
            square = frame.shape[0] == frame.shape[1]
            face = None if square else max(swapper.photos.find_faces(frame), key=lambda one: one.face.area)
        crops.append(resized(face.crop(frame) if face else frame, size))
    if len(crops) < LEAST:
        raise UserError(f"{path} has {len(crops)} frames; stability needs at least {LEAST}.", "clip-too-short")
    return crops, swapper.identity(picture, aligned=face is None and picture.shape[0] == picture.shape[1])


def clip_metrics(
    clip: np.ndarray, target: np.ndarray, masks: np.ndarray, evaluators: Evaluators
) -> dict[str, Estimate]:
    """The metrics of one clip, uint8 RGB [T, H, W, 3], moving as ``target`` does; intervals over runs of frames."""
    predictions = evaluators.predict(list(clip))
    values = {
        "flicker": 1000.0 * warp_error(clip, target, masks),
        "identity_jitter": identity_jitter(predictions["vectors"]),
    }
    if "angles" in predictions:
        values["pose_jitter"] = jitter(predictions["angles"])
    if "landmarks" in predictions:
        values["landmark_jitter"] = 100.0 * jitter(predictions["landmarks"])
    measured = {name: array for name, array in values.items() if np.isfinite(array).any()}
    return {name: estimate(array, blocks(len(array))) for name, array in measured.items()}
