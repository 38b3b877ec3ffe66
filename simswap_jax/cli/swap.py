"""`simswap-jax swap`: one picture or video, a folder of pictures, or a grid of sources × targets."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from simswap_jax.cli import MODEL_HELP, command_parser
from simswap_jax.errors import UserError, missing_extra
from simswap_jax.inference.batch import Outcome, SwapRequest, resolve_source, swap_grid, swap_pictures
from simswap_jax.inference.options import (
    BATCH_SIZE,
    BLENDS,
    CHOICES,
    CRF,
    KEEP,
    THRESHOLD,
    EncodingOptions,
    FaceSelection,
    MarkOptions,
    SwapOptions,
    check_quality,
    check_strength,
)
from simswap_jax.inference.photo import DETECTOR
from simswap_jax.inference.runtime import RUNTIMES
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.io import animation
from simswap_jax.io.atomic import say_replaced
from simswap_jax.io.images import QUALITY
from simswap_jax.provenance import c2pa, writer
from simswap_jax.provenance.certificates import Credentials, credentials_here, read_credentials
from simswap_jax.provenance.options import marks_sentence
from simswap_jax.provenance.writer import refuse_overwriting
from simswap_jax.video.decode import av_package, is_video
from simswap_jax.video.encode import FORMATS as VIDEO_FORMATS
from simswap_jax.video.encode import container_of
from simswap_jax.video.pipeline import VideoResult, swap_video
from simswap_jax.weights import model_folder


def add_video_arguments(parse: argparse.ArgumentParser) -> None:
    """Add the arguments that only videos have."""
    add = parse.add_argument_group("videos").add_argument
    add("--crf", type=int, help=f"quality of a video, 0 (lossless) to 51 (default {CRF})")


def encoding_options(given: argparse.Namespace) -> EncodingOptions:
    """How a video is encoded.

    Raises:
      UserError: a value out of its range.
    """
    return EncodingOptions(CRF if given.crf is None else given.crf, QUALITY if given.quality is None else given.quality)


def check_video_arguments(given: argparse.Namespace) -> None:
    """A UserError for what does not go with a video, or only goes with one, before a model is loaded."""
    videos = [path for path in given.target if is_video(path)]
    if given.crf is not None and not videos:
        raise UserError("--crf is for videos; leave it out, or say --quality.", "crf-without-video")
    if not videos:
        return
    if given.grid or given.aligned:
        flag = "--grid" if given.grid else "--aligned"
        raise UserError(f"{videos[0]} is a video or an animation; leave out {flag}.", "video-arguments")
    container_of(given.output, videos[0])
    still = given.output.suffix.lower() in animation.FORMATS
    if still and given.crf is not None:
        raise UserError(f"--crf is for videos, and {given.output} is an animation; leave it out.", "crf-without-video")
    if not still and given.quality is not None:
        raise UserError(f"--quality is for pictures, and {given.output} is a video; say --crf.", "quality-of-video")
    if given.output.is_dir():
        raise UserError(f"{given.output} is a folder; name the video to write.", "output-is-folder")
    av_package()


def run_video(swapper: FaceSwapper, request: SwapRequest, encoding: EncodingOptions, outcome: Outcome) -> str:
    """Sources (one person, or one for each of the people named) on one video → one video; returns what was done."""
    target = request.targets[0]
    refuse_overwriting([request.output], [*request.sources, target, *request.people])
    say_replaced([request.output])
    source, swap = resolve_source(swapper, request)
    try:
        result = swap_video(swapper, target, request.output, source, swap, request.marks, encoding)
    except KeyboardInterrupt:
        _log.warning("simswap-jax: stopped; no output was written, and the same command resumes.")
        raise
    outcome.carried.append(result.carried)
    boxed = container_of(request.output, target) != "matroska"
    signed = boxed or not request.marks.c2pa or not c2pa.available()
    return _sentence(result, request) + ("" if signed else " C2PA knows no Matroska files: there is no manifest in it.")


def _sentence(result: VideoResult, request: SwapRequest) -> str:
    """What was done."""
    rate = result.frames / max(result.seconds, 1e-9)
    busiest = max(result.stages, key=lambda name: result.stages[name])
    return (
        f"Swapped {request.who()} ({result.faces} times) in {result.frames} frames into {request.output} in "
        f"{result.seconds:.1f} s ({rate:.1f} frames/s; most work: {busiest})."
    )


_log = logging.getLogger(__name__)

EXAMPLES = """\
a photo:         simswap-jax swap --source anna.jpg --target photo.jpg --output swapped.png
all its faces:   … --faces all --source anna.jpg --target photo.jpg --output swapped.png
one of them:     … --person ben.jpg --source anna.jpg --target photo.jpg --output swapped.png
a video:         simswap-jax swap --source anna.jpg --target video.mp4 --output swapped.mp4
two of them:     … --person ben.jpg eve.jpg --source anna.jpg kim.jpg …   (Ben becomes Anna, Eve becomes Kim)
aligned crops:   simswap-jax swap --aligned --model M --source anna.jpg --target ben.jpg --output swapped.png
one person:      … --source anna1.jpg anna2.jpg --target ben.jpg --output swapped.png   (her pictures are averaged)
one on many:     … --source anna.jpg --target folder --output results
pairs by name:   … --source folder1 --target folder2 --output results   (folder1/x.jpg goes onto folder2/x.jpg)
a grid:          … --grid --source anna.jpg ben.jpg --target folder --output sheet.png

Only swap faces of people who consented, and disclose that the result is synthetic.
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``simswap-jax swap``; returns 0, or 1 if some files of a folder could not be done."""
    given = parser().parse_args(arguments)
    check_paths(given)
    check_photo_arguments(given)
    check_video_arguments(given)
    check_output(given)
    request, encoding = swap_request(given), encoding_options(given)
    swapper = FaceSwapper.from_pretrained(
        given.model,
        face_size=given.size,
        alignment=given.alignment,
        detector=given.detector or DETECTOR,
        runtime=given.runtime,
    )
    outcome = Outcome()
    if given.grid:
        done = swap_grid(swapper, request, outcome)
    elif is_video(request.targets[0]):
        done = run_video(swapper, request, encoding, outcome)
    else:
        done = swap_pictures(swapper, request, outcome)
    _log.info("%s %s", done, marks_sentence(request.marks, outcome.carried))
    if outcome.failures:
        _log.warning("simswap-jax: %d left out, named above.", len(outcome.failures))
    return 1 if outcome.failures else 0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parse = command_parser(
        "swap", "Swap faces in photos and videos: target faces get the identity of a source.", EXAMPLES
    )
    # Whose face it is may be a name, which is why argparse does not ask for --source; refused below where both lack.
    parse.usage = f"{parse.prog} --source PATH … --target PATH … --output PATH [options]"
    add_file_arguments(parse)
    add_model_arguments(parse)
    add_photo_arguments(parse)
    add_video_arguments(parse)
    add_mark_arguments(parse)
    return parse


def add_model_arguments(parse: argparse.ArgumentParser) -> None:
    """The model, and how it is used."""
    add = parse.add_argument_group("model").add_argument
    add("--model", type=Path, metavar="MODEL", help=MODEL_HELP)
    add(
        "--alignment",
        choices=model_folder.ALIGNMENTS,
        help="template that the crops were aligned to; a model made for another is refused",
    )
    add("--size", type=int, metavar="PIXELS", help="side of the crops; a model trained on another size is refused")
    add("--strength", type=float, default=1.0, help="0: the target's identity, 1: the source's (default), to 2: beyond")
    add("--batch-size", type=int, default=BATCH_SIZE, help=f"faces at once (default {BATCH_SIZE})")
    add("--runtime", choices=RUNTIMES, default="auto", help="what runs the generator (auto: onnx on a CPU with it)")


def add_file_arguments(parse: argparse.ArgumentParser) -> None:
    """What goes in and out."""
    add = parse.add_argument_group("files").add_argument
    add("--aligned", action="store_true", help="the pictures are square face crops already (default: whole photos)")
    add(
        "--source",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="who gives the identity: pictures or a folder",
    )
    add("--source-name", default="", metavar="NAME", help="in its place: a person that a DeepFakes model draws")
    add(
        "--target",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        metavar="PATH",
        help="whose face is swapped: pictures, a folder or a video",
    )
    add(
        "--output",
        type=Path,
        required=True,
        metavar="PATH",
        help="picture, video, or folder where the target is a folder",
    )
    add("--grid", action="store_true", help="every source on every target, as one sheet of faces")
    add("--quality", type=int, help=f"of JPEG and WebP (default {QUALITY})")


def add_photo_arguments(parse: argparse.ArgumentParser) -> None:
    """What only whole photos and videos have; None where it is not given."""
    add = parse.add_argument_group("whole photos and videos").add_argument
    add("--faces", choices=CHOICES, help="which faces of a photo (default largest; best: the most confident)")
    add(
        "--person",
        type=Path,
        nargs="+",
        action="extend",
        metavar="PHOTO",
        help="only the person of this photo; of several, each gets the source in the same place",
    )
    add(
        "--source-face",
        type=int,
        nargs="+",
        metavar="N",
        help="which face of each source photo, or of all: its number from the left (default 0: the largest)",
    )
    add("--threshold", type=float, help=f"cosine from which a face is a --person (default {THRESHOLD})")
    add("--match-colour", action="store_true", help="give results the colours of the faces that they replace")
    add("--keep", nargs="+", choices=KEEP, default=[], help="of the target: its mouth, hairline, what is in front")
    add("--blend", choices=BLENDS, help="how results go into the photo (default feather)")
    add("--detector", metavar="FILE", help=f"YuNet or an SCRFD with landmarks, in ONNX (default {DETECTOR})")


def add_mark_arguments(parse: argparse.ArgumentParser) -> None:
    """Which marks are left out, and what signs."""
    add = parse.add_argument_group("marks that say the result is synthetic").add_argument
    add("--no-visible-label", action="store_true", help="drop the 'AI face swap' label that people can see")
    add("--no-metadata", action="store_true", help="drop the XMP metadata by which programs know a synthetic picture")
    add(
        "--no-c2pa-manifest", action="store_true", help="drop the signed C2PA manifest (tool, action, hashes of inputs)"
    )
    add(
        "--no-watermark",
        "--no-invisible-mark",
        action="store_true",
        help="drop the invisible watermark in the pixels, which outlives lost metadata (takes room in a video)",
    )
    add("--certificate", type=Path, metavar="PEM", help="sign the manifest with yours (default: one of this machine)")
    add("--certificate-key", type=Path, metavar="PEM", help="its private key")


def swap_request(given: argparse.Namespace) -> SwapRequest:
    """The arguments as a request.

    Raises:
      UserError: a value out of its range.
    """
    return SwapRequest(
        sources=tuple(given.source),
        source_name=given.source_name,
        targets=tuple(given.target),
        output=given.output,
        people=tuple(given.person or ()),
        aligned=given.aligned,
        swap=SwapOptions(
            faces=FaceSelection(given.faces or CHOICES[0]),
            threshold=THRESHOLD if given.threshold is None else given.threshold,
            strength=given.strength,
            match_colour=given.match_colour,
            keep=tuple(given.keep),
            blend=given.blend or BLENDS[0],
            batch_size=given.batch_size,
            source_faces=tuple(given.source_face or (0,)),
        ),
        marks=mark_options(given),
        quality=QUALITY if given.quality is None else given.quality,
    )


def mark_options(given: argparse.Namespace) -> MarkOptions:
    """Which marks results get."""
    return MarkOptions(
        label=not given.no_visible_label,
        xmp=not given.no_metadata,
        c2pa=not given.no_c2pa_manifest,
        watermark=not given.no_watermark,
        credentials=signing(given),
    )


def signing(given: argparse.Namespace) -> Credentials | None:
    """What signs the C2PA manifests: the certificate that was given, else this machine's; None: no manifest."""
    files = [path for path in (given.certificate, given.certificate_key) if path is not None]
    if len(files) == 1:
        raise UserError(
            "--certificate and --certificate-key belong together; give both or neither.", "half-certificate"
        )
    if files and given.no_c2pa_manifest:
        raise UserError(
            "--certificate signs the manifest that --no-c2pa-manifest drops; give one of the two.", "unused-certificate"
        )
    if files and not c2pa.available():
        raise missing_extra("c2pa-python", "provenance", "signing with --certificate")
    if files:
        return read_credentials(*files)
    return None if given.no_c2pa_manifest or not c2pa.available() else credentials_here()


def check_paths(given: argparse.Namespace) -> None:
    """A UserError for inputs that are not there, and numbers out of their range."""
    if bool(given.source) == bool(given.source_name) or (given.source_name and (given.grid or given.person)):
        raise UserError(
            "one source is needed: --source names pictures; --source-name, without --grid and --person, somebody whom "
            "the model draws by name.",
            "source-or-name",
        )
    for path in [*given.source, *given.target]:
        if not path.exists():
            raise UserError(f"there is no {path}; check the path.", "path-missing")
    check_strength(given.strength)
    if given.batch_size < 1:
        raise UserError(f"--batch-size is {given.batch_size}; it must be at least 1.", "batch-size-range")
    if given.quality is not None:
        check_quality(given.quality)


def check_photo_arguments(given: argparse.Namespace) -> None:
    """A UserError for arguments of whole photos that do not go together, or with --aligned or --grid."""
    names = ("faces", "person", "source_face", "threshold", "match_colour", "keep", "blend", "detector")
    flags = [f"--{name.replace('_', '-')}" for name in names if getattr(given, name) not in (None, False, [])]
    if flags and (given.aligned or given.grid):
        other = "--aligned" if given.aligned else "--grid"
        raise UserError(f"{flags[0]} is for whole photos; leave it out with {other}.", "photo-arguments")
    if given.person is None:
        if given.threshold is not None:
            raise UserError("--threshold says how alike a --person must be; name one.", "threshold-without-person")
        return
    if given.faces is not None:
        raise UserError("--faces and --person both say whom to swap; give one of the two.", "faces-and-person")
    for path in given.person:
        if not path.is_file():
            raise UserError(f"there is no picture {path}; --person takes photos.", "picture-missing")
    people, sources = len(given.person), len(given.source)
    if people > 1 and (people != sources or any(path.is_dir() for path in given.source)):
        raise UserError(
            f"there are {people} people and {sources} sources; name one source picture for each --person.",
            "people-and-sources",
        )


def check_output(given: argparse.Namespace) -> None:
    """A UserError where the output is not of the kind that sources and targets make."""
    if given.grid:
        writer.picture_format(given.output)
        return
    folders = [path for path in given.target if path.is_dir()]
    if len(given.target) > 1:
        raise UserError(
            "several targets need --grid, or a folder that holds them; --target takes one path otherwise.",
            "several-targets",
        )
    if any(path.is_dir() for path in given.source) and (not folders or len(given.source) > 1):
        raise UserError(
            "a source folder goes with one target folder of equal file names, or with --grid; name pictures instead.",
            "source-folder",
        )
    if folders:
        if given.output.is_file():
            raise UserError(f"{given.output} is a file; the results of a folder go into a folder.", "output-is-file")
    elif not is_video(given.target[0]):
        check_picture_output(given.target[0], given.output)


def check_picture_output(target: Path, output: Path) -> None:
    """A UserError unless the output of a picture is a picture."""
    if output.suffix.lower() in VIDEO_FORMATS:
        raise UserError(f"{target} is no video, so {output} cannot be one; name a picture.", "output-is-video")
    writer.picture_format(output)
    if output.is_dir():
        raise UserError(f"{output} is a folder; name the picture to write.", "output-is-folder")
