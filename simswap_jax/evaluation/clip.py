"""Temporal stability on a clip: `simswap-jax evaluate --clip`."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.candidates import ModelCandidate
from simswap_jax.evaluation.frames import frames_of
from simswap_jax.evaluation.judges.evaluators import Evaluators
from simswap_jax.evaluation.metrics import regions, temporal
from simswap_jax.evaluation.metrics.intervals import Estimate, estimate
from simswap_jax.inference.swapper import FaceSwapper, resized
from simswap_jax.io.html_report import Table
from simswap_jax.io.images import read_picture

LEAST = 3  # frames
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
    targets, vector = clip_inputs(list(islice(frames_of(path), MOST)), read_picture(source), model.swapper, path, size)
    results = model.swapper.swap_faces(targets, np.broadcast_to(vector, (len(targets), len(vector))))
    masks = regions.face_masks(evaluators.five_points(targets), len(targets), size)
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
    frames: list[np.ndarray], source: np.ndarray, swapper: FaceSwapper, path: Path, size: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Aligned crops of the frames, uint8 RGB [size, size, 3], and the source's identity vector [D].

    Raises:
      UserError: too few frames, or no face.
    """
    if len(frames) < LEAST:
        raise UserError(f"{path} has {len(frames)} frames; stability needs at least {LEAST}.", "too-few-frames")
    height, width = frames[0].shape[:2]
    if height == width:
        aligned = source.shape[0] == source.shape[1]
        return [resized(frame, size) for frame in frames], swapper.identity(source, aligned=aligned)
    largest = max(swapper.photos.find_faces(frames[0]), key=lambda face: face.face.area)
    return [resized(largest.crop(frame), size) for frame in frames], swapper.identity(source)


def clip_metrics(
    clip: np.ndarray, target: np.ndarray, masks: np.ndarray, evaluators: Evaluators
) -> dict[str, Estimate]:
    """The metrics of one clip, uint8 RGB [T, H, W, 3], moving as ``target`` does; intervals over runs of frames."""
    predictions = evaluators.predict(list(clip))
    values = {
        "flicker": 1000.0 * temporal.warp_error(clip, target, masks),
        "identity_jitter": temporal.identity_jitter(predictions["vectors"]),
    }
    if "angles" in predictions:
        values["pose_jitter"] = temporal.jitter(predictions["angles"])
    if "landmarks" in predictions:
        values["landmark_jitter"] = 100.0 * temporal.jitter(predictions["landmarks"])
    measured = {name: array for name, array in values.items() if np.isfinite(array).any()}
    return {name: estimate(array, temporal.blocks(len(array))) for name, array in measured.items()}
