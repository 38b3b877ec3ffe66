"""`simswap-jax export`: model folder → PyTorch or ONNX."""

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from simswap_jax.cli import command_parser
from simswap_jax.errors import UserError, install_command
from simswap_jax.io.atomic import explain_write_errors, is_file, say_replaced
from simswap_jax.io.progress import Row, Steps, table
from simswap_jax.weights.onnx_precision import PRECISIONS

EXAMPLES = """\
to PyTorch:         simswap-jax export models/mine --output generator.pth         (or .safetensors)
to FaceFusion:      simswap-jax export models/mine --output simswap_256.onnx --contract facefusion-256
its identity net:   simswap-jax export models/mine --part identity --output identity.onnx
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of ``simswap-jax export``."""
    parse = command_parser(
        "export",
        "Model folder → PyTorch (.pth, .safetensors) or ONNX.",
        EXAMPLES,
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
    add(
        "--precision",
        choices=list(PRECISIONS),
        default="float32",
        help="of an ONNX generator: computed in float16, or weights in 8 bits (default float32)",
    )
    return parse


def main(arguments: Sequence[str]) -> int:
    """Runs ``simswap-jax export``; returns 0."""
    options = parser().parse_args(list(arguments))
    from simswap_jax.weights import model_folder

    if options.output.suffix not in (".pth", ".safetensors", ".onnx"):
        raise UserError(
            f"{options.output.name} says no format; end it in .pth, .safetensors or .onnx.", "export-ending"
        )
    if options.output.suffix != ".onnx" or options.part != "generator":
        for name, ordinary in (("contract", "plain"), ("precision", "float32")):
            if getattr(options, name) != ordinary:
                raise UserError(f"--{name} is of generators in ONNX files only; leave it out.", "export-onnx-only")
    steps = Steps()
    steps.say(f"reading {options.model}")
    model = model_folder.read(options.model, with_identity=options.part == "identity")
    steps.say(f"writing {options.output}")
    described = f"{model.network.family.describe(model.generator)}, convention {model.network.convention}"
    rows = [Row("model", f"{options.model}", described), *_written(options, model, steps)]
    steps.say("done")
    print(table(rows))
    return 0


def _written(options: argparse.Namespace, model: Any, steps: Steps) -> list[Row]:
    """Writes the files beside their place and, where nothing refuses them, moves them there."""
    output = options.output
    with explain_write_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as folder:
            path = Path(folder) / output.name
            rows = _onnx(options, model, path, steps) if output.suffix == ".onnx" else _pytorch(options, model, path)
            if is_file(output):  # a folder is refused
                say_replaced([output])
            for file in Path(folder).iterdir():
                file.replace(output.with_name(file.name))
    return rows


def _pytorch(options: argparse.Namespace, model: Any, path: Path) -> list[Row]:
    from simswap_jax.weights import torch_weights

    if options.part == "generator":
        state_dict = torch_weights.generator_state_dict(model.network, model.variables)
    else:
        state_dict = torch_weights.identity_state_dict(model.identity_network, model.identity_variables or {})
    torch_weights.save(state_dict, path)
    rows = [Row("written", f"{options.output}", f"{options.part}: {len(state_dict)} tensors, PyTorch's names")]
    if options.part == "generator":
        crops = f"{model.network.convention}, faces {model.face_size}×{model.face_size} '{model.alignment}'"
        remember = " ".join([crops, *_settings(model)])
        rows.append(Row("remember", remember, "PyTorch's file cannot say so itself"))
        if getattr(model.generator, "preset", "") == "custom":
            rows.append(Row("note", "no public preset", "PyTorch's SimSwap programs know 224, 224-deep and 512"))
    return rows


def _settings(model: Any) -> list[str]:
    """``--setting NAME=VALUE`` of what `import` would not find in the file, nor assume."""
    assumed = {field.name: field.default for field in fields(model.generator)}
    untold = [name for name in model.network.family.torch.settings if name in assumed]
    values = {name: getattr(model.generator, name) for name in untold}
    return [f"--setting {name}={json.dumps(value)}" for name, value in values.items() if value != assumed[name]]


def _onnx(options: argparse.Namespace, model: Any, path: Path, steps: Steps) -> list[Row]:
    from simswap_jax.weights import onnx_export

    output = options.output
    if options.part == "identity":
        network = model.identity_network
        onnx_export.export_identity(network, model.identity_variables or {}, path)
        height, width = network.config.size
        return [
            Row("written", f"{output}", f"input [N,3,{height},{width}], {network.config.values} values → embedding")
        ]
    facts = {"licence": str(model.card.get("licence", "unstated")), "identity network": model.identity_name}
    terms, precision = onnx_export.CONTRACTS[options.contract], options.precision
    results, difference = None, None
    for each in dict.fromkeys(("float32", precision)):  # float32 shows whether the graph is right; the last one stays
        onnx_export.export_generator(model.generator, model.variables, path, options.contract, facts, each)
        if importlib.util.find_spec("onnxruntime") is None:
            continue
        steps.say(f"checking it in onnxruntime, {each}")
        side = terms.size or model.face_size
        results = results or onnx_export.flax_results(model.generator, model.variables, options.contract, side)
        difference = onnx_export.difference_from(results, path)
        if not difference < PRECISIONS[each]:
            advice = "Report this with the model's config.json." if each == "float32" else "Choose another --precision."
            raise UserError(
                f"The network for {output} gives results {difference:.1g} of the range away from Flax's in "
                f"onnxruntime, in {each}; nothing was written. {advice}",
                "onnx-differs",
            )
    size = f"{path.stat().st_size / 2**20:.1f} MiB"
    rows = [Row("written", f"{output}", f"contract {options.contract}, {precision}, {size}")]
    if terms.hashed:
        rows.append(Row("beside it", f"{output.with_suffix('.hash')}", "its CRC32; keep the two together"))
    if terms.size and terms.size != model.face_size:
        rows.append(Row("note", f"trained at {model.face_size}", f"this contract shows it faces of {terms.size}"))
    if difference is None:
        return [*rows, Row("checked", "no", f"onnxruntime is not installed: {install_command('onnx')}")]
    return [*rows, Row("checked", f"{difference:.1e}", "largest difference from Flax in onnxruntime, over the range")]
