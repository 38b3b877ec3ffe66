"""`simswap-jax import`: a generator's PyTorch weights → model folder."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from simswap_jax.cli import command_parser
from simswap_jax.errors import UserError, printable
from simswap_jax.io.atomic import is_file, say_replaced
from simswap_jax.io.progress import Row, Steps, table
from simswap_jax.weights import registry

# what a generator of a preset was trained on, as its publishers say: face size, alignment
HABITS = {"224": (224, "simswap"), "224-deep": (512, "ffhq"), "512": (512, "ffhq")}
IDENTITY = "arcface_checkpoint.tar"
CHECKED = 16  # faces of a folder, at most: each is drawn under both conventions

EXAMPLES = """\
released weights:   simswap-jax import latest_net_G.pth --output models/people --convention unit
your own training:  simswap-jax import latest_net_G.pth --output models/mine --convention imagenet
not sure which:     … --check face.jpg     (an aligned face crop; draws it under both and says which looks like it)
export said so:     … --setting colour_cell=4 --setting light_cell=16
on several faces:   … --check anna.jpg --check ben.jpg     (or a folder; each is told, the average decides)
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of ``simswap-jax import``."""
    parse = command_parser(
        "import", "A generator's PyTorch or safetensors weights → model folder. Nothing in the file is run.", EXAMPLES
    )
    add = parse.add_argument
    add("file", type=Path, help=".pth, .pt, .bin, .tar, .ckpt or .safetensors")
    add("--output", type=Path, required=True, metavar="FOLDER", help="the model folder to write")
    add("--convention", choices=["unit", "imagenet"], help="values that the generator was trained on (assumed: unit)")
    add(
        "--check",
        type=Path,
        action="append",
        default=[],
        metavar="FACE",
        help=f"find the convention out on this aligned face crop, or on a folder's first {CHECKED}; once or more",
    )
    add("--preset", choices=list(HABITS), help="refuse the file unless it is of this preset")
    add("--family", default="simswap", metavar="NAME", help="kind of generator: simswap, or package.module:NAME")
    add("--part", metavar="NAME", help="which set of weights, where the file holds several")
    add(
        "--setting",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what the file does not tell of a generator's shape, as export says it; once or more",
    )
    add("--face-size", type=int, metavar="N", help="crops that it was trained on (assumed from the preset)")
    add("--alignment", help="template of these crops (assumed from the preset)")
    add("--identity", default=IDENTITY, metavar="FILE", help=f"its identity network (assumed: {IDENTITY})")
    add("--licence", default="", help="terms of the weights, for the card")
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="numbers in the folder (default float32)")
    return parse


def main(arguments: Sequence[str]) -> int:
    """Runs ``simswap-jax import``; returns 0."""
    options = parser().parse_args(list(arguments))
    from simswap_jax.models import families
    from simswap_jax.weights import files, identity_folder, model_folder, torch_weights

    steps = Steps()
    steps.say(f"reading {printable(options.file)}")
    known = not is_file(options.file) and str(options.file) in registry.catalogue()
    path = registry.find(options.file, "import") if known else options.file
    content = files.read(path, options.part, torch_weights.signs(options.family))
    generator, variables = torch_weights.load_generator(
        content,
        options.convention or "unit",
        preset=options.preset,
        settings=_settings(options.setting),
        family=options.family,
    )
    config = generator.config
    size, alignment = _crops(config, options)
    network, name = families.build(config), f"the model for {options.output}"
    model_folder.check_face_size(network, size, name)
    identity = None
    if "vector" in network.takes:
        steps.say(f"reading the identity network {options.identity}")
        identity = identity_folder.read(options.identity, f"the identity vectors of {options.file.name} (--identity)")
        model_folder.check_identity_size(network, identity.network.config, name)
    convention, how = options.convention, "as you said"
    if options.check:
        steps.say(f"drawing {', '.join(map(str, options.check))} under both conventions")
        convention, how = _checked(options, config, variables, identity, size)
    elif convention is None:
        convention = "unit"
        how = "ASSUMED: nothing in the file tells; --check FACE finds out, --convention imagenet says otherwise"
    if is_file(options.output / model_folder.CONFIG):  # anything else there is refused below
        say_replaced([options.output])
    steps.say(f"writing {options.output}")
    model = model_folder.ModelFolder(
        generator=replace(config, convention=convention),
        variables=variables,
        face_size=size,
        alignment=alignment,
        identity=identity.network.config if identity else None,
        identity_variables=identity.variables if identity else None,
        identity_sha256=identity.sha256 if identity else "",
        identity_name=identity.name if identity else "",
        card=_card(options, content, how),
    )
    include = identity is not None and identity.ours
    model_folder.write(options.output, model, include_identity=include, dtype=options.dtype)
    steps.say("done")
    print(table(_rows(options, content, model, how)))
    return 0


def _settings(words: Sequence[str]) -> dict[str, Any]:
    """Name → value of NAME=VALUE words; what is no number or true or false is a text."""
    settings = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise UserError(f"--setting {printable(word)} is no NAME=VALUE; write it so.", "import-setting")
        try:
            settings[name] = json.loads(value)
        except (ValueError, RecursionError):
            settings[name] = value
    return settings


def _crops(config: Any, options: argparse.Namespace) -> tuple[int, str]:
    size, alignment = HABITS.get(getattr(config, "preset", ""), (options.face_size, options.alignment))
    size, alignment = options.face_size or size, options.alignment or alignment
    if size is None or alignment is None:
        raise UserError(
            f"{options.file} holds a generator of no known preset; say --face-size and --alignment (simswap, ffhq, "
            "arcface, …), which the file does not tell.",
            "import-crops-unknown",
        )
    return size, alignment


def _checked(options: argparse.Namespace, config: Any, variables: Any, identity: Any, size: int) -> tuple[str, str]:
    """The convention, and how it is known; writes the picture that shows it."""
    from simswap_jax.io.atomic import replacing_file
    from simswap_jax.io.images import encode_png, read_picture
    from simswap_jax.models.normalization import CONVENTIONS
    from simswap_jax.weights.range_check import check

    if identity is None:
        raise UserError(
            "--check draws a face with its own identity vector, and this generator takes none; say --convention.",
            "import-check-without-vector",
        )
    try:
        for convention in CONVENTIONS:
            replace(config, convention=convention)
    except ValueError as error:
        raise UserError(
            "--check draws a face under both conventions, and this generator can have one only; say --convention.",
            "import-check-one-convention",
        ) from error
    paths = [path for given in options.check for path in (_first_faces(given) if given.is_dir() else [given])]
    faces = [read_picture(path) for path in paths]
    finding = check(config, variables, identity.network, identity.variables, faces, size)
    picture = options.output.parent / f"{options.output.name}-conventions.png"
    with replacing_file(picture) as temporary:
        temporary.write_bytes(encode_png(finding.sheet()))
    if len(paths) > 1:
        print("\n".join(f"{path}: {finding.figures(number)}" for number, path in enumerate(paths)))
    on = str(paths[0]) if len(paths) == 1 else f"{len(paths)} faces"
    print(f"Checked on {on}: {finding.sentence()}\nSee {picture}.")
    if options.convention is not None:
        agrees = finding.convention in (None, options.convention)
        return (
            options.convention,
            "as you said" if agrees else f"as you said, AGAINST the check, which found {finding.convention}",
        )
    if finding.convention is None:
        return "unit", "ASSUMED: the check did not decide; --convention imagenet says otherwise"
    on = paths[0].name if len(paths) == 1 else on
    return finding.convention, f"found on {on}; --convention says otherwise"


def _first_faces(folder: Path) -> list[Path]:
    """The pictures of a folder that are looked at; says where there are more."""
    from simswap_jax.provenance.writer import list_pictures

    found = list_pictures(folder)
    if len(found) > CHECKED:
        print(f"Checked are the first {CHECKED} of {len(found):,} pictures in {printable(folder)}.")
    return found[:CHECKED]


def _card(options: argparse.Namespace, content: Any, how: str) -> dict[str, Any]:
    return {
        "licence": options.licence or "unstated",
        "training_step": "unknown",
        "source_file": printable(content.path.name),
        "source_sha256": content.sha256,
        "source_format": content.format,
        "convention_known": how,
    }


def _rows(options: argparse.Namespace, content: Any, model: Any, how: str) -> list[Row]:
    family, convention = model.network.family, model.network.convention
    described = f"{family.name}, {family.describe(model.generator)}"
    numbers = sorted({a.dtype.name for a in content.tensors.values() if a.ndim})
    parameters = sum(
        a.size for name, a in content.tensors.items() if not name.endswith(("mean", "running_var", "tracked"))
    )
    megabytes = content.path.stat().st_size / 1e6
    inside = [f"part '{content.part}'"] if content.part else []
    inside += [f"module {content.module}"] if content.module else []
    inside += [f"'{content.wrapper}' taken off the names"] if content.wrapper else []
    inside += [f"left out: {', '.join(name or 'unnamed' for name in content.ignored[:5])}"] if content.ignored else []
    size_how = "as you said" if options.face_size else "assumed from the preset; --face-size says otherwise"
    alignment_how = "as you said" if options.alignment else "assumed from the preset; --alignment says otherwise"
    copied = (
        "with the identity network"
        if (options.output / "identity.safetensors").exists()
        else "it names the identity network"
    )
    return [
        Row(
            "file",
            f"{printable(content.path.name)}, {megabytes:,.1f} MB, {content.format}",
            f"SHA-256 {content.sha256[:16]}…",
        ),
        Row("in it", f"{len(content.tensors)} tensors of {', '.join(numbers)}", "; ".join(inside)),
        Row("taken for", f"generator, {described}, {parameters / 1e6:.2f} M parameters", "read from the keys"),
        Row("convention", convention, how),
        Row("face size", f"{model.face_size}", size_how),
        Row("alignment", model.alignment, alignment_how),
        _identity_row(options, model),
        Row("licence", options.licence or "unstated", "as you said" if options.licence else "--licence says it"),
        Row("written", f"{options.output}", f"{options.dtype}; {copied}"),
        *_to_keep(options, model),
    ]


def _to_keep(options: argparse.Namespace, model: Any) -> list[Row]:
    """Where the identity network must lie for the folder to be of use, if it lies elsewhere."""
    included = (options.output / "identity.safetensors").exists()
    folders = registry.folders()
    if model.identity is None or included or not folders:
        return []
    if model.identity_sha256 in {entry.sha256 for entry in registry.catalogue().values() if entry.url}:
        return []  # fetched when needed
    if registry.locate_sha256(model.identity_sha256, model.identity_name) is not None:
        return []
    return [Row("to do", f"copy {model.identity_name} into {folders[0]}", "where swapping looks for it")]


def _identity_row(options: argparse.Namespace, model: Any) -> Row:
    if model.identity is None:
        return Row("identity", "none", "this generator takes no identity vector")
    known = {entry.sha256 for entry in registry.catalogue().values() if entry.sha256}
    checked = "SHA-256 known" if model.identity_sha256 in known else f"SHA-256 {model.identity_sha256[:16]}…"
    how = "assumed; --identity says otherwise" if options.identity == IDENTITY else "as you said"
    return Row("identity", f"{model.identity_name} ({model.identity.family}), {checked}", how)
