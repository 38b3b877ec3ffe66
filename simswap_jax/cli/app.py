"""`simswap-jax app`: a page in the browser that swaps faces."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from simswap_jax.app.server import HOST, MEGABYTES, PORT, ServerOptions, serve_page
from simswap_jax.cli import MODEL_HELP, command_parser
from simswap_jax.inference.runtime import RUNTIMES

EXAMPLES = """\
simswap-jax app                                    then open http://127.0.0.1:7860
simswap-jax app --model models/people --port 0     (any free port; it is printed)
simswap-jax app --allowed-host faces.example.org --root-path /swap     (behind a proxy at that name and path)

The page can be used by everybody on this computer and by nobody else, unless --host says otherwise. Only swap faces of
people who consented.
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``simswap-jax app`` until it is interrupted; returns 0."""
    given = parser().parse_args(list(arguments))
    serve_page(
        ServerOptions(
            given.model,
            given.host,
            given.port,
            given.max_upload,
            tuple(given.allowed_host or ()),
            given.root_path,
            given.runtime,
        )
    )
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parse = command_parser(
        "app", "A page in the browser: choose a source and a photo, click on a face, swap, compare, download.", EXAMPLES
    )
    add = parse.add_argument
    add("--model", type=Path, metavar="MODEL", help=MODEL_HELP)
    add("--host", default=HOST, help=f"address to listen on (default {HOST}: this computer only)")
    add("--port", type=int, default=PORT, help=f"port to listen on (default {PORT}; 0: any free one)")
    add("--max-upload", type=int, default=MEGABYTES, metavar="MB", help=f"largest upload (default {MEGABYTES})")
    add("--allowed-host", nargs="+", metavar="NAME", help="behind a proxy: the name by which browsers call the page")
    add("--root-path", default="", metavar="PATH", help="behind a proxy: the path below which it shows the page")
    add("--runtime", choices=RUNTIMES, default="auto", help="what runs the generator (auto: onnx on a CPU with it)")
    return parse
