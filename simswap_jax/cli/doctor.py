"""``simswap-jax doctor``: what works here and which weight files are here; of a file its marks, of a model its card."""

import argparse
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from simswap_jax.cli import command_parser
from simswap_jax.errors import UserError, first_line, install_command
from simswap_jax.io.atomic import is_file, is_folder
from simswap_jax.io.images import has_picture_ending
from simswap_jax.io.progress import Row, table
from simswap_jax.video.decode import is_video, open_video
from simswap_jax.weights import registry
from simswap_jax.weights.model_names import find_model
from simswap_jax.weights.registry import Entry

# package → (its extra, what it adds)
EXTRAS = {
    "av": ("video", "videos"),
    "gradio": ("app", "the web page"),
    "c2pa": ("provenance", "signed C2PA manifests"),
    "onnxruntime": ("onnx", "ONNX networks, and swaps on a CPU in less time"),
    "onnx": ("onnx", "export to ONNX"),
    "pillow_heif": ("heic", "HEIC photos"),
    "tensorboardX": ("tensorboard", "curves for TensorBoard"),
    "wandb": ("wandb", "curves in Weights & Biases"),
    "torch": ("torch", "tests against PyTorch"),
}
SWAPPING = ("face_detection_yunet.onnx", "mobilefacenet_casia.ckpt")  # what the model that ships needs for photos
UNUSABLE = ("wrong", "unreadable")  # states of files that are here
ELSEWHERE = {"fetchable": "Fetched when needed", "missing": "Not here, to be brought by whoever wants them"}
FRAMES = 100  # of a video, from its beginning, in which the invisible watermark is looked for

EXAMPLES = """\
what works here: simswap-jax doctor            (--all: every known weight file, what for, and where to get it)
a model folder:  simswap-jax doctor models/mine     (what its card says, and whether its files are whole)
a picture:       simswap-jax doctor swapped.png     (marks of this program and of others)
a video:         simswap-jax doctor swapped.mp4

No mark found proves nothing: marks can be lost, and taken out on purpose.
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``simswap-jax doctor``; returns 0, or 1 if a weight file is here that is not what its name says."""
    options = parser().parse_args(list(arguments))
    if options.file is None:
        return report_weights(options.json, options.all)
    marked = is_file(options.file) or has_picture_ending(options.file.name) or is_video(options.file)
    folder = options.file if marked else find_model(options.file)
    rows = examine_model(folder) if is_folder(folder) else examine(options.file)
    if options.json:
        print(json.dumps({row.what: {"found": row.value, "says": row.how} for row in rows}, indent=1))
    else:
        print(table([_printable(row) for row in rows]))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parse = command_parser(
        "doctor",
        "Say what works here and which public weight files are found; or what a model folder is, or a file's marks.",
        EXAMPLES,
    )
    parse.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="a picture or video to look for marks in, or a model"
    )
    parse.add_argument("--all", action="store_true", help="every known weight file, what for, and where to get it")
    parse.add_argument("--json", action="store_true", help="for programs")
    return parse


# --- weight files ---------------------------------------------------------------------------------------------------


def report_weights(as_json: bool, everything: bool = False) -> int:
    """Prints what works here and which public weight files are here; returns 1 if one is not what its name says."""
    states = {entry.name: _state(entry) for entry in registry.catalogue().values()}
    wrong = int(any(state == "wrong" for state, _ in states.values()))
    if as_json:
        print(json.dumps({name: {"state": s, "path": p and str(p)} for name, (s, p) in states.items()}, indent=1))
        return wrong
    print(_versions())
    print("\nWhat works here:")
    print(table(list(_works(states))))
    shown = [name for name, (state, _) in states.items() if everything or state not in ELSEWHERE]
    if shown:
        print("\nEvery known weight file:" if everything else "\nWeight files found:")
        lines = (_doctor_lines(registry.catalogue()[name], *states[name]) for name in shown)
        print("\n".join(line if everything else line.split("\n    for ")[0] for line in lines))
    for state, what in ELSEWHERE.items():
        names = [name for name, (found, _) in states.items() if found == state]
        if names and not everything:
            print(f"\n{what}: {', '.join(names)}.")
    if not everything:
        print("`simswap-jax doctor --all` says what each is for and where to get it.")
    missing = {name: extra for name, extra in EXTRAS.items() if importlib.util.find_spec(name) is None}
    if missing:
        print("\nOptional packages that are not installed:")
        print(table([Row(name, f"extra '{extra}'", f"for {what}") for name, (extra, what) in missing.items()]))
    print("\nLooked for weights in: " + ", ".join(str(folder) for folder in registry.folders()))
    print("(name more folders in SIMSWAP_JAX_WEIGHTS)")
    return wrong


def _versions() -> str:
    """The versions, the devices, and a warning where JAX does not see what is there."""
    import jax

    from simswap_jax import __version__
    from simswap_jax.training import terminal

    said = f"simswap-jax {__version__}, Python {platform.python_version()}, JAX {jax.__version__}"
    try:
        first = jax.devices()[0]
    except RuntimeError as error:
        return f"{said}, which cannot start: {first_line(error)}"
    devices = terminal.Devices(first.device_kind, first.platform, jax.device_count(), jax.process_count())
    where = f"{os.cpu_count()} CPU cores" if devices.platform == "cpu" else f"{devices.count} × {devices.kind}"
    return "\n".join([f"{said} on {where}", *terminal.warnings_of(devices, 0)])


def _works(states: dict[str, tuple[str, Path | None]]) -> Iterator[Row]:
    """A row for each thing that people do: ready, or what it needs."""
    swap = _needs(states, SWAPPING)
    yield Row("swap photos", swap)
    for what, package in (("swap videos", "av"), ("web page", "gradio")):
        lacking = importlib.util.find_spec(package) is None
        yield Row(what, f"needs {package}: {install_command(EXTRAS[package][0])}" if lacking else swap)
    train = [name for name in registry.ready("train") if states[name][0] not in UNUSABLE]
    yield Row("train", f"ready, against {', '.join(train)}" if train else "ready, once you have an identity network")
    judges = [name for name in registry.ready("evaluate") if states[name][0] not in UNUSABLE and _recognises(name)]
    first = "; fetched first" if judges and all(states[name][0] == "fetchable" for name in judges) else ""
    by = f"by {', '.join(judges)}{first}" if judges else "with a recogniser of yours (--judge)"
    yield Row("evaluate", f"ready, {by}")
    yield Row("prepare, import, export", "ready")


def _recognises(name: str) -> bool:
    return "face-recognition" in registry.catalogue()[name].purpose


def _needs(states: dict[str, tuple[str, Path | None]], names: Sequence[str]) -> str:
    """``ready``, or which of these files it fetches or needs first."""
    lacking = [name for name in names if states[name][0] in ("missing", *UNUSABLE)]
    if lacking:
        return f"needs {' and '.join(f'{name} from {registry.catalogue()[name].origin}' for name in lacking)}"
    fetched = [name for name in names if states[name][0] == "fetchable"]
    return f"ready; fetches {' and '.join(fetched)} first" if fetched else "ready"


def _state(entry: Entry) -> tuple[str, Path | None]:
    """``here``, ``unchecked``, ``wrong``, ``unreadable``, ``fetchable`` (not offline) or ``missing``, and where."""
    path = registry.locate(entry.name)
    if path is None:
        return ("fetchable" if entry.url and not registry.offline() else "missing"), None
    if not os.access(path, os.R_OK):
        return "unreadable", path
    if not entry.sha256:
        return "unchecked", path
    return ("here" if registry.file_sha256(path) == entry.sha256 else "wrong"), path


def _doctor_lines(entry: Entry, state: str, path: Path | None) -> str:
    said = {
        "here": f"here, SHA-256 matches: {path}",
        "unchecked": f"here, not checked (no SHA-256 is known): {path}",
        "wrong": f"NOT the known file (its SHA-256 differs), rename or replace it: {path}",
        "unreadable": f"here, but you may not read it: {path}",
        "fetchable": f"not here; fetched when needed from {entry.origin}",
        "missing": f"missing; get it from {entry.origin}"
        + (" (SIMSWAP_JAX_OFFLINE forbids fetching it)" if entry.url else ""),
    }
    lines = [entry.name, said[state], f"for {entry.purpose}; licence: {entry.licence}", entry.note]
    return "\n    ".join(line for line in lines if line)


# --- a model ---------------------------------------------------------------------------------------------------------


def examine_model(folder: Path) -> list[Row]:
    """What a model folder is. Its files, an included identity network's too, are those that its config.json describes.

    Raises:
      UserError: it is no model folder, or damaged.
    """
    from simswap_jax.weights import model_folder

    model = model_folder.read(folder, with_identity=False, with_included=True)
    network = model.network
    rows = [
        Row("model", f"{folder}", "its files are whole"),
        Row("generator", f"{network.family.name}: {network.family.describe(model.generator)}"),
        Row("face crops", f"{model.face_size}×{model.face_size}, aligned as '{model.alignment}'"),
        Row("input normalization", network.convention),
    ]
    if model.identity is not None:
        outside = model.identity_variables is None
        how = _outside(model.identity_sha256, model.identity_name) if outside else "included"
        rows.append(Row("identity network", model.identity_name, how))
    return [*rows, *(Row(key.replace("_", " "), str(value)) for key, value in model.card.items())]


def _outside(sha256: str, name: str) -> str:
    """Where a model's identity network lies that is not in its folder; by its SHA-256, as when swapping."""
    path, entry = registry.locate_sha256(sha256, name), registry.known(sha256)
    if path is not None:
        return f"here, its SHA-256 matches: {path}"
    if entry is not None and entry.url and not registry.offline():
        return "fetched when needed"
    return "missing: no file with its SHA-256 lies in a folder that is searched"


# --- marks of a file ------------------------------------------------------------------------------------------------


def examine(path: Path) -> list[Row]:
    """What a picture or video file says of its making: one row per mark, whether it is found or cannot be looked for.

    Args:
      path: a PNG, JPEG or WebP, or a video by its ending; broken ones are read as far as they go.

    Raises:
      UserError: there is no such file, or it does not even begin like a picture.
    """
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path.", "file-unreadable") from error
    rows = [
        Row("visible label", "not looked for", "a program cannot see it; look at the lower right corner"),
        _metadata(path),
        _manifest(path),
        _invisible(path),
    ]
    picture = Row("video", *_video(path)) if is_video(path) else Row("picture", *_picture(path))
    return [*map(_printable, [picture, *rows]), Row("so", *_conclusion([picture, *rows]))]


def _picture(path: Path) -> tuple[str, str]:
    """Format and size, and what is wrong with the file."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            what = f"{image.format} {image.width}×{image.height}"
    except Exception:  # Pillow's readers raise nearly anything on broken files
        return "not readable", "no PNG, JPEG or WebP, or one whose beginning is broken"
    return what, ""


def _video(path: Path) -> tuple[str, str]:
    """Size and length, and what is wrong with the file."""
    try:
        video = open_video(path)
    except UserError as error:
        return "not readable", str(error)
    height, width = video.shape[:2]
    return f"{width}×{height}", f"about {video.length} frames, {float(video.rate):.4g} a second"


def _metadata(path: Path) -> Row:
    from simswap_jax.provenance.label_xmp import TOOL, read_provenance
    from simswap_jax.video.decode import read_video_provenance

    try:
        made_of = read_video_provenance(path) if is_video(path) else read_provenance(path)
    except Exception as error:  # as above
        return Row("XMP metadata", "not readable", _sentence(error))
    if made_of is None:
        return Row("XMP metadata", "none", "no IPTC digital source type: never there, or lost in re-encoding")
    tool = f"{made_of.tool} {made_of.version}".strip() or "a program that does not say its name"
    whose = "found" if made_of.tool == TOOL else "found, another program's"
    return Row("XMP metadata", whose, f"{tool}: {_last_word(made_of.source_type)}{_inputs(made_of.inputs)}")


def _manifest(path: Path) -> Row:
    from simswap_jax.provenance import c2pa
    from simswap_jax.provenance.certificates import EXTRA
    from simswap_jax.provenance.label_xmp import TOOL
    from simswap_jax.video import decode

    what = "C2PA manifest"
    video = is_video(path)
    if not (decode.has_manifest(path) if video else c2pa.has_manifest(path)):
        return Row(what, "none", "never there, or lost in re-encoding")
    if not c2pa.can_read():
        return Row(what, "there, not read", f"reading needs the package c2pa-python; {EXTRA}")
    try:
        kind = decode.mime_type(path) or "video/mp4"
        manifest = c2pa.read_video(path, kind) if video else c2pa.read(path)
    except Exception as error:  # a native library on a broken file
        return Row(what, "there, broken", _sentence(error))
    if manifest is None:
        return Row(what, "none", "never there, or lost in re-encoding")
    whose = "found" if manifest.tool.startswith(TOOL) else "found, another program's"
    whose = whose if manifest.state in ("trusted", "valid") else "not valid"
    state = {
        "trusted": "unchanged, signed by this machine",
        "valid": f"unchanged, signed by {manifest.signer or 'nobody named'}, whom this machine does not know",
    }.get(manifest.state, f"changed since, or signed wrongly ({', '.join(manifest.problems) or 'no reason given'})")
    actions = ", ".join(f"{name} as {_last_word(kind)}" if kind else name for name, kind in manifest.actions)
    says = f"{manifest.tool or 'a program that does not say its name'}: {actions or 'no action'}"
    return Row(what, whose, f"{says}{_inputs(manifest.inputs)}; {state}")


def _invisible(path: Path) -> Row:
    from simswap_jax.io.images import read_picture
    from simswap_jax.provenance.watermark import SMALLEST, THRESHOLD, detect, detect_frames

    what, things = "invisible watermark", "pictures"
    try:
        if is_video(path):
            video, things = open_video(path), f"videos ({FRAMES} frames together)"
            shape, z = (
                video.shape,
                detect_frames(video.upright(frame.image) for frame in islice(video.frames(), FRAMES)),
            )
        else:
            picture = read_picture(path)
            shape, z = picture.shape, detect(picture)
    except UserError as error:
        return Row(what, "not looked for", f"the pixels cannot be read: {error}")
    if z > THRESHOLD:
        return Row(what, "found", f"z = {z:.1f}, over {THRESHOLD:.0f}: chance gives that once in 16 million {things}")
    small = f"; {things} under {SMALLEST} pixels get none" if min(shape[:2]) < SMALLEST else ""
    return Row(what, "none", f"z = {z:.1f}, not over {THRESHOLD:.0f}: never there, cropped, or shrunk too far{small}")


def _conclusion(rows: Sequence[Row]) -> tuple[str, str]:
    """What the rows come to."""
    values = [row.value for row in rows]
    if "found" in values:
        lost = [row.what for row in rows if row.value == "none"]
        return "swapped by simswap-jax", f"without {' and '.join(lost)}" if lost else "every mark that can be read"
    if any(value.startswith(("found", "there", "not valid")) for value in values):
        return "marked", "by another program, or by a manifest that cannot be trusted or read here"
    if values[0] == "not readable":
        return "nothing found", f"the file cannot be read as a {rows[0].what}"
    return "no mark found", "which proves nothing: marks can be lost, and taken out"


def _inputs(inputs: Sequence[tuple[str, str]]) -> str:
    """The inputs by role and the first digits of their hashes; many are counted."""
    if not inputs:
        return ""
    shown = ", ".join(f"{role} {digest[:12]}" for role, digest in inputs[:4])
    return f"; of {shown}" + (f" and {len(inputs) - 4} more" if len(inputs) > 4 else "")


def _last_word(address: str) -> str:
    """The last word of a URI, which names a digital source type."""
    return address.rstrip("/").rsplit("/", 1)[-1] or "no source type"


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _printable(row: Row) -> Row:
    """A row without what a foreign file could steer a terminal with, and not endless."""
    encoding = sys.stdout.encoding or "utf-8"

    def clean(text: str) -> str:
        shown = "".join(letter if letter.isprintable() else "?" for letter in text[:600])
        return shown.encode(encoding, "replace").decode(encoding)

    return Row(clean(row.what), clean(row.value), clean(row.how))
