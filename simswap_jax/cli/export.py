"""`simswap-jax export`: model folder → PyTorch or ONNX."""

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simswap_jax.cli import command_parser
from simswap_jax.errors import UserError, install_command
from simswap_jax.io.atomic import say_replaced
from simswap_jax.io.progress import Row, Steps, table

LARGEST_DIFFERENCE = 1e-4  # of an ONNX file from Flax, over the output's range

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
    return parse


def main(arguments: Sequence[str]) -> int:
    """Runs ``simswap-jax export``; returns 0."""
    options = parser().parse_args(list(arguments))
    from simswap_jax.weights import model_folder, torch_weights

    if options.output.suffix not in (".pth", ".safetensors", ".onnx"):
        raise UserError(
            f"{options.output.name} says no format; end it in .pth, .safetensors or .onnx.", "export-ending"
        )
    steps = Steps()
    steps.say(f"reading {options.model}")
    model = model_folder.read(options.model, with_identity=options.part == "identity")
    say_replaced([options.output])
    steps.say(f"writing {options.output}")
    family, convention = model.network.family, model.network.convention
    rows = [Row("model", f"{options.model}", f"{family.describe(model.generator)}, convention {convention}")]
    if options.output.suffix == ".onnx":
        rows += _export_onnx(options, model, steps)
    else:
        if options.part == "generator":
            state_dict = torch_weights.generator_state_dict(model.network, model.variables)
        else:
            state_dict = torch_weights.identity_state_dict(model.identity_network, model.identity_variables or {})
        torch_weights.save(state_dict, options.output)
        rows.append(Row("written", f"{options.output}", f"{options.part}: {len(state_dict)} tensors, PyTorch's names"))
        if options.part == "generator":
            crops = f"{convention}, faces {model.face_size}×{model.face_size} '{model.alignment}'"
            rows.append(Row("remember", crops, "PyTorch's file cannot say so itself"))
            if getattr(model.generator, "preset", "") == "custom":
                rows.append(Row("note", "no public preset", "PyTorch's SimSwap programs know 224, 224-deep and 512"))
    steps.say("done")
    print(table(rows))
    return 0


def _export_onnx(options: argparse.Namespace, model: Any, steps: Steps) -> list[Row]:
    from simswap_jax.weights import onnx_export

    path = options.output
    if options.part == "identity":
        network = model.identity_network
        onnx_export.export_identity(network, model.identity_variables or {}, path)
        height, width = network.config.size
        return [Row("written", f"{path}", f"input [N,3,{height},{width}], {network.config.values} values → embedding")]
    facts = {"licence": str(model.card.get("licence", "unstated")), "identity network": model.identity_name}
    onnx_export.export_generator(model.generator, model.variables, path, options.contract, facts)
    rows = [Row("written", f"{path}", f"contract {options.contract}")]
    terms = onnx_export.CONTRACTS[options.contract]
    if terms.hashed:
        rows.append(Row("beside it", f"{path.with_suffix('.hash')}", "its CRC32; keep the two together"))
    if terms.size and terms.size != model.face_size:
        rows.append(Row("note", f"trained at {model.face_size}", f"this contract shows it faces of {terms.size}"))
    if importlib.util.find_spec("onnxruntime") is None:
        return [*rows, Row("checked", "no", f"onnxruntime is not installed: {install_command('onnx')}")]
    steps.say("checking it in onnxruntime")
    side = terms.size or model.face_size
    difference = onnx_export.generator_difference(path, model.generator, model.variables, options.contract, side)
    if not difference < LARGEST_DIFFERENCE:
        for written in (path, path.with_suffix(".hash")):
            written.unlink(missing_ok=True)
        raise UserError(
            f"{path} gives results {difference:.1g} of the range away from Flax's in onnxruntime and was removed; "
            "report this with the model's config.json.",
            "onnx-differs",
        )
    return [*rows, Row("checked", f"{difference:.1e}", "largest difference from Flax in onnxruntime, over the range")]
