"""The long part: every photo is read, its face found, cut out and written, in several processes."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.faces.detection import FaceDetector
from simswap_jax.io.images import BrokenPicture, decode_picture, read_bytes
from simswap_jax.preparation.face import AlignedFace, Refused, aligned_face
from simswap_jax.preparation.manifest import Seen, stamp
from simswap_jax.preparation.photos import Photo
from simswap_jax.preparation.settings import Settings

FACES, TEMPORARY = "faces", "unfinished"  # folders of the output
BLOCK = 1024  # photos between two looks of the parent
HANDFUL = 8  # photos that a process takes at once
QUALITY = 95
# Pixels of the longer side at which a photo is looked at first. Landmarks differ by some pixels of a crop between
# looks; this is the look of the data sets that this project was developed on.
FIRST_LOOK = (640,)


@dataclass(frozen=True)
class Job:
    """What every process knows."""

    settings: Settings
    detector: str
    root: Path
    output: Path


def cut_out(job: Job, photos: Sequence[Photo], processes: int) -> Iterator[Seen]:
    """What becomes of each photo, in order; the faces are written below ``<output>/faces``.

    Raises:
      UserError: the faces cannot be written, or a process dies.
    """
    if processes == 1:
        work = worker(job)
        yield from map(work, photos)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads can hang
    pool = ProcessPoolExecutor(processes, context, _begin, (job,))
    try:
        for start in range(0, len(photos), BLOCK):
            yield from pool.map(_work, photos[start : start + BLOCK], chunksize=HANDFUL)
    except BrokenProcessPool:
        raise UserError(
            "a process that cut out faces died (out of memory?); run the same command again to go on, "
            "with fewer --processes if it happens again."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_here: Callable[[Photo], Seen] | None = None  # of a process of the pool


def _begin(job: Job) -> None:
    global _here
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    cv2.setNumThreads(1)
    _here = worker(job)


def _work(photo: Photo) -> Seen:
    assert _here is not None
    return _here(photo)


def worker(job: Job) -> Callable[[Photo], Seen]:
    """The function that does one photo, with its detectors."""
    try:
        first = FaceDetector(job.detector, sides=FIRST_LOOK)
        closer = FaceDetector(job.detector)
    except ValueError as error:
        raise UserError(str(error)) from None
    return partial(_one, job, first, closer)


def _one(job: Job, first: FaceDetector, closer: FaceDetector, photo: Photo) -> Seen:
    seen = partial(Seen, face_file(photo, job.settings), relative(photo.path, job.root), stamp(photo.path))
    try:
        picture = decode_picture(read_bytes(photo.path), photo.path.name)
    except BrokenPicture as error:
        return seen("unreadable", error.reason)
    except UserError:
        return seen("unreadable", "is not there any more")
    try:
        face = _found(first, closer, picture, job.settings)
    except Refused as refusal:
        return seen(refusal.reason, refusal.detail)
    one = seen(
        landmarks=tuple(round(float(value), 2) for value in face.landmarks.ravel()),
        score=round(face.score, 3),
        enlarged=round(face.enlarged, 3),
        sharpness=round(face.sharpness, 4),
        hash=face.hash.hex(),
        photo_hash=face.photo_hash.hex(),
    )
    _write(job, photo, one, face)
    return one


def _found(first: FaceDetector, closer: FaceDetector, picture: np.ndarray, settings: Settings) -> AlignedFace:
    """The face of a photo; where the first look finds none, closer and farther ones follow."""
    try:
        return aligned_face(first, picture, settings)
    except Refused as refusal:
        if refusal.reason not in ("no face", "doubtful face"):
            raise
        return aligned_face(closer, picture, settings)


def _write(job: Job, photo: Photo, one: Seen, face: AlignedFace) -> None:
    """The face's file, whole or not at all, as old as its photo: so that a data set of it is found again."""
    place = job.output / FACES / one.file
    temporary = job.output / TEMPORARY / f"{os.getpid()}.{job.settings.format}"
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    _, data = cv2.imencode(
        f".{job.settings.format}",
        cv2.cvtColor(face.picture, cv2.COLOR_RGB2BGR),
        options if job.settings.format == "jpg" else [],
    )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data.tobytes())
        time = photo.path.stat().st_mtime_ns
        os.utime(temporary, ns=(time, time))
        os.replace(temporary, place)
    except OSError as error:
        raise UserError(f"{place} cannot be written ({error.strerror}); make room or choose another output.") from None


def face_file(photo: Photo, settings: Settings) -> str:
    """The path of a photo's face below the folder of faces."""
    return f"{photo.name}.{settings.format}"


def relative(path: Path, root: Path) -> str:
    """A photo's path below its root."""
    return path.relative_to(root).as_posix()
