"""From a folder of photos to aligned faces, records and identity vectors; stopped anywhere, it goes on there."""

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from simswap_jax.data.dataset import People
from simswap_jax.data.embeddings import read_vectors, vectors_file, write_vectors
from simswap_jax.data.records import build
from simswap_jax.errors import UserError
from simswap_jax.io.lock import exclusive_lock
from simswap_jax.io.progress import Progress, Sink, clock
from simswap_jax.preparation.crops import FACES, TEMPORARY, Job, cut_out, face_file, relative
from simswap_jax.preparation.embeddings import METHOD, FaceVectors, face_vectors
from simswap_jax.preparation.filters import Verdict, duplicates, two_people, wrong_people
from simswap_jax.preparation.layout import lying, place_of, put_in_place
from simswap_jax.preparation.manifest import Journal, Seen, stamp
from simswap_jax.preparation.photos import Photo, list_photos
from simswap_jax.preparation.report import detail_of, page, reason_of
from simswap_jax.preparation.settings import Settings
from simswap_jax.weights import registry
from simswap_jax.weights.files import replacing
from simswap_jax.weights.identity_folder import Identity
from simswap_jax.weights.identity_folder import read as read_identity

VERSION = 1
DETECTOR = "face_detection_yunet.onnx"
RECORDS, BLOCKS = "records", "vectors"  # folders of the output
JOURNAL, LANDMARKS, LIST, PAGE, DONE = "journal.jsonl", "landmarks.csv", "left_out.csv", "report.html", "prepared.json"


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes:
      photos, names: as in ``photos.list_photos``.
      output: the folder that gets everything; none of the photos lies in it.
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


def prepare(order: Order, say: Callable[[str], None]) -> bool:
    """Do what is asked for, or what is left of it.

    Returns:
      False where all was done before and nothing was touched.

    Raises:
      UserError: it cannot be done, with the reason. What is done stays, and the next call goes on from there.
    """
    if order.vectors and not order.identity:
        raise UserError("identity vectors need a network; name one with --identity.")
    root, output = order.photos.expanduser(), order.output.expanduser()
    photos = list_photos(root, order.names)
    if output.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{output} lies among the photos in {root}; choose an output folder elsewhere.")
    detector = registry.find(order.detector, "finding faces in photos")
    identity = read_identity(order.identity, "telling people apart") if order.identity else None
    head = {"version": VERSION, "detector": registry.file_sha256(detector), **order.settings.to_dict()}
    fingerprint = _fingerprint(head, photos, identity, order.vectors)
    with exclusive_lock(output, f"preparing {output}"):
        if _done(output) == fingerprint:
            say(f"{output} is prepared already; nothing to do.")
            return False
        for leftover in (*output.glob(f".{JOURNAL}.*"), *output.glob(".*.tmp")):
            leftover.unlink()
        job = Job(order.settings, str(detector), root, output)
        with Journal(output / JOURNAL, head) as journal:
            (output / DONE).unlink(missing_ok=True)
            _cut_out(job, journal, photos, order.processes, say)
            journal.sort([face_file(photo, order.settings) for photo in photos])
        seen = list(journal.seen.values())
        _finish(order, output, root, seen, identity, say)
        _write(output / DONE, json.dumps({"fingerprint": fingerprint, "photos": len(seen)}, indent=1) + "\n")
    return True


def _cut_out(job: Job, journal: Journal, photos: Sequence[Photo], processes: int, say: Sink) -> None:
    """Cut out the faces of the photos that the journal does not know."""
    here = lying(job.output)
    todo = [photo for photo in photos if not _known(job, journal, photo, here)]
    if len(todo) < len(photos):
        say(f"{len(photos) - len(todo):,} of {len(photos):,} photos are done already")
    counter = Progress(len(todo), "photos", say)
    for one in cut_out(job, todo, processes):
        journal.add([one])
        counter.add()
    shutil.rmtree(job.output / TEMPORARY, ignore_errors=True)
    if todo:
        seconds = max(counter.seconds, 1e-9)
        say(f"{len(todo):,} photos in {clock(seconds)}, {len(todo) / seconds:.1f}/s with {processes} processes")


def _known(job: Job, journal: Journal, photo: Photo, here: Mapping[str, object]) -> bool:
    """Whether the journal says what became of this very photo, and its face is there if it has one."""
    one = journal.seen.get(face_file(photo, job.settings))
    if one is None or one.photo != relative(photo.path, job.root) or one.stamp != stamp(photo.path):
        return False
    return bool(one.reason) or one.file in here


def _finish(
    order: Order, output: Path, root: Path, seen: Sequence[Seen], identity: Identity | None, say: Callable[[str], None]
) -> None:
    """Everything after the faces are cut out: verdicts, places, records, vectors, lists and the page."""
    settings = order.settings
    cut = [one for one in seen if not one.reason]
    verdicts = {} if settings.keep_duplicates else duplicates(cut)
    # All lie in one folder while they are looked at; a run that was killed may have moved some.
    put_in_place(output, {one.file: place_of(one.file, "") for one in cut})
    left = [one for one in cut if one.file not in verdicts]
    notes, vectors = [], None
    if identity is not None and left:
        vectors = face_vectors(left, output / FACES, identity, settings.size, order.batch_size, output / BLOCKS, say)
        wrong, unchecked = wrong_people(left, vectors.mean, settings.wrong_below)
        verdicts |= wrong
        notes.append(f"Names were checked with {identity.name}; {unchecked:,} faces have too few others to be checked.")
    else:
        notes.append("No identity network checked whether the photos show the person of their folder.")
    if not settings.keep_duplicates:
        verdicts |= two_people([one for one in left if one.file not in verdicts])
    put_in_place(output, {one.file: place_of(one.file, reason_of(one, verdicts)) for one in cut})
    kept = [one for one in cut if one.file not in verdicts]
    if not kept:
        counted = ", ".join(sorted({one.reason for one in seen}))
        _write(output / LIST, _left_out_list(seen, verdicts))
        raise UserError(f"none of the {len(seen):,} photos has a face to keep ({counted}); see {output / LIST}.")
    people = build(output / FACES, output / RECORDS, progress=say, min_people=1)
    if vectors is not None and order.vectors and identity is not None:
        _training_vectors(people, left, vectors, identity, settings.size, output / RECORDS)
    _write(output / LANDMARKS, _landmarks_list(kept))
    _write(output / LIST, _left_out_list(seen, verdicts))
    _write(output / PAGE, page(output, root, seen, verdicts, notes))
    say(f"{len(kept):,} faces of {len(people.names):,} people from {len(seen):,} photos; see {output / PAGE}")


def _training_vectors(
    people: People, faces: Sequence[Seen], vectors: FaceVectors, identity: Identity, size: int, cache: Path
) -> None:
    """Leave the vectors of the records where training looks for them (``config.data.vectors``)."""
    file = vectors_file(people.fingerprint, identity.sha256, cache, size, METHOD)
    if read_vectors(file, len(people)) is not None:
        return
    for former in cache.glob("vectors-*.npy"):  # of other faces
        former.unlink()
    row = {one.file: i for i, one in enumerate(faces)}
    write_vectors(file, np.concatenate([vectors.some(row[name], row[name] + 1) for name in people.files]))


def _landmarks_list(kept: Sequence[Seen]) -> str:
    """The landmarks of the faces kept, as CSV."""
    names = [
        f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right") for axis in "xy"
    ]
    rows = [[one.file, *(f"{value:.2f}" for value in one.landmarks)] for one in kept]
    return _csv([["file", *names], *rows])


def _left_out_list(seen: Sequence[Seen], verdicts: Mapping[str, Verdict]) -> str:
    """Every photo that is left out, with its reason, as CSV."""
    rows = [
        [one.photo, one.person, reason_of(one, verdicts), detail_of(one, verdicts)]
        for one in seen
        if reason_of(one, verdicts)
    ]
    return _csv([["photo", "person", "reason", "detail"], *rows])


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


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
