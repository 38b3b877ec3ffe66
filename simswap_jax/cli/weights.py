"""`simswap-jax import`, `export` and `doctor`: weights come, go, and are looked for."""

import argparse
import importlib.util
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simswap_jax.errors import UserError
from simswap_jax.io.progress import to_terminal
from simswap_jax.weights import registry
from simswap_jax.weights.registry import Entry

# what a generator of a preset was trained on, as its publishers say: face size, alignment
HABITS = {"224": (224, "simswap"), "224-deep": (512, "ffhq"), "512": (512, "ffhq")}
IDENTITY = "arcface_checkpoint.tar"
EXTRAS = {"torch": "torch", "onnx": "onnx", "onnxruntime": "onnx", "tensorflow": "tensorboard"}
LARGEST_DIFFERENCE = 1e-4  # of an ONNX file from Flax, over the output's range

IMPORT_EXAMPLES = """\
released weights:   simswap-jax import latest_net_G.pth --output models/people --convention unit
your own training:  simswap-jax import latest_net_G.pth --output models/mine --convention imagenet
not sure which:     … --check face.jpg     (an aligned face crop; draws it under both and says which looks like it)
"""
EXPORT_EXAMPLES = """\
to PyTorch:         simswap-jax export models/mine --output generator.pth         (or .safetensors)
to FaceFusion:      simswap-jax export models/mine --output simswap_256.onnx --contract facefusion-256
its identity net:   simswap-jax export models/mine --part identity --output identity.onnx
"""


@dataclass(frozen=True)
class Row:
    """A line of a summary: what, its value, and how it is known."""

    what: str
    value: str
    how: str = ""


def table(rows: Sequence[Row]) -> str:
    """Lines in three columns."""
    first = max((len(row.what) for row in rows), default=0)
    second = max((len(row.value) for row in rows if row.how), default=0)
    return "\n".join(f"{r.what:<{first}}  {r.value:<{second}}  {r.how}".rstrip() for r in rows)


class _Steps:
    """Says on stderr what is being done, and how long it took."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def say(self, what: str) -> None:
        to_terminal(f"{time.monotonic() - self.started:6.1f} s  {what}")


# --- import ---------------------------------------------------------------------------------------------------------


def import_parser() -> argparse.ArgumentParser:
    """The arguments of ``simswap-jax import``."""
    parse = argparse.ArgumentParser(
        "simswap-jax import",
        description="A generator's PyTorch or safetensors weights → model folder. Nothing in the file is run.",
        epilog=IMPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parse.add_argument
    add("file", type=Path, help=".pth, .tar, .ckpt or .safetensors")
    add("--output", type=Path, required=True, metavar="FOLDER", help="the model folder to write")
    add("--convention", choices=["unit", "imagenet"], help="values that the generator was trained on (assumed: unit)")
    add("--check", type=Path, metavar="FACE", help="find the convention out on this aligned face crop")
    add("--preset", choices=list(HABITS), help="refuse the file unless it is of this preset")
    add("--part", metavar="NAME", help="which set of weights, where the file holds several")
    add("--face-size", type=int, metavar="N", help="crops that it was trained on (assumed from the preset)")
    add("--alignment", help="template of these crops (assumed from the preset)")
    add("--identity", default=IDENTITY, metavar="FILE", help=f"its identity network (assumed: {IDENTITY})")
    add("--licence", default="", help="terms of the weights, for the card")
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="numbers in the folder (default float32)")
    return parse


def import_main(arguments: Sequence[str]) -> int:
    """Runs ``simswap-jax import``; returns 0."""
    options = import_parser().parse_args(list(arguments))
    from simswap_jax.weights import files, identity_folder, model_folder, torch_weights

    steps = _Steps()
    steps.say(f"reading {options.file}")
    known = not options.file.exists() and options.file.name in registry.catalogue()
    path = registry.find(options.file.name, "import") if known else options.file
    content = files.read(path, options.part)
    generator, variables = torch_weights.load_generator(content, preset=options.preset)
    config = generator.config
    size, alignment = _crops(config, options)
    steps.say(f"reading the identity network {options.identity}")
    identity = identity_folder.read(options.identity, f"the identity vectors of {options.file.name} (--identity)")
    convention, how = options.convention, "as you said"
    if options.check is not None:
        steps.say(f"drawing {options.check} under both conventions")
        convention, how = _checked(options, config, variables, identity, size)
    elif convention is None:
        convention = "unit"
        how = "ASSUMED: nothing in the file tells; --check FACE finds out, --convention imagenet says otherwise"
    config = replace(config, convention=convention)
    steps.say(f"writing {options.output}")
    model = model_folder.ModelFolder(
        generator=config,
        variables=variables,
        face_size=size,
        alignment=alignment,
        identity=identity.network.config,
        identity_variables=identity.variables,
        identity_sha256=identity.sha256,
        identity_name=identity.name,
        card=_card(options, content, how),
    )
    model_folder.write(options.output, model, include_identity=identity.ours, dtype=options.dtype)
    steps.say("done")
    print(table(_import_rows(options, content, model, how)))
    return 0


def _crops(config: Any, options: argparse.Namespace) -> tuple[int, str]:
    size, alignment = HABITS.get(config.preset, (options.face_size, options.alignment))
    size, alignment = options.face_size or size, options.alignment or alignment
    if size is None or alignment is None:
        raise UserError(
            f"{options.file} holds a generator of widths {config.widths}, of no known preset; say --face-size and "
            "--alignment (simswap, ffhq, arcface, …), which the file does not tell."
        )
    return size, alignment


def _checked(options: argparse.Namespace, config: Any, variables: Any, identity: Any, size: int) -> tuple[str, str]:
    """The convention, and how it is known; writes the picture that shows it."""
    from simswap_jax.io.atomic import replacing_file
    from simswap_jax.io.images import encode_png, read_picture
    from simswap_jax.weights.range_check import check

    face = read_picture(options.check)
    finding = check(config, variables, identity.network, identity.variables, face, size)
    picture = options.output.parent / f"{options.output.name}-conventions.png"
    with replacing_file(picture) as temporary:
        temporary.write_bytes(encode_png(finding.sheet()))
    print(f"Checked on {options.check}: {finding.sentence()}\nSee {picture}.")
    if options.convention is not None:
        agrees = finding.convention in (None, options.convention)
        return (
            options.convention,
            "as you said" if agrees else f"as you said, AGAINST the check, which found {finding.convention}",
        )
    if finding.convention is None:
        return "unit", "ASSUMED: the check did not decide; --convention imagenet says otherwise"
    return finding.convention, f"found on {options.check.name}; --convention says otherwise"


def _card(options: argparse.Namespace, content: Any, how: str) -> dict[str, Any]:
    return {
        "licence": options.licence or "unstated",
        "training_step": "unknown",
        "source_file": content.path.name,
        "source_sha256": content.sha256,
        "source_format": content.format,
        "convention_known": how,
    }


def _import_rows(options: argparse.Namespace, content: Any, model: Any, how: str) -> list[Row]:
    config = model.generator
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
    identity_how = "assumed; --identity says otherwise" if options.identity == IDENTITY else "as you said"
    known = {entry.sha256 for entry in registry.catalogue().values() if entry.sha256}
    checked = "SHA-256 known" if model.identity_sha256 in known else f"SHA-256 {model.identity_sha256[:16]}…"
    copied = (
        "with the identity network"
        if (options.output / "identity.safetensors").exists()
        else "it names the identity network"
    )
    return [
        Row("file", f"{content.path.name}, {megabytes:,.1f} MB, {content.format}", f"SHA-256 {content.sha256[:16]}…"),
        Row("in it", f"{len(content.tensors)} tensors of {', '.join(numbers)}", "; ".join(inside)),
        Row(
            "taken for", f"generator, preset {config.preset}, {parameters / 1e6:.2f} M parameters", "read from the keys"
        ),
        Row("convention", config.convention, how),
        Row("face size", f"{model.face_size}", size_how),
        Row("alignment", model.alignment, alignment_how),
        Row("identity", f"{model.identity_name} ({model.identity.family}), {checked}", identity_how),
        Row("licence", options.licence or "unstated", "as you said" if options.licence else "--licence says it"),
        Row("written", f"{options.output}", f"{options.dtype}; {copied}"),
    ]


# --- export ---------------------------------------------------------------------------------------------------------


def export_parser() -> argparse.ArgumentParser:
    """The arguments of ``simswap-jax export``."""
    parse = argparse.ArgumentParser(
        "simswap-jax export",
        description="Model folder → PyTorch (.pth, .safetensors) or ONNX.",
        epilog=EXPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parse.add_argument
    add("model", type=Path, help="a model folder")
    add("--output", type=Path, required=True, metavar="FILE", help="ends in .pth, .safetensors or .onnx")
    add("--part", choices=["generator", "identity"], default="generator", help="which network (default generator)")
    add(
        "--contract",
        choices=["plain", "facefusion-256", "facefusion-512"],
        default="plain",
        help="what an ONNX generator's user expects (default plain)",
    )
    return parse


def export_main(arguments: Sequence[str]) -> int:
    """Runs ``simswap-jax export``; returns 0."""
    options = export_parser().parse_args(list(arguments))
    from simswap_jax.models import Generator
    from simswap_jax.models.identity import IdentityNetwork
    from simswap_jax.weights import model_folder, torch_weights

    if options.output.suffix not in (".pth", ".safetensors", ".onnx"):
        raise UserError(f"{options.output.name} says no format; end it in .pth, .safetensors or .onnx.")
    steps = _Steps()
    steps.say(f"reading {options.model}")
    model = model_folder.read(options.model, with_identity=options.part == "identity")
    steps.say(f"writing {options.output}")
    rows = [
        Row("model", f"{options.model}", f"preset {model.generator.preset}, convention {model.generator.convention}")
    ]
    if options.output.suffix == ".onnx":
        rows += _export_onnx(options, model, steps)
    else:
        if options.part == "generator":
            state_dict = torch_weights.generator_state_dict(Generator(model.generator), model.variables)
        else:
            state_dict = torch_weights.identity_state_dict(
                IdentityNetwork(model.identity), model.identity_variables or {}
            )
        torch_weights.save(state_dict, options.output)
        rows.append(Row("written", f"{options.output}", f"{options.part}: {len(state_dict)} tensors, PyTorch's names"))
        if options.part == "generator":
            crops = f"{model.generator.convention}, faces {model.face_size}×{model.face_size} '{model.alignment}'"
            rows.append(Row("remember", crops, "PyTorch's file cannot say so itself"))
            if model.generator.preset == "custom":
                rows.append(Row("note", "no public preset", "PyTorch's SimSwap programs know 224, 224-deep and 512"))
    steps.say("done")
    print(table(rows))
    return 0


def _export_onnx(options: argparse.Namespace, model: Any, steps: _Steps) -> list[Row]:
    from simswap_jax.models.identity import IdentityNetwork
    from simswap_jax.weights import onnx_export

    path = options.output
    if options.part == "identity":
        network = IdentityNetwork(model.identity)
        onnx_export.export_identity(network, model.identity_variables or {}, path)
        height, width = model.identity.size
        return [Row("written", f"{path}", f"input [N,3,{height},{width}], {model.identity.values} values → embedding")]
    facts = {"licence": str(model.card.get("licence", "unstated")), "identity network": model.identity_name}
    onnx_export.export_generator(model.generator, model.variables, path, options.contract, facts)
    rows = [Row("written", f"{path}", f"contract {options.contract}")]
    terms = onnx_export.CONTRACTS[options.contract]
    if terms.hashed:
        rows.append(Row("beside it", f"{path.with_suffix('.hash')}", "its CRC32; keep the two together"))
    if terms.size and terms.size != model.face_size:
        rows.append(Row("note", f"trained at {model.face_size}", f"this contract shows it faces of {terms.size}"))
    if importlib.util.find_spec("onnxruntime") is None:
        return [*rows, Row("checked", "no", "onnxruntime is not installed: pip install 'simswap-jax[onnx]'")]
    steps.say("checking it in onnxruntime")
    side = terms.size or model.face_size
    difference = onnx_export.generator_difference(path, model.generator, model.variables, options.contract, side)
    if not difference < LARGEST_DIFFERENCE:
        for written in (path, path.with_suffix(".hash")):
            written.unlink(missing_ok=True)
        raise UserError(
            f"{path} gives results {difference:.1g} of the range away from Flax's in onnxruntime and was removed; "
            "report this with the model's config.json."
        )
    return [*rows, Row("checked", f"{difference:.1e}", "largest difference from Flax in onnxruntime, over the range")]


# --- doctor ---------------------------------------------------------------------------------------------------------


def report_weights(as_json: bool) -> int:
    """Prints which public weight files are here, for people or as JSON; returns 1 if one is not what its name says."""
    states = {entry.name: _state(entry) for entry in registry.catalogue().values()}
    if as_json:
        print(json.dumps({name: {"state": s, "path": p and str(p)} for name, (s, p) in states.items()}, indent=1))
        return int(any(state == "wrong" for state, _ in states.values()))
    print("Looked in: " + ", ".join(str(folder) for folder in registry.folders()))
    print("(name more folders in SIMSWAP_JAX_WEIGHTS)\n")
    for entry in registry.catalogue().values():
        print(_doctor_lines(entry, *states[entry.name]))
    print("\nWhat each verb could not use:")
    print(table(_missing_rows(states)))
    print("\nOptional packages:")
    packages = {name: importlib.util.find_spec(name) is not None for name in EXTRAS}
    print(table([Row(n, "here" if ok else "missing", f"extra '{EXTRAS[n]}'") for n, ok in packages.items()]))
    return int(any(state == "wrong" for state, _ in states.values()))


def _state(entry: Entry) -> tuple[str, Path | None]:
    """``here``, ``unchecked``, ``wrong``, ``fetchable`` (not offline) or ``missing``, and where."""
    path = registry.locate(entry.name)
    if path is None:
        return ("fetchable" if entry.url and not registry.offline() else "missing"), None
    if not entry.sha256:
        return "unchecked", path
    return ("here" if registry.file_sha256(path) == entry.sha256 else "wrong"), path


def _doctor_lines(entry: Entry, state: str, path: Path | None) -> str:
    said = {
        "here": f"here, SHA-256 matches: {path}",
        "unchecked": f"here, not checked (no SHA-256 is known): {path}",
        "wrong": f"NOT the known file (its SHA-256 differs), rename or replace it: {path}",
        "fetchable": f"not here; fetched when needed from {entry.origin}",
        "missing": f"missing; get it from {entry.origin}"
        + (" (SIMSWAP_JAX_OFFLINE forbids to fetch it)" if entry.url else ""),
    }
    lines = [entry.name, said[state], f"for {entry.purpose}; licence: {entry.licence}", entry.note]
    return "\n    ".join(line for line in lines if line)


def _missing_rows(states: dict[str, tuple[str, Path | None]]) -> list[Row]:
    lacking: dict[str, list[str]] = {}
    for entry in registry.catalogue().values():
        for verb in entry.verbs:
            lacking.setdefault(verb, [])
            if states[entry.name][0] in ("missing", "wrong"):
                lacking[verb].append(entry.name)
    return [Row(verb, ", ".join(names) or "nothing") for verb, names in lacking.items()]
