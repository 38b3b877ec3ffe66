"""From a folder of photos to aligned faces, records and identity vectors; a run that was stopped is resumed."""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from simswap_jax.data.dataset import People
from simswap_jax.data.embeddings import embedded, embedder, read_vectors, vectors_file, write_vectors
from simswap_jax.data.records import build
from simswap_jax.errors import UserError
from simswap_jax.io.atomic import file_sha256, write_json, write_text
from simswap_jax.io.images import decode_plain, read_bytes
from simswap_jax.io.job_cache import exclusive_lock
from simswap_jax.io.progress import Progress, format_duration
from simswap_jax.preparation.crops import (
    FACES,
    LEFT_OUT,
    NOT_READ_HERE,
    TEMPORARY,
    Job,
    cut_out,
    face_file,
    find_faces,
    move_faces,
    place_of,
    relative,
)
from simswap_jax.preparation.filters import Rejection, Selection, duplicates, two_people, wrong_people
from simswap_jax.preparation.manifest import FORMER_NAME, Manifest, PhotoRecord, stamp
from simswap_jax.preparation.report import landmarks_csv, left_out_csv, report_page
from simswap_jax.preparation.sources import Photo, Settings, list_photos
from simswap_jax.weights import registry
from simswap_jax.weights.identity_folder import Identity
from simswap_jax.weights.identity_folder import read as read_identity

BLOCK = 4096  # faces
METHOD = "bicubic"  # as in training


class FaceVectors:
    """Vectors of a list of faces, float32 [N, 2, D] in blocks on disk: of each face and of its mirror."""

    def __init__(self, blocks: Sequence[np.ndarray]) -> None:
        self._blocks = blocks

    def slice(self, start: int, end: int) -> np.ndarray:
        """Those from ``start`` up to ``end``: float32 [n, 2, D]."""
        parts = []
        while start < end:
            block, first = self._blocks[start // BLOCK], start % BLOCK
            count = min(end - start, len(block) - first)
            parts.append(np.asarray(block[first : first + count]))
            start += count
        return np.concatenate(parts)

    def mean(self, start: int, end: int) -> np.ndarray:
        """Of each face the direction between its vector and its mirror's: float32 [n, D], of length one."""
        together = self.slice(start, end).sum(axis=1)
        return together / np.maximum(np.linalg.norm(together, axis=1, keepdims=True), 1e-12)


def face_vectors(
    faces: Sequence[PhotoRecord], folder: Path, identity: Identity, size: int, batch_size: int, blocks: Path
) -> FaceVectors:
    """The vectors of faces, read where they are known and computed where not.

    Args:
      faces: in the order of the vectors.
      folder: where the faces lie, by `PhotoRecord.file`.
      identity: the network.
      size: side of the faces.
      batch_size: faces at a time.
      blocks: folder of the blocks; those of other faces or networks are removed.
    """
    embed = embedder(identity.network, METHOD)
    progress = Progress(len(faces), "faces embedded")
    files, found = [], []
    for start in range(0, len(faces), BLOCK):
        some = faces[start : start + BLOCK]
        file = blocks / f"{start // BLOCK:06d}-{_key(some, identity.sha256, size)}.npy"
        files.append(file)
        vectors = read_vectors(file, len(some))
        if vectors is None:
            computed = embedded(
                embed,
                identity.variables,
                lambda row, some=some: _picture(folder, some[row].file),  # type: ignore[misc]
                len(some),
                batch_size,
                progress.add,
            )
            write_vectors(file, computed)
            vectors = read_vectors(file, len(some))
            assert vectors is not None
        else:
            progress.add(len(some))
        found.append(vectors)
    for file in set(blocks.glob("*")) - set(files):
        file.unlink()
    return FaceVectors(found)


def _key(faces: Sequence[PhotoRecord], sha256: str, size: int) -> str:
    """16 hex digits for everything that a block depends on."""
    digest = hashlib.sha256(f"{sha256} {size} {METHOD}\n".encode())
    for record in faces:
        digest.update(f"{record.file} {record.stamp}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _picture(folder: Path, file: str) -> np.ndarray:
    return decode_plain(read_bytes(folder / file), file)


VERSION = 1
DETECTOR = "face_detection_yunet.onnx"
RECORDS, BLOCKS = "records", "vectors"  # folders of the output
MANIFEST, LANDMARKS, LIST, PAGE, DONE = (
    "manifest.jsonl",
    "landmarks.csv",
    "left_out.csv",
    "report.html",
    "prepared.json",
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrepareRequest:
    """What is asked for.

    Attributes:
      photos, names: as in ``sources.list_photos``.
      output: the folder that gets everything. It must not lie among the photos, and they not in its folders of faces
        and vectors.
      settings: what is kept.
      detector: YuNet's file.
      identity: a network that checks names and makes vectors; empty: neither.
      vectors: leave the vectors that training looks for beside the records.
      processes: how many cut out faces.
      batch_size: faces that go through the identity network at once.
    """

    photos: Path
    output: Path
    names: Path | None = None
    settings: Settings = field(default_factory=Settings)
    detector: str = DETECTOR
    identity: str = ""
    vectors: bool = False
    processes: int = 1
    batch_size: int = 64


def prepare(request: PrepareRequest) -> bool:
    """Do what is asked for, or what is left of it.

    Returns:
      False where all was done before and nothing was touched.

    Raises:
      UserError: it cannot be done, with the reason. What is done stays, and the next call resumes from there.
    """
    if request.vectors and not request.identity:
        raise UserError("identity vectors need a network; name one with --identity.", "vectors-need-identity")
    root, output = request.photos.expanduser(), request.output.expanduser()
    photos = list_photos(root, request.names)
    if output.resolve().is_relative_to(root.resolve()):
        sentence = f"{output} lies among the photos in {root}; choose an output folder elsewhere."
        raise UserError(sentence, "output-among-photos")
    _refuse_photos_of_the_user(root, output)
    detector = registry.find(request.detector, "finding faces in photos")
    identity = read_identity(request.identity, "telling people apart") if request.identity else None
    head = {"version": VERSION, "detector": file_sha256(detector), **request.settings.to_dict()}
    fingerprint = _fingerprint(head, photos, identity, request.vectors)
    with exclusive_lock(output, f"preparing {output}"):
        if _done(output) == fingerprint:
            logger.info("%s is prepared already; nothing to do.", output)
            return False
        _remove_leftovers(output)
        job = Job(request.settings, str(detector), root, output)
        manifest = Manifest(output / MANIFEST, head)
        (output / DONE).unlink(missing_ok=True)
        _cut_out(job, manifest, photos, request.processes)
        manifest.sort([face_file(photo, request.settings) for photo in photos])
        records = list(manifest.records.values())
        _finish(request, job, records, identity)
        unread = [record.photo for record in records if record.reason == NOT_READ_HERE]
        if unread:  # the next run tries them again
            sentence = "simswap-jax: %d of %d photos need a package or memory that is not here; see %s."
            logger.warning(sentence, len(unread), len(records), output / LIST)
        else:
            write_json(output / DONE, {"fingerprint": fingerprint, "photos": len(records)})
    return True


def _refuse_photos_of_the_user(root: Path, output: Path) -> None:
    """A UserError where the folders of faces and vectors hold the photos, or files that no run has put there.

    Both would be replaced or removed: whatever lies there and is not in the manifest is taken for a leftover.
    """
    folders = [output / name for name in (FACES, LEFT_OUT, BLOCKS)]
    for folder in folders:
        if root.resolve().is_relative_to(folder.resolve()):
            sentence = f"{folder} is where crops are written, and the photos lie there; choose another output folder."
            raise UserError(sentence, "photos-in-output")
    if (output / MANIFEST).exists() or (output / FORMER_NAME).exists():
        return
    for folder in folders:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            sentence = f"{folder} holds files that no run of prepare has put there; choose another output folder."
            raise UserError(sentence, "output-in-use")


def _remove_leftovers(output: Path) -> None:
    """Remove what a run that was killed was writing."""
    names = [f".{name}.*" for name in (MANIFEST, FORMER_NAME, LANDMARKS, LIST, PAGE, DONE)]
    for pattern in (*names, ".*.tmp"):
        for file in output.glob(pattern):
            file.unlink()


def _cut_out(job: Job, manifest: Manifest, photos: Sequence[Photo], processes: int) -> None:
    """Cut out the faces of the photos that the manifest does not know."""
    here = find_faces(job.output)
    todo = [photo for photo in photos if not _known(job, manifest, photo, here)]
    if len(todo) < len(photos):
        logger.info("%s of %s photos are done already", f"{len(photos) - len(todo):,}", f"{len(photos):,}")
    with Progress(len(todo), "photos") as progress:
        for record in cut_out(job, todo, processes):
            manifest.add([record])
            progress.add()
    shutil.rmtree(job.output / TEMPORARY, ignore_errors=True)
    if todo:
        seconds = max(progress.seconds, 1e-9)
        speed = f"{len(todo):,} photos in {format_duration(seconds)}, {len(todo) / seconds:.1f}/s"
        logger.info("%s with %d processes", speed, processes)


def _known(job: Job, manifest: Manifest, photo: Photo, here: Mapping[str, object]) -> bool:
    """Whether the manifest says what became of this very photo, and its face is there if it has one."""
    record = manifest.records.get(face_file(photo, job.settings))
    if record is None or record.photo != relative(photo.path, job.root) or record.stamp != stamp(photo.path):
        return False
    return record.reason not in ("", NOT_READ_HERE) or record.file in here


def _finish(request: PrepareRequest, job: Job, records: Sequence[PhotoRecord], identity: Identity | None) -> None:
    """Everything after the faces are cut out: rejections, places, data set, vectors, lists and the page."""
    settings, output = request.settings, job.output
    cut = [record for record in records if not record.reason]
    rejections: dict[str, Rejection] = {} if settings.keep_duplicates else duplicates(cut)
    # All lie in one folder while they are embedded; a run that was killed may have moved some.
    move_faces(output, {record.file: place_of(record.file, "") for record in cut})
    left = [record for record in cut if record.file not in rejections]
    vectors, note = None, "No identity network checked whether the photos show the person of their folder."
    if identity is not None and left:
        vectors = face_vectors(left, output / FACES, identity, settings.size, request.batch_size, output / BLOCKS)
        wrong, unchecked = wrong_people(left, vectors.mean, settings.wrong_below)
        rejections |= wrong
        note = f"Names were checked with {identity.name}; {unchecked:,} faces have too few others to be checked."
    if not settings.keep_duplicates:
        rejections |= two_people([record for record in left if record.file not in rejections])
    selection = Selection(records, rejections)
    move_faces(output, {record.file: place_of(record.file, selection.reason(record)) for record in cut})
    write_text(output / LIST, left_out_csv(selection))
    if not selection.kept:
        counted = ", ".join(sorted({selection.reason(record) for record in records}))
        sentence = f"none of the {len(records):,} photos has a face to keep ({counted}); see {output / LIST}."
        raise UserError(sentence, "no-face-kept")
    people = build(output / FACES, output / RECORDS, min_people=1)
    if vectors is not None and request.vectors and identity is not None:
        _training_vectors(people, left, vectors, identity, output / RECORDS, settings.size)
    write_text(output / LANDMARKS, landmarks_csv(selection.kept))
    write_text(output / PAGE, report_page(output, job.root, selection, [note]))
    counts = f"{len(people):,} faces of {len(people.names):,} people from {len(records):,} photos"
    logger.info("%s; see %s", counts, output / PAGE)


def _training_vectors(
    people: People, faces: Sequence[PhotoRecord], vectors: FaceVectors, identity: Identity, cache: Path, size: int
) -> None:
    """Leave the vectors of the records where training looks for them (``config.data.vectors``)."""
    file = vectors_file(people.fingerprint, identity.sha256, cache, size, METHOD)
    if read_vectors(file, len(people)) is not None:
        return
    for former in cache.glob("vectors-*.npy"):  # of other faces
        former.unlink()
    row = {record.file: i for i, record in enumerate(faces)}
    write_vectors(file, np.concatenate([vectors.slice(row[name], row[name] + 1) for name in people.files]))


def _fingerprint(head: Mapping[str, object], photos: Sequence[Photo], identity: Identity | None, vectors: bool) -> str:
    """A hash of everything that the result depends on."""
    digest = hashlib.sha256(json.dumps([head, identity.sha256 if identity else "", vectors], sort_keys=True).encode())
    for photo in photos:
        digest.update(f"{photo.name} {stamp(photo.path)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _done(output: Path) -> str:
    """The fingerprint of what was prepared here; empty where it is not finished."""
    try:
        return str(json.loads((output / DONE).read_text(encoding="utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
