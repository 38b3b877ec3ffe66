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
from simswap_jax.faces.alignment import align, crop
from simswap_jax.faces.detection import FaceDetector
from simswap_jax.faces.direction import directed
from simswap_jax.faces.face import Face
from simswap_jax.io.atomic import replacing_file
from simswap_jax.io.images import BrokenPicture, UnreadHere, decode_picture, encode_jpeg, encode_png, read_bytes
from simswap_jax.preparation.manifest import PhotoRecord, stamp
from simswap_jax.preparation.sources import Photo, Settings
from simswap_jax.weights import onnx_session

SHARPNESS_SIDE = 112  # pixels: sharpness is measured at one size, whatever the crop's
MARGIN = 8  # of them at each side, which may lie outside the photo
HASH_SIDE = 16  # a hash has its square of bits


class Rejected(Exception):
    """A photo without a face to keep: a reason of ``sources.REASONS`` and what was measured."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class AlignedFace:
    """A face that is kept, and what is known of it.

    Attributes:
      picture: uint8 RGB [size, size, 3].
      landmarks: float64 [5, 2] in its pixels.
      score: the detector's confidence.
      enlarged: pixels of the crop per pixel of the photo, along a line.
      sharpness: as in `sharpness`.
      hash, photo_hash: as in `picture_hash`, of the face and of its photo. A photo that was scaled has its
        landmarks some pixels elsewhere, so that only the second is the same; one that was cut has the first.
    """

    picture: np.ndarray
    landmarks: np.ndarray
    score: float
    enlarged: float
    sharpness: float
    hash: bytes
    photo_hash: bytes


def aligned_face(detector: FaceDetector, photo: np.ndarray, settings: Settings, closely: bool = True) -> AlignedFace:
    """The largest face of a photo, uint8 RGB [H, W, 3], aligned in its own direction.

    Args:
      detector: YuNet.
      photo: is searched.
      settings: what is kept.
      closely: also faces that lie, and small ones, are looked for.

    Raises:
      Rejected: the photo or its face is not what the settings ask for.
    """
    height, width = photo.shape[:2]
    if min(height, width) < settings.least_picture:
        raise Rejected("small picture", f"{width}x{height} pixels")
    face = largest(detector.detect(photo) if closely else detector.look(photo), settings)
    if not closely:
        face = directed(detector.glance, photo, face) or face
    if ((face.landmarks < -0.5) | (face.landmarks > (width - 0.5, height - 0.5))).any():
        raise Rejected("cut off", f"landmarks outside {width}x{height} pixels")
    if not face.direction_known:
        raise Rejected("doubtful face", "it cannot be told which way up it is")
    try:
        alignment = align(face.landmarks, settings.template, settings.size)
    except ValueError as error:
        raise Rejected("doubtful face", str(error)) from None
    if alignment.density > settings.most_enlarged:
        raise Rejected("small face", f"enlarged {alignment.density:.2f} times")
    if alignment.residual > settings.most_turned:
        raise Rejected("turned away", f"landmark error {alignment.residual:.3f} of the side")
    picture = crop(photo, alignment)
    fine = sharpness(picture)
    if fine < settings.least_sharpness:
        raise Rejected("blurred", f"sharpness {fine:.4f}")
    hashes = picture_hash(picture), picture_hash(photo)
    return AlignedFace(picture, alignment.landmarks, face.score, alignment.density, fine, *hashes)


def largest(faces: list[Face], settings: Settings) -> Face:
    """The largest of the faces that the detector is sure of.

    Raises:
      Rejected: there is none, or a second one is about as large.
    """
    if not faces:
        raise Rejected("no face", "none found")
    by_area = sorted(faces, key=lambda face: -face.area)
    sure = [face for face in by_area if face.score >= settings.least_score]
    if not sure:
        raise Rejected("doubtful face", f"confidence {max(face.score for face in faces):.2f}")
    first, *others = sure
    if others and others[0].area > settings.rival * first.area:
        raise Rejected("several faces", f"the second is {others[0].area / first.area:.2f} as large")
    return first


def grey(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture's grey values in a square, averaged: float32 [side, side], 0 to 255."""
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)


def sharpness(picture: np.ndarray) -> float:
    """Fine detail of an aligned face: variance of the Laplacian over the variance of its grey values, at 112 pixels.

    The quotient does not depend on contrast. A crop blurred by σ = 2 pixels of 112 has 0.004, a good one 0.15.
    """
    values = grey(picture, SHARPNESS_SIDE)
    inside = cv2.Laplacian(values, cv2.CV_32F)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return float(inside.var() / max(float(values.var()), 1.0))


def picture_hash(picture: np.ndarray) -> bytes:
    """A perceptual hash of a picture, uint8 RGB [H, W, 3], 32 bytes: which low frequencies lie above the median.

    The first row and column of the cosine transform are left out: those that change with light from one side.
    """
    waves = cv2.dct(grey(picture, 4 * HASH_SIDE))[1 : HASH_SIDE + 1, 1 : HASH_SIDE + 1].ravel()
    return np.packbits(waves > np.median(waves)).tobytes()


NOT_READ_HERE = "not read here"  # of sources.REASONS: the one that another run may change
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
    try:
        onnx_session.check_yunet(Path(job.detector))
    except UserError as error:
        raise UserError(str(error), "not-a-detector") from None
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
        first = onnx_session.with_user_errors(FaceDetector(job.detector, sides=FIRST_SIDES))
        closer = onnx_session.with_user_errors(FaceDetector(job.detector))
    except ValueError as error:
        raise UserError(str(error), "not-a-detector") from None
    return partial(_process, job, first, closer)


def _process(job: Job, first: FaceDetector, closer: FaceDetector, photo: Photo) -> PhotoRecord:
    record_of = partial(PhotoRecord, face_file(photo, job.settings), relative(photo.path, job.root), stamp(photo.path))
    try:
        picture = decode_picture(read_bytes(photo.path), photo.path.name)
    except BrokenPicture as error:
        return record_of(NOT_READ_HERE if isinstance(error, UnreadHere) else "unreadable", error.reason)
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
        return aligned_face(first, picture, settings, closely=False)
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
