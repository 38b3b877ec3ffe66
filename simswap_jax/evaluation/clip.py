"""Temporal stability on a clip: `simswap-jax evaluate --clip`."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.errors import UserError, missing_extra
from simswap_jax.evaluation.candidates import ModelRow
from simswap_jax.evaluation.judges.predictions import Judges
from simswap_jax.evaluation.metrics import regions, temporal
from simswap_jax.evaluation.metrics.intervals import Estimate, estimate
from simswap_jax.inference.swapper import resized
from simswap_jax.io.html_report import Table
from simswap_jax.io.images import read_picture
from simswap_jax.provenance.writer import list_pictures

VIDEOS = frozenset([".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"])
LEAST = 3  # frames
MOST = 600
MEASURES = {
    "flicker": ("change beyond the target's own motion, L1 × 1000", 2),
    "identity_jitter": ("identity, 1 − cosine of neighbours", 4),
    "pose_jitter": ("pose, second difference, °", 2),
    "landmark_jitter": ("landmarks, second difference, % of the crop", 3),
}


def measured(
    path: Path, source: Path, models: Sequence[ModelRow], judges: Judges, size: int
) -> tuple[dict[str, Any], Table]:
    """Swap every frame of a clip by the first model and compare with the clip itself.

    Args:
      path: a video, or a folder of frames in order of their names. Square frames are taken for aligned crops; others
        are photos, in which the largest face is found. They are cut at its place in the first frame: a crop that
        follows the face would follow the landmarks' trembling, too.
      source: a picture of whoever is to be seen; aligned if the frames are.
      models: at least one.
      judges: of identity, and of pose and landmarks where they are.
      size: side of the crops that are judged.

    Returns:
      for the JSON: ``frames`` and measure → ``result`` and ``target``; and a table.

    Raises:
      UserError: no model, too few frames, or no face.
    """
    if not models:
        raise UserError("--clip needs a model; name one with --model.")
    swapper = models[0].swapper
    frames = list(frames_of(path))
    if len(frames) < LEAST:
        raise UserError(f"{path} has {len(frames)} frames; stability needs at least {LEAST}.")
    picture = read_picture(source)
    if frames[0].shape[0] == frames[0].shape[1]:
        targets = [resized(frame, size) for frame in frames]
        vector = swapper.identity(picture, aligned=picture.shape[0] == picture.shape[1])
    else:
        found = swapper.photos.find_faces(frames[0])
        largest = max(found, key=lambda face: face.face.area)
        targets = [resized(largest.crop(frame), size) for frame in frames]
        vector = swapper.identity(picture)
    results = swapper.swap_faces(targets, np.broadcast_to(vector, (len(targets), len(vector))))
    points = judges.landmarks.find(targets) if judges.landmarks and judges.landmarks.points == 5 else None
    masks = regions.face_masks(points, len(targets), size)
    numbers = {
        who: of_clip(np.stack(pictures), np.stack(targets), masks, judges)
        for who, pictures in (("result", results), ("target", targets))
    }
    told = {name: {who: vars(numbers[who][name]) for who in numbers} for name in numbers["result"]}
    rows = [
        [MEASURES[name][0], *(numbers[who][name].text(MEASURES[name][1]) for who in ("result", "target"))]
        for name in numbers["result"]
    ]
    caption = f"Temporal stability over {len(frames)} frames by {models[0].key}, beside the clip itself (floor)."
    return {"frames": len(frames), **told}, Table(caption, ["", "result", "target"], rows)


def of_clip(clip: np.ndarray, target: np.ndarray, masks: np.ndarray, judges: Judges) -> dict[str, Estimate]:
    """The measures of one clip, uint8 RGB [T, H, W, 3], moving as ``target`` does; intervals over runs of frames."""
    seen = judges.look(list(clip))
    values = {
        "flicker": 1000.0 * temporal.warp_error(clip, target, masks),
        "identity_jitter": temporal.identity_jitter(seen["vectors"]),
    }
    if "angles" in seen:
        values["pose_jitter"] = temporal.jitter(seen["angles"])
    if "landmarks" in seen:
        values["landmark_jitter"] = 100.0 * temporal.jitter(seen["landmarks"])
    kept = {name: array for name, array in values.items() if np.isfinite(array).any()}
    return {name: estimate(array, temporal.blocks(len(array))) for name, array in kept.items()}


def frames_of(path: Path) -> Iterator[np.ndarray]:
    """The first `MOST` frames of a video or a folder, uint8 RGB, all of one size.

    Raises:
      UserError: nothing there, frames of different sizes, or PyAV is missing for a video.
    """
    pictures = (read_picture(file) for file in list_pictures(path)) if path.is_dir() else video_frames(path)
    shape = None
    for number, picture in enumerate(pictures):
        if number >= MOST:
            return
        shape = shape or picture.shape
        if picture.shape != shape:
            raise UserError(f"frame {number} of {path} has another size than the first; give frames of one size.")
        yield picture


def video_frames(path: Path) -> Iterator[np.ndarray]:
    """Frames of a video file, uint8 RGB [H, W, 3].

    Raises:
      UserError: it is missing or no video, or PyAV is not installed.
    """
    if not path.is_file():
        raise UserError(f"there is no video or folder {path}; check the path.")
    try:
        av = import_module("av")
    except ImportError as error:
        raise missing_extra("PyAV", "video", "reading videos") from error
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except (av.error.FFmpegError, IndexError) as error:
        raise UserError(
            f"{path} is not a video that can be read ({error}); give another, or a folder of frames."
        ) from error
