"""``simswap-jax preflight``: estimate memory and speed on TPUs/GPUs before you rent them."""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from simswap_jax.cli import command_parser
from simswap_jax.errors import UserError
from simswap_jax.hardware import breakdown
from simswap_jax.hardware.preflight import DoesNotFit, PreflightRequest, preflight
from simswap_jax.hardware.report import table
from simswap_jax.training import chips
from simswap_jax.training.chips import Slice


def parser() -> argparse.ArgumentParser:
    """Of the command; fields of the experiment (``--config.name=value``) go to the experiment's own parser."""
    made = command_parser(
        "preflight",
        "Estimate memory and speed of a training on TPUs/GPUs before you rent them: the step is compiled for them on "
        "this machine.",
        "--config.field=value changes the experiment, as in simswap-jax train. Status: 0 fits, 1 does not fit.",
    )
    made.add_argument("--config", required=True, metavar="EXPERIMENT", help="name or file, as for train")
    made.add_argument(
        "--hardware", required=True, metavar="FILE", help="a file of configs/hardware, or a TPU slice such as v5e:16x16"
    )
    made.add_argument("--batch-per-chip", type=int, metavar="N", help="images per chip, in place of the file's")
    made.add_argument("--identity", default="", metavar="SHAPE", help="arcface50, …: compile without the weights' file")
    made.add_argument("--bfloat16", action="store_true", help="all networks compute in bfloat16")
    made.add_argument(
        "--largest-batch",
        action=argparse.BooleanOptionalAction,
        help="compile for half the batch, too, to tell the largest one that fits (default: for GPUs)",
    )
    made.add_argument("--triton-products", action="store_true", help="GPUs: let Triton compile matrix products")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.add_argument("--compare", default="", metavar="FILE.json", help="what --json printed before a change")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command. Status 0: it fits; 1: it does not."""
    # Nothing runs here; an accelerator, if there is one, stays free. JAX reads it when it is imported, by `request_of`.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    fields = [word for word in arguments if word.startswith("--config.")]
    options = parser().parse_args([word for word in arguments if word not in fields])
    request = request_of(options, fields)
    before = breakdown.load(options.compare) if options.compare else None
    try:
        report = preflight(request)
    except DoesNotFit as error:
        print(json.dumps({"fits": False, "why": str(error)}) if options.json else f"fits: NO. {error}")
        return 1
    print(json.dumps(report.as_dict(), indent=1) if options.json else table(report))
    if before:
        print(breakdown.comparison(before, report.as_dict()), file=sys.stderr if options.json else sys.stdout)
    if not report.fits:
        print("simswap-jax: the step compiles but does not fit; lower --batch-per-chip.", file=sys.stderr)
    return 0 if report.fits else 1


def request_of(options: argparse.Namespace, fields: Sequence[str]) -> PreflightRequest:
    """What a command line asks for.

    Raises:
      UserError: the experiment or the hardware cannot be read, or the batch is none.
    """
    from simswap_jax.cli import train

    config, _ = train.parse([f"--config={options.config}", "--workdir=.", *fields])
    if options.bfloat16:
        for part in ("generator", "discriminator", "identity"):
            if part in config:
                config[part].dtype = "bfloat16"
    where = chips.read(options.hardware)
    if options.batch_per_chip is not None:
        if options.batch_per_chip < 1:
            raise UserError(f"--batch-per-chip is {options.batch_per_chip}; give 1 or more.", "batch-per-chip")
        where = Slice(where.chip, where.torus, options.batch_per_chip)
    twice = not where.chip.is_tpu if options.largest_batch is None else options.largest_batch
    return PreflightRequest(config, where, options.identity, twice, options.triton_products)
