"""Frames of videos and of folders of pictures."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from simswap_jax.errors import UserError, missing_extra
from simswap_jax.io.images import read_picture
from simswap_jax.provenance.writer import list_pictures

VIDEOS = frozenset([".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"])


def frames_of(path: Path) -> Iterator[np.ndarray]:
    """Frames of a video or of a folder in order of their names, uint8 RGB [H, W, 3], all of one size.

    Raises:
      UserError: nothing there, frames of different sizes, or PyAV is missing for a video.
    """
    pictures = (read_picture(file) for file in list_pictures(path)) if path.is_dir() else video_frames(path)
    shape = None
    for number, picture in enumerate(pictures):
        shape = shape or picture.shape
        if picture.shape != shape:
            raise UserError(
                f"frame {number} of {path} has another size than the first; give frames of one size.",
                "frames-of-several-sizes",
            )
        yield picture


def video_frames(path: Path) -> Iterator[np.ndarray]:
    """Frames of a video file, uint8 RGB [H, W, 3].

    Raises:
      UserError: it is missing or no video, or PyAV is not installed.
    """
    if not path.is_file():
        raise UserError(f"there is no video or folder {path}; check the path.", "video-missing")
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
            f"{path} is not a video that can be read ({error}); give another, or a folder of frames.",
            "frames-unreadable",
        ) from error


def some_frames(video: Path, indices: Sequence[int]) -> dict[int, np.ndarray]:
    """Some frames of a video, or of a folder of frames in order of their names."""
    if video.is_dir():
        files = list_pictures(video)
        return {index: read_picture(files[index]) for index in indices if index < len(files)}
    wanted, last = set(indices), max(indices, default=-1)
    found = {}
    for index, frame in enumerate(video_frames(video)):
        if index in wanted:
            found[index] = frame
        if index >= last:
            break
    return found


def frame_count(video: Path) -> int:
    """How many frames there are; a video is decoded to count them, because containers may be wrong."""
    if video.is_dir():
        return len(list_pictures(video))
    return sum(1 for _ in video_frames(video))
