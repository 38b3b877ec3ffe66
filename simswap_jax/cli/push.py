"""`simswap-jax push`: a model folder → a repository of the Hugging Face Hub."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from simswap_jax.cli import command_parser
from simswap_jax.errors import UserError

EXAMPLES = """\
simswap-jax push models/mine anna/swap-224 --private
then, everywhere:   simswap-jax swap --model anna/swap-224 …     (or anna/swap-224@REVISION)

It needs the extra 'hub' and a token: hf auth login.
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``simswap-jax push``; returns 0."""
    options = parser().parse_args(arguments)
    from simswap_jax.weights import hub, model_folder
    from simswap_jax.weights.model_names import find_model

    folder = find_model(options.folder)
    model = model_folder.read(folder, with_identity=False, with_included=True)  # its files are those of its config.json
    licence = str(model.card.get("licence", "")).strip()
    if licence in ("", "unstated"):
        raise UserError(
            f"the card of {folder} states no licence, so nobody would know what the model may be used for; make the "
            "folder with one (simswap-jax import … --licence TEXT).",
            "push-without-licence",
        )
    named = hub.NAME.fullmatch(options.repository)
    if named is None or named["revision"]:
        raise UserError(f"'{options.repository}' is no name of a repository; write user/name.", "push-repository-name")
    print(f"{hub.upload(folder, options.repository, options.private)}\nlicence: {licence}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parse = command_parser(
        "push", "Put a model folder into a repository of the Hugging Face Hub, licence and card included.", EXAMPLES
    )
    parse.add_argument("folder", type=Path, metavar="FOLDER", help="a model folder whose card states a licence")
    parse.add_argument("repository", metavar="USER/NAME", help="made where there is none")
    parse.add_argument("--private", action="store_true", help="a new repository is yours alone")
    return parse
