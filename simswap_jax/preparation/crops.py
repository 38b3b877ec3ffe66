"""The long part: every photo is read, its face found, cut out and written, in several processes; where faces lie."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.faces.detection import FaceDetector
from simswap_jax.io.atomic import replacing_file
from simswap_jax.io.images import BrokenPicture, decode_picture, encode_jpeg, encode_png, read_bytes
from simswap_jax.preparation.face import AlignedFace, Rejected, aligned_face
from simswap_jax.preparation.manifest import PhotoRecord, stamp
from simswap_jax.preparation.settings import Settings
from simswap_jax.preparation.sources import Photo

FACES, LEFT_OUT, TEMPORARY = "faces", "left_out", "unfinished"  # folders of the output
BLOCK = 1024  # photos that are handed to the processes at once
CHUNK = 8  # photos that a process takes at once
QUALITY = 95
# Pixels of the longer side at which faces are looked for first. Landmarks differ by some pixels of a crop from side to
# side; this is the side of the data sets that this project was developed on.
FIRST_SIDES = (640,)


@dataclass(frozen=True)
class Job:
    """What every process knows."""

    settings: Settings
    detector: str
    root: Path
    output: Path


def cut_out(job: Job, photos: Sequence[Photo], processes: int) -> Iterator[PhotoRecord]:
    """What becomes of each photo, in order; the faces are written below ``<output>/faces``.

    Raises:
      UserError: the faces cannot be written, or a process dies.
    """
    if processes == 1:
        work = worker(job)
        yield from map(work, photos)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads can hang
    pool = ProcessPoolExecutor(processes, context, _start_worker, (job,))
    try:
        for start in range(0, len(photos), BLOCK):
            yield from pool.map(_work, photos[start : start + BLOCK], chunksize=CHUNK)
    except BrokenProcessPool:
        raise UserError(
            "a process that cut out faces died (out of memory?); run the same command again to resume, "
            "with fewer --processes if it happens again.",
            "worker-died",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_worker: Callable[[Photo], PhotoRecord] | None = None  # of a process of the pool


def _start_worker(job: Job) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    cv2.setNumThreads(1)
    _worker = worker(job)


def _work(photo: Photo) -> PhotoRecord:
    assert _worker is not None
    return _worker(photo)


def worker(job: Job) -> Callable[[Photo], PhotoRecord]:
    """The function that does one photo, with its detectors."""
    try:
        first = FaceDetector(job.detector, sides=FIRST_SIDES)
        closer = FaceDetector(job.detector)
    except ValueError as error:
        raise UserError(str(error), "not-a-detector") from None
    return partial(_process, job, first, closer)


def _process(job: Job, first: FaceDetector, closer: FaceDetector, photo: Photo) -> PhotoRecord:
    record_of = partial(PhotoRecord, face_file(photo, job.settings), relative(photo.path, job.root), stamp(photo.path))
    try:
        picture = decode_picture(read_bytes(photo.path), photo.path.name)
    except BrokenPicture as error:
        return record_of("unreadable", error.reason)
    except UserError:
        return record_of("unreadable", "is not there any more")
    try:
        face = _found(first, closer, picture, job.settings)
    except Rejected as rejection:
        return record_of(rejection.reason, rejection.detail)
    record = record_of(
        landmarks=tuple(round(float(value), 2) for value in face.landmarks.ravel()),
        score=round(face.score, 3),
        enlarged=round(face.enlarged, 3),
        sharpness=round(face.sharpness, 4),
        hash=face.hash.hex(),
        photo_hash=face.photo_hash.hex(),
    )
    _write(job, photo, record, face)
    return record


def _found(first: FaceDetector, closer: FaceDetector, picture: np.ndarray, settings: Settings) -> AlignedFace:
    """The face of a photo; where the first sides find none, others are tried."""
    try:
        return aligned_face(first, picture, settings)
    except Rejected as rejection:
        if rejection.reason not in ("no face", "doubtful face"):
            raise
        return aligned_face(closer, picture, settings)


def _write(job: Job, photo: Photo, record: PhotoRecord, face: AlignedFace) -> None:
    """The face's file, whole or not at all, as old as its photo: so that a data set of it is found again."""
    data = encode_png(face.picture) if job.settings.format == "png" else encode_jpeg(face.picture, QUALITY)
    # Nothing waits for the disk: millions of faces are written, and each can be cut out again.
    place, folder = job.output / FACES / record.file, job.output / TEMPORARY
    with replacing_file(place, sync=False, temporary_folder=folder) as temporary:
        temporary.write_bytes(data)
        time = photo.path.stat().st_mtime_ns
        os.utime(temporary, ns=(time, time))


def face_file(photo: Photo, settings: Settings) -> str:
    """The path of a photo's face below the folder of faces."""
    return f"{photo.name}.{settings.format}"


def relative(path: Path, root: Path) -> str:
    """A photo's path below its root."""
    return path.relative_to(root).as_posix()


def place_of(file: str, reason: str) -> str:
    """A face's path below the output folder; ``reason`` is empty where it stays."""
    return f"{LEFT_OUT}/{reason.replace(' ', '-')}/{file}" if reason else f"{FACES}/{file}"


def find_faces(output: Path) -> dict[str, list[str]]:
    """Face → the paths below the output folder where it lies now; first the one with those that stay."""
    found: dict[str, list[str]] = {}
    for path in _walk(output, FACES):
        found.setdefault(path.removeprefix(f"{FACES}/"), []).append(path)
    for path in _walk(output, LEFT_OUT):
        found.setdefault("/".join(path.split("/")[2:]), []).append(path)
    return found


def move_faces(output: Path, wanted: Mapping[str, str]) -> None:
    """Move every face where it is wanted, and remove those that are not.

    Args:
      output: the folder.
      wanted: face → its path below ``output``. It lies somewhere there already.
    """
    for file, places in find_faces(output).items():
        place = wanted.get(file)
        if place is None:
            _remove(output, places)
        elif places != [place]:
            target = output / place
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(output / places[0], target)  # the newest is the one among the faces
            _remove(output, [other for other in places[1:] if other != place])
    _remove_empty(output)


def _remove(output: Path, places: Iterable[str]) -> None:
    for place in places:
        (output / place).unlink(missing_ok=True)


def _remove_empty(output: Path) -> None:
    """Remove folders of people that hold nothing any more."""
    for top in (FACES, LEFT_OUT):
        for folder, _, _ in os.walk(output / top, topdown=False):
            if not os.listdir(folder):
                os.rmdir(folder)


def _walk(output: Path, top: str) -> Iterator[str]:
    """The files below a folder, as paths below ``output``, sorted."""
    for folder, folders, files in os.walk(output / top):
        folders.sort()
        below = Path(folder).relative_to(output).as_posix()
        yield from (f"{below}/{file}" for file in sorted(files))
