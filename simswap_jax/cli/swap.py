"""`simswap-jax swap`: one pair, a folder of pairs, or a grid of sources × targets."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.cli.swap_video import add_film_options, check_film_options, is_film, said, swap_video
from simswap_jax.errors import UserError
from simswap_jax.inference.photo_options import add_options, check_options, face_in, redraw_photo, source_vector, whom
from simswap_jax.inference.swapper import BATCH_SIZE, Faces, FaceSwapper, check_face, resized
from simswap_jax.io.contact_sheet import contact_sheet
from simswap_jax.io.images import read_picture
from simswap_jax.io.progress import Progress, to_terminal
from simswap_jax.provenance import c2pa, writer
from simswap_jax.provenance.certificates import EXTRA, Credentials, local_credentials, read_credentials
from simswap_jax.provenance.label_xmp import draw_label, marks_of_files
from simswap_jax.provenance.watermark import SMALLEST
from simswap_jax.video.encode import FORMATS as FILM_FORMATS
from simswap_jax.weights import model_folder

SMALLEST_CELL = 96  # of a grid, in pixels: its labels can be read

EXAMPLES = """\
a photo:         simswap-jax swap --model M --source anna.jpg --target photo.jpg --output swapped.png
all its faces:   … --faces all --source anna.jpg --target photo.jpg --output swapped.png
one of them:     … --person ben.jpg --source anna.jpg --target photo.jpg --output swapped.png
a video:         simswap-jax swap --model M --source anna.jpg --target film.mp4 --output swapped.mp4
two of them:     … --person ben.jpg eve.jpg --source anna.jpg kim.jpg …   (Ben becomes Anna, Eve becomes Kim)
aligned crops:   simswap-jax swap --aligned --model M --source anna.jpg --target ben.jpg --output swapped.png
one person:      … --source anna1.jpg anna2.jpg --target ben.jpg --output swapped.png   (her pictures are averaged)
one on many:     … --source anna.jpg --target folder --output results
pairs by name:   … --source folder1 --target folder2 --output results   (folder1/x.jpg goes onto folder2/x.jpg)
a grid:          … --grid --source anna.jpg ben.jpg --target folder --output sheet.png

Swap only faces of people who agreed to it, and say that the result is synthetic.
"""


@dataclass(frozen=True)
class Swap:
    """One picture to make: the pictures of one source person, the target, and where the result goes."""

    sources: tuple[Path, ...]
    target: Path
    output: Path


@dataclass
class Job:
    """What one call is asked to do, and what went wrong on the way."""

    swapper: FaceSwapper
    arguments: argparse.Namespace
    credentials: Credentials | None = None
    failures: list[str] = field(default_factory=list)
    carried: list[tuple[str, ...]] = field(default_factory=list)  # the marks of every result

    def attempt(self, action: Callable[[], Any]) -> Any:
        """What ``action`` gives, or None and its sentence noted, so that one broken file does not stop a folder."""
        try:
            return action()
        except UserError as error:
            self.fail(str(error))
            return None

    def fail(self, sentence: str) -> None:
        """Note and show what is left out."""
        self.failures.append(sentence)
        print(f"simswap-jax: left out: {sentence}", file=sys.stderr)


def main(arguments: Sequence[str]) -> int:
    """Run ``simswap-jax swap``; returns 0, or 1 if some files of a folder could not be done."""
    options = parser().parse_args(arguments)
    check_paths(options)
    credentials = signing(options)
    job = Job(
        FaceSwapper.from_pretrained(options.model, face_size=options.size, alignment=options.alignment),
        options,
        credentials,
    )
    job.swapper.detector_file = options.detector or job.swapper.detector_file
    if options.grid:
        done = swap_grid(job)
    elif options.target[0].is_dir():
        done = swap_folder(job)
    elif is_film(options.target[0]):
        done = swap_one_film(job)
    else:
        done = swap_pair(job)
    print(f"{done} {marks_sentence(options, job.carried)}")
    if job.failures:
        print(f"simswap-jax: {len(job.failures)} left out, named above.", file=sys.stderr)
    return 1 if job.failures else 0


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    parse = argparse.ArgumentParser(
        "simswap-jax swap",
        description="Re-draw target faces with the identity of a source.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parse.add_argument
    add("--aligned", action="store_true", help="the pictures are square face crops already (default: whole photos)")
    add("--model", type=Path, metavar="FOLDER", help="model folder (default: the one that ships)")
    add(
        "--alignment",
        choices=model_folder.ALIGNMENTS,
        help="template that the crops were aligned to; a model made for another is refused",
    )
    add("--size", type=int, metavar="PIXELS", help="side of the crops; a model trained on another size is refused")
    add(
        "--source",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="who gives the identity: pictures or a folder",
    )
    add(
        "--target",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="whose face is re-drawn: pictures or a folder",
    )
    add("--output", type=Path, required=True, metavar="PATH", help="picture, or folder where the target is a folder")
    add("--grid", action="store_true", help="every source on every target, as one sheet of faces")
    add_options(parse)
    add_film_options(parse)
    add("--strength", type=float, default=1.0, help="from 0, the target's own identity, to 1, the source's (default 1)")
    add("--batch-size", type=int, default=BATCH_SIZE, help=f"faces at once (default {BATCH_SIZE})")
    add("--quality", type=int, default=95, help="of JPEG and WebP (default 95)")
    add("--no-visible-label", action="store_true", help="drop the 'AI face swap' label that people can see")
    add("--no-metadata", action="store_true", help="drop the XMP metadata by which programs know a synthetic picture")
    add(
        "--no-c2pa-manifest", action="store_true", help="drop the signed C2PA manifest (tool, action, hashes of inputs)"
    )
    add("--no-invisible-mark", action="store_true", help="drop the mark in the pixels that outlives lost metadata")
    add("--certificate", type=Path, metavar="PEM", help="sign the manifest with yours (default: one of this machine)")
    add("--certificate-key", type=Path, metavar="PEM", help="its private key")
    return parse


def check_paths(options: argparse.Namespace) -> None:
    """A UserError for what can be known to be wrong before a model is loaded."""
    for path in [*options.source, *options.target]:
        if not path.exists():
            raise UserError(f"there is no {path}; check the path.")
    if options.batch_size < 1:
        raise UserError(f"--batch-size is {options.batch_size}; it must be at least 1.")
    if not 1 <= options.quality <= 100:
        raise UserError(f"--quality is {options.quality}; it goes from 1 to 100.")
    check_options(options)
    check_film_options(options)
    if options.grid:
        writer.picture_format(options.output)
        return
    folders = [path for path in options.target if path.is_dir()]
    if len(options.target) > 1:
        raise UserError("several targets need --grid, or a folder that holds them; --target takes one path otherwise.")
    if any(path.is_dir() for path in options.source) and (not folders or len(options.source) > 1):
        raise UserError(
            "a source folder goes with one target folder of equal file names, or with --grid; name pictures instead."
        )
    if is_film(options.target[0]):
        return
    if not folders:
        if options.output.suffix.lower() in FILM_FORMATS:
            raise UserError(f"{options.target[0]} is no video, so {options.output} cannot be one; name a picture.")
        writer.picture_format(options.output)
        if options.output.is_dir():
            raise UserError(f"{options.output} is a folder; name the picture to write.")
    elif options.output.is_file():
        raise UserError(f"{options.output} is a file; the results of a folder go into a folder.")


def read_face(job: Job, path: Path, role: str) -> np.ndarray:
    """A face crop, uint8 RGB [H, H, 3]: the file's picture, or the largest face in it; a UserError names the file."""
    if not job.arguments.aligned:
        return face_in(job.swapper, path, role)
    picture = read_picture(path)
    try:
        check_face(picture, role)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return picture


def swap_pair(job: Job) -> str:
    """Sources (one person) on one target file → one file; returns what was done."""
    options = job.arguments
    sources, target = options.source, options.target[0]
    writer.refuse_overwriting([options.output], [*sources, target, *(options.person or [])])
    faces = [read_face(job, path, "source") for path in sources]
    if options.aligned:
        vector = source_vector(job.swapper, sources, faces)
        face = read_face(job, target, "target")
        result = job.swapper.swap_aligned(face, vector, options.batch_size, options.strength)
    else:
        result = redraw_photo(job.swapper, options, target, *whom(job.swapper, options, faces))
    write(job, options.output, result, sources, [target])
    return f"Swapped {chosen_faces(options)} into {options.output}."


def swap_one_film(job: Job) -> str:
    """Sources on one video → one video; returns what was done."""
    options = job.arguments
    faces = [read_face(job, path, "source") for path in options.source]
    result = swap_video(job.swapper, options, faces, job.credentials)
    job.carried.append(result.carried)
    kept = writer.MANIFEST in result.carried or options.no_c2pa_manifest or not c2pa.available()
    none = "" if kept else " C2PA knows no Matroska files: there is no manifest in it."
    return said(result, chosen_faces(options), options.output) + none


def swap_folder(job: Job) -> str:
    """A folder of targets, each with the source of its name or all with the one person given; returns what was done."""
    options = job.arguments
    swaps = swaps_of_folders(job)
    if not options.aligned:
        return swap_photos(job, swaps)
    vector = None
    if not options.source[0].is_dir():
        faces = [read_face(job, path, "source") for path in options.source]
        vector = source_vector(job.swapper, options.source, faces)
    progress = Progress(len(swaps), "faces", to_terminal)
    done = 0
    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(swaps), options.batch_size):
            chunk = swaps[start : start + options.batch_size]
            done += swap_chunk(job, chunk, vector, pool)
            progress.add(len(chunk))
    if not done:
        raise UserError(
            f"none of the {len(swaps)} pairs could be read, so nothing was written; look at the files named."
        )
    rate = f"{progress.seconds:.1f} s ({done / max(progress.seconds, 1e-9):.1f} faces/s)"
    return f"Swapped {done} of {done + len(job.failures)} faces into {options.output} in {rate}."


def swap_photos(job: Job, swaps: Sequence[Swap]) -> str:
    """Photos one by one, each with the source of its name or all with the people given; returns what was done."""
    options = job.arguments
    by_name = options.source[0].is_dir()

    def prepared(sources: Sequence[Path]) -> tuple[np.ndarray | None, Faces]:
        return whom(job.swapper, options, [read_face(job, path, "source") for path in sources])

    def swap(one: Swap) -> bool:
        who = prepared(one.sources) if by_name else everybody
        write(job, one.output, redraw_photo(job.swapper, options, one.target, *who), one.sources, [one.target])
        return True

    everybody = (None, []) if by_name else prepared(options.source)
    progress = Progress(len(swaps), "photos", to_terminal)
    done = 0
    for one in swaps:
        done += job.attempt(partial(swap, one)) or 0
        progress.add(1)
    if not done:
        raise UserError(f"none of the {len(swaps)} photos could be done; nothing was written, for the reasons above.")
    return f"Swapped {chosen_faces(options)} in {done} of {done + len(job.failures)} photos into {options.output}."


def chosen_faces(options: argparse.Namespace) -> str:
    """Whose faces a call swaps, in words."""
    if options.aligned:
        return "1 face"
    if options.person is not None:
        return "1 person" if len(options.person) == 1 else f"{len(options.person)} people"
    return {"all": "all faces", "best": "the most confident face"}.get(options.faces, "the largest face")


def swaps_of_folders(job: Job) -> list[Swap]:
    """What is to be done for a target folder; a target without a source of its name is noted as a failure."""
    options = job.arguments
    folder, given = options.target[0], options.source
    targets = writer.list_pictures(folder)
    by_name = {path.name: path for path in writer.list_pictures(given[0])} if given[0].is_dir() else None
    swaps = []
    for target in targets:
        if by_name is not None and target.name not in by_name:
            job.fail(f"{target} has no source of that name in {given[0]}; add one.")
            continue
        sources = tuple(given) if by_name is None else (by_name[target.name],)
        swaps.append(Swap(sources, target, options.output / output_name(target)))
    if not swaps:
        raise UserError(f"no file of {given[0]} has the name of one in {folder}; name them alike.")
    inputs = [*targets, *(path for swap in swaps for path in swap.sources), *(options.person or [])]
    writer.refuse_overwriting([swap.output for swap in swaps], inputs)
    return swaps


def swap_chunk(job: Job, swaps: Sequence[Swap], vector: np.ndarray | None, pool: ThreadPoolExecutor) -> int:
    """Swap and write a batch with one vector, or (None) each with its own source; returns how many could be done."""

    def read(swap: Swap) -> tuple[np.ndarray, np.ndarray]:
        target = read_face(job, swap.target, "target")
        return target, target if vector is not None else read_face(job, swap.sources[0], "source")

    options = job.arguments
    read_in = zip(swaps, pool.map(lambda swap: job.attempt(lambda: read(swap)), swaps))
    ready = [(swap, faces) for swap, faces in read_in if faces is not None]
    targets = [target for _, (target, _) in ready]
    vectors = vector
    if vectors is None:
        vectors = job.swapper.identity_vectors([source for _, (_, source) in ready], options.batch_size)
    results = job.swapper.swap_faces(targets, vectors, options.batch_size, options.strength)
    done = [swap for swap, _ in ready]
    list(pool.map(lambda swap, result: write(job, swap.output, result, swap.sources, [swap.target]), done, results))
    return len(done)


def swap_grid(job: Job) -> str:
    """Every source (down) on every target (along) → one sheet; returns what was done."""
    options = job.arguments
    sources, source_files = read_all(job, options.source, "source")
    targets, target_files = read_all(job, options.target, "target")
    writer.refuse_overwriting([options.output], [*source_files, *target_files])
    vectors = job.swapper.identity_vectors(sources, options.batch_size)
    size = job.swapper.face_size * -(-SMALLEST_CELL // job.swapper.face_size)
    progress = Progress(len(sources) * len(targets), "faces", to_terminal)
    rows = [[np.full((size, size, 3), 255, np.uint8), *(resized(target, size) for target in targets)]]
    for source, vector in zip(sources, vectors):
        results = job.swapper.swap_faces(targets, vector, options.batch_size, options.strength)
        cells = [resized(result, size) for result in results]
        rows.append([resized(source, size), *(cells if options.no_visible_label else map(draw_label, cells))])
        progress.add(len(targets))
    columns = ["", *(path.stem for path in target_files)]
    sheet = contact_sheet(rows, columns, ["", *(path.stem for path in source_files)])
    # The label stands on every swapped cell; the sources and targets among them are as they were.
    write(job, options.output, sheet, source_files, target_files, labelled=True)
    count = len(sources) * len(targets)
    return f"Swapped {len(sources)} sources × {len(targets)} targets = {count} faces into {options.output}."


def read_all(job: Job, paths: Iterable[Path], role: str) -> tuple[list[np.ndarray], list[Path]]:
    """The faces of files (a broken one is an error) and folders (a broken one is left out and named)."""
    faces: list[np.ndarray] = []
    files: list[Path] = []
    for path in paths:
        whole = path.is_dir()
        for file in writer.list_pictures(path) if whole else [path]:
            read = partial(read_face, job, file, role)
            face = job.attempt(read) if whole else read()
            if face is not None:
                faces.append(face)
                files.append(file)
    if not faces:
        raise UserError(f"none of the {role}s could be read; see the sentences above.")
    return faces, files


def write(
    job: Job, path: Path, picture: np.ndarray, sources: Sequence[Path], targets: Sequence[Path], labelled: bool = False
) -> None:
    """One result with the marks that were asked for; ``labelled``: it carries its visible labels already."""
    options = job.arguments
    carried = writer.write_result(
        path,
        picture,
        marks_of_files(sources, targets),
        visible_label=not options.no_visible_label,
        metadata=not options.no_metadata,
        c2pa=not options.no_c2pa_manifest,
        invisible_mark=not options.no_invisible_mark,
        labelled=labelled,
        credentials=job.credentials,
        parent=None if options.grid else targets[0],  # a sheet is no edited photo
        quality=options.quality,
    )
    job.carried.append(carried)


def output_name(target: Path) -> str:
    """The target's own name where we can write such a file, else that name with .png after it."""
    return target.name if target.suffix.lower() in writer.FORMATS else f"{target.name}.png"


def signing(options: argparse.Namespace) -> Credentials | None:
    """What signs the C2PA manifests: the certificate that was given, else this machine's; None: no manifest."""
    given = [path for path in (options.certificate, options.certificate_key) if path is not None]
    if len(given) == 1:
        raise UserError("--certificate and --certificate-key belong together; give both or neither.")
    if given and options.no_c2pa_manifest:
        raise UserError("--certificate signs the manifest that --no-c2pa-manifest drops; give one of the two.")
    if given and not c2pa.available():
        raise UserError(f"signing with --certificate needs the package c2pa-python; {EXTRA}.")
    if given:
        return read_credentials(*given)
    return None if options.no_c2pa_manifest or not c2pa.available() else local_credentials()


def marks_sentence(options: argparse.Namespace, carried: Sequence[tuple[str, ...]]) -> str:
    """What the results say of themselves; ``carried`` are the marks of each."""
    kept = [name for name in writer.MARKS if any(name in marks for marks in carried)]
    flags = {
        "visible label": options.no_visible_label,
        "metadata": options.no_metadata,
        "C2PA manifest": options.no_c2pa_manifest,
        "invisible mark": options.no_invisible_mark,
    }
    dropped = [name for name, off in flags.items() if off]
    without = f"without {listed(dropped)}, as asked; say yourself that the pictures are synthetic."
    if not dropped:
        said = f"Marked as synthetic by {listed(kept)}."
    elif kept:
        said = f"Marked as synthetic by {listed(kept)} only, {without}"
    else:
        said = f"Not marked as synthetic: {without}"
    if not options.no_c2pa_manifest and not c2pa.available():
        said += f" There is no C2PA manifest: it needs more packages; {EXTRA}."
    small = sum(writer.INVISIBLE not in marks for marks in carried)
    if small and not options.no_invisible_mark:
        said += f" No room for an invisible mark in {small} of {len(carried)} (under {SMALLEST} pixels)."
    return said


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
