"""Picture files swapped: one, a folder of them, or every source on every target as one sheet."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.inference.arrays import check_face
from simswap_jax.inference.options import FaceSelection, MarkOptions, Source, SwapOptions, face_numbers
from simswap_jax.inference.swapper import LEAST_ALIKE, FaceSwapper
from simswap_jax.io.animation import refuse_animation
from simswap_jax.io.atomic import say_replaced
from simswap_jax.io.contact_sheet import grid_sheet
from simswap_jax.io.folders import warn_of_rest
from simswap_jax.io.images import QUALITY, read_picture, resized
from simswap_jax.io.progress import Progress
from simswap_jax.provenance import writer
from simswap_jax.provenance.label_xmp import draw_label, provenance_of

T = TypeVar("T")
SMALLEST_CELL = 96  # of a sheet, in pixels: its labels can be read
WRITERS = 4  # threads that read and write pictures

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SwapRequest:
    """Files to swap.

    Attributes:
      sources: pictures of the person who gives the identity; or one of each, where ``people`` names as many; or a
        folder whose files have the names of the targets'; of a sheet, pictures of as many people and folders.
      targets: a picture or a folder; of a sheet, several.
      output: a picture file, or a folder where the target is one.
      people: photos of whom is to be swapped; empty: ``swap.faces`` says it.
      source_name: in place of ``sources``, a person whom the model was trained on, by name.
      aligned: pictures are square face crops already, not whole photos.
      swap: how.
      marks: which marks results get.
      quality: of JPEG and WebP, 1 to 100.
    """

    sources: tuple[Path, ...]
    targets: tuple[Path, ...]
    output: Path
    people: tuple[Path, ...] = ()
    aligned: bool = False
    swap: SwapOptions = field(default_factory=SwapOptions)
    marks: MarkOptions = field(default_factory=MarkOptions)
    quality: int = QUALITY
    source_name: str = ""

    @property
    def by_name(self) -> bool:
        """Whether the sources are a folder whose files have the targets' names."""
        return bool(self.sources) and self.sources[0].is_dir()

    def who(self) -> str:
        """Whose faces are swapped, in words."""
        if self.aligned:
            return "1 face"
        if self.people:
            return "1 person" if len(self.people) == 1 else f"{len(self.people)} people"
        return {"all": "all faces", "best": "the most confident face"}.get(self.swap.faces.which, "the largest face")


@dataclass(frozen=True)
class FileSwap:
    """One picture to make: the pictures of one source person, the target, and where the result goes."""

    sources: tuple[Path, ...]
    target: Path
    output: Path


@dataclass
class Outcome:
    """What went wrong on the way, and the marks of every result."""

    failures: list[str] = field(default_factory=list)
    carried: list[tuple[str, ...]] = field(default_factory=list)

    def attempt(self, action: Callable[[], T]) -> T | None:
        """What ``action`` gives, or None and its sentence noted, so that one broken file does not stop a folder."""
        try:
            return action()
        except UserError as error:
            self.fail(str(error))
            return None

    def fail(self, sentence: str) -> None:
        """Note and show what is left out."""
        self.failures.append(sentence)
        _log.warning("simswap-jax: left out: %s", sentence)


def naming(path: Path, action: Callable[[], T]) -> T:
    """What ``action`` gives; the sentence of its UserError begins with the file."""
    try:
        return action()
    except UserError as error:
        raise UserError(f"{path}: {error}", error.code) from error


def read_face(swapper: FaceSwapper, path: Path, role: str, aligned: bool = False, number: int = 0) -> np.ndarray:
    """A face crop, uint8 RGB [H, H, 3]: the picture itself if it is aligned, else a face of the photo.

    It is the largest one, or that of a ``number`` from the left; where there are several, the log says which.

    Raises:
      UserError: it cannot be read, shows no face, or is no square; the sentence names the file.
    """
    if role == "target":
        refuse_animation(path)
    picture = read_picture(path)
    if not aligned:
        chosen = naming(path, lambda: swapper.photos.choose_face(picture, role, number))
        if sentence := chosen.sentence(str(path)):
            advice = " --source-face N takes another." if role == "source" else ""
            _log.info("simswap-jax: %s%s", sentence, advice)
        return chosen.picture
    naming(path, lambda: check_face(picture, role))
    return picture


def resolve_source(
    swapper: FaceSwapper, request: SwapRequest, files: Sequence[Path] | None = None
) -> tuple[Source, SwapOptions]:
    """Whose identity goes to whom, as vectors.

    Args:
      swapper: makes the vectors.
      request: names the people, and how to swap.
      files: the source's pictures; those of the request if None.

    Returns:
      The source, and the options with the named people in them.
    """
    if request.source_name:
        return Source(swapper.person(request.source_name), ()), request.swap
    files = request.sources if files is None else tuple(files)
    numbers = face_numbers(request.swap.source_faces, len(files))
    faces = [read_face(swapper, path, "source", request.aligned, number) for path, number in zip(files, numbers)]
    if not request.people:
        return Source(source_vector(swapper, files, faces), files), request.swap
    people = swapper.identity_vectors([read_face(swapper, path, "person") for path in request.people])
    if len(people) == 1:
        named = replace(request.swap, faces=FaceSelection.of(people[0]))
        return Source(source_vector(swapper, files, faces), files), named
    pairs = list(zip(people, swapper.source_vectors(faces)))
    return Source(None, files), replace(request.swap, faces=FaceSelection.of(pairs))


def source_vector(swapper: FaceSwapper, files: Sequence[Path], faces: Sequence[np.ndarray]) -> np.ndarray:
    """The identity of one person's source faces, averaged; those of somebody else are named and left out.

    Where none is like the others, all are averaged, and the log says so.
    """
    vector, cosines = swapper.one_identity(faces)
    if len(cosines) and (cosines < LEAST_ALIKE).all():
        _log.warning(
            "simswap-jax: the source photos seem to show different people (cosines of at most %.2f); their average is "
            "used. Give photos of one person.",
            cosines.max(),
        )
        return vector
    for path, cosine in zip(files, cosines):
        if cosine < LEAST_ALIKE:
            _log.warning(
                "simswap-jax: left out: %s shows somebody else than the other sources (cosine %.2f).", path, cosine
            )
    return vector


def swap_pictures(swapper: FaceSwapper, request: SwapRequest, outcome: Outcome) -> str:
    """A target picture or a folder of them; returns what was done."""
    if not request.targets[0].is_dir():
        return swap_file(swapper, request, outcome)
    swaps = pair_files(request, outcome)
    return (swap_crops if request.aligned else swap_photos)(swapper, request, swaps, outcome)


def swap_file(swapper: FaceSwapper, request: SwapRequest, outcome: Outcome) -> str:
    """Sources (one person) on one target file → one file; returns what was done."""
    target = request.targets[0]
    writer.refuse_overwriting([request.output], [*request.sources, target, *request.people])
    say_replaced([request.output])
    source, swap = resolve_source(swapper, request)
    if request.aligned:
        assert source.vector is not None  # crops have no named people
        face = read_face(swapper, target, "target", aligned=True)
        result = swapper.swap_aligned(face, source.vector, swap.batch_size, swap.strength)
    else:
        result = swap_photo(swapper, target, source, swap)
    outcome.carried.append(write(request, FileSwap(source.files, target, request.output), result))
    return f"Swapped {request.who()} into {request.output}."


def swap_photo(swapper: FaceSwapper, path: Path, source: Source, swap: SwapOptions) -> np.ndarray:
    """A photo file with its faces swapped, uint8 RGB [H, W, 3], or a UserError that names the file."""
    refuse_animation(path)
    photo = read_picture(path)
    return naming(path, lambda: swapper.photos.swap(photo, source.vector, swap))


def pair_files(request: SwapRequest, outcome: Outcome) -> list[FileSwap]:
    """What is to be done for a target folder; a target without a source of its name is noted as a failure."""
    folder, given = request.targets[0], request.sources
    targets = pictures_of(folder, request.output)
    by_name = {path.name: path for path in pictures_of(given[0], request.output)} if request.by_name else None
    if by_name is not None:
        unused = [by_name[name] for name in sorted(set(by_name) - {target.name for target in targets})]
        warn_of_rest(given[0], unused, f"taken are sources with the name of a target in {folder}")
    swaps = []
    for target in targets:
        if by_name is not None and target.name not in by_name:
            outcome.fail(f"{target} has no source of that name in {given[0]}; add one.")
            continue
        sources = given if by_name is None else (by_name[target.name],)
        swaps.append(FileSwap(sources, target, request.output / output_name(target)))
    if not swaps:
        raise UserError(f"no file of {given[0]} has the name of one in {folder}; name them alike.", "no-equal-names")
    inputs = [*targets, *(path for swap in swaps for path in swap.sources), *request.people]
    outputs = [swap.output for swap in swaps]
    output, times = Counter(outputs).most_common(1)[0]
    if times > 1:
        both = " and ".join(str(swap.target) for swap in swaps if swap.output == output)
        raise UserError(f"{both} would both become {output}; rename one of them.", "two-of-one-name")
    writer.refuse_overwriting(outputs, inputs)
    say_replaced(outputs, request.output)
    return swaps


def pictures_of(folder: Path, output: Path) -> list[Path]:
    """The pictures right inside a folder; what else lies there is named and counted, but for earlier results.

    Raises:
      UserError: there is none.
    """
    pictures = writer.list_pictures(folder)
    taken, results = set(pictures), output.resolve()
    visible = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    rest = [path for path in visible if path not in taken and path.resolve() != results]
    warn_of_rest(folder, rest, "taken are the pictures right inside it; name other folders and videos one by one")
    return pictures


def output_name(target: Path) -> str:
    """The target's own name where we can write such a file, else that name with .png after it."""
    return target.name if target.suffix.lower() in writer.FORMATS else f"{target.name}.png"


def swap_crops(swapper: FaceSwapper, request: SwapRequest, swaps: Sequence[FileSwap], outcome: Outcome) -> str:
    """Aligned crops in batches, each with the source of its name or all with one person; returns what was done."""
    vector = None if request.by_name else resolve_source(swapper, request)[0].vector
    progress = Progress(len(swaps), "faces", _log.info)
    done = 0
    with ThreadPoolExecutor(WRITERS) as pool:
        for start in range(0, len(swaps), request.swap.batch_size):
            chunk = swaps[start : start + request.swap.batch_size]
            done += _Chunk(swapper, request, outcome, pool).swap(chunk, vector)
            progress.add(len(chunk))
    if not done:
        raise UserError(
            f"none of the {len(swaps)} pairs could be read, so nothing was written; look at the files named.",
            "nothing-swapped",
        )
    rate = f"{progress.seconds:.1f} s ({done / max(progress.seconds, 1e-9):.1f} faces/s)"
    return f"Swapped {done} of {done + len(outcome.failures)} faces into {request.output} in {rate}."


@dataclass(frozen=True)
class _Chunk:
    """A batch of aligned crops: read and written by several threads, swapped at once."""

    swapper: FaceSwapper
    request: SwapRequest
    outcome: Outcome
    pool: ThreadPoolExecutor

    def swap(self, swaps: Sequence[FileSwap], vector: np.ndarray | None) -> int:
        """Swap and write with one vector, or (None) each with its own source; returns how many could be done."""
        own = vector is None
        read = self.pool.map(lambda swap: self.outcome.attempt(partial(self._read, swap, own)), swaps)
        ready = [(swap, faces) for swap, faces in zip(swaps, read) if faces is not None]
        options = self.request.swap
        if vector is None:
            vector = self.swapper.source_vectors([source for _, (_, source) in ready], options.batch_size)
        targets = [target for _, (target, _) in ready]
        results = self.swapper.swap_faces(targets, vector, options.batch_size, options.strength)
        done = [swap for swap, _ in ready]
        self.outcome.carried.extend(self.pool.map(partial(write, self.request), done, results))
        return len(done)

    def _read(self, swap: FileSwap, own: bool) -> tuple[np.ndarray, np.ndarray]:
        """The crops of target and, where each has its own, source."""
        target = read_face(self.swapper, swap.target, "target", aligned=True)
        return target, read_face(self.swapper, swap.sources[0], "source", aligned=True) if own else target


def swap_photos(swapper: FaceSwapper, request: SwapRequest, swaps: Sequence[FileSwap], outcome: Outcome) -> str:
    """Photos one by one, each with the source of its name or all with the people given; returns what was done."""
    everybody = None if request.by_name else resolve_source(swapper, request)

    def swap(one: FileSwap) -> tuple[str, ...]:
        source, options = everybody or resolve_source(swapper, request, one.sources)
        return write(request, one, swap_photo(swapper, one.target, source, options))

    progress = Progress(len(swaps), "photos", _log.info)
    done = 0
    for one in swaps:
        carried = outcome.attempt(partial(swap, one))
        if carried is not None:
            outcome.carried.append(carried)
            done += 1
        progress.add(1)
    if not done:
        raise UserError(
            f"none of the {len(swaps)} photos could be done; nothing was written, for the reasons above.",
            "nothing-swapped",
        )
    return f"Swapped {request.who()} in {done} of {done + len(outcome.failures)} photos into {request.output}."


def swap_grid(swapper: FaceSwapper, request: SwapRequest, outcome: Outcome) -> str:
    """Every source (down) on every target (along) → one sheet, a long one in blocks; returns what was done."""
    sources, source_files = read_faces(swapper, request, request.sources, "source", outcome)
    targets, target_files = read_faces(swapper, request, request.targets, "target", outcome)
    writer.refuse_overwriting([request.output], [*source_files, *target_files])
    say_replaced([request.output])
    vectors = swapper.source_vectors(sources, request.swap.batch_size)
    size = swapper.face_size * -(-SMALLEST_CELL // swapper.face_size)
    progress = Progress(len(sources) * len(targets), "faces", _log.info)
    heads = [resized(target, size) for target in targets]
    rows: list[list[np.ndarray]] = []
    for source, vector in zip(sources, vectors):
        results = swapper.swap_faces(targets, vector, request.swap.batch_size, request.swap.strength)
        cells: Iterable[np.ndarray] = [resized(result, size) for result in results]
        rows.append([resized(source, size), *(map(draw_label, cells) if request.marks.label else cells)])
        progress.add(len(targets))
    sheet = grid_sheet(rows, heads, [path.stem for path in source_files], [path.stem for path in target_files])
    # The label stands on every swapped cell; the sources and targets among them are as they were.
    made_of = provenance_of(source_files, target_files)
    carried = writer.write_result(request.output, sheet, made_of, request.marks, labelled=True, quality=request.quality)
    outcome.carried.append(carried)
    count = len(sources) * len(targets)
    return f"Swapped {len(sources)} sources × {len(targets)} targets = {count} faces into {request.output}."


def read_faces(
    swapper: FaceSwapper, request: SwapRequest, paths: Iterable[Path], role: str, outcome: Outcome
) -> tuple[list[np.ndarray], list[Path]]:
    """The faces of files (a broken one is an error) and folders (a broken one is left out and named)."""
    faces: list[np.ndarray] = []
    files: list[Path] = []
    for path in paths:
        whole = path.is_dir()
        for file in pictures_of(path, request.output) if whole else [path]:
            read: Callable[[], Any] = partial(read_face, swapper, file, role, request.aligned)
            face = outcome.attempt(read) if whole else read()
            if face is not None:
                faces.append(face)
                files.append(file)
    if not faces:
        raise UserError(f"none of the {role}s could be read; see the sentences above.", "nothing-read")
    return faces, files


def write(request: SwapRequest, swap: FileSwap, picture: np.ndarray) -> tuple[str, ...]:
    """One result with the marks that were asked for; returns those that it carries."""
    made_of = provenance_of(swap.sources, [swap.target])
    return writer.write_result(
        swap.output, picture, made_of, request.marks, parent=swap.target, quality=request.quality
    )
