"""`simswap-jax app`: the page, served on this computer."""

import argparse
import asyncio
import importlib.util
import ipaddress
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from simswap_jax.app.gate import Gate
from simswap_jax.app.sessions import Sessions
from simswap_jax.app.studio import Studio
from simswap_jax.errors import UserError
from simswap_jax.inference.swapper import FaceSwapper

EXTRA = "pip install 'simswap-jax[app]'"
HOST, PORT = "127.0.0.1", 7860
MEGABYTES = 200  # of one upload
SWEEP = 60.0  # seconds between looks for files that were not used for long

EXAMPLES = """\
simswap-jax app --model models/people          then open http://127.0.0.1:7860
simswap-jax app --model models/people --port 0     (any free port; it is printed)

The page can be used by everybody on this computer and by nobody else, unless --host says otherwise. Swap only faces of
people who agreed to it.
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``simswap-jax app`` until it is interrupted; returns 0."""
    options = parser().parse_args(list(arguments))
    if not 0 <= options.port <= 65_535:
        raise UserError(f"--port is {options.port}; it goes from 0 (any free one) to 65535.")
    if options.max_upload < 1:
        raise UserError(f"--max-upload is {options.max_upload}; it must be at least 1 (MB).")
    if importlib.util.find_spec("gradio") is None:
        raise UserError(f"the page needs the package gradio; {EXTRA}.")
    listening = listen(options.host, options.port)
    with listening, tempfile.TemporaryDirectory(prefix="simswap_jax_app_", ignore_cleanup_errors=True) as folder:
        studio = Studio(load(options.model))
        sessions = Sessions(Path(folder).resolve())
        hosts = frozenset(["127.0.0.1", "localhost", "::1", options.host]) if is_loopback(options.host) else None
        application = Gate(
            gradio_application(studio, sessions, options.max_upload), sessions, options.max_upload * 2**20, hosts
        )
        say_where(options.host, listening.getsockname()[1])
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the files go then, too
        with suppress(KeyboardInterrupt):  # how it is meant to end
            asyncio.run(serve(application, sessions, listening))
        sessions.close()
    print("The page is closed and its files are removed.")
    return 0


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    parse = argparse.ArgumentParser(
        "simswap-jax app",
        description="A page in the browser: choose a source and a photo, click on a face, swap, compare, download.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parse.add_argument
    add("--model", type=Path, metavar="FOLDER", help="model folder (default: the one that ships)")
    add("--host", default=HOST, help=f"address to listen on (default {HOST}: this computer only)")
    add("--port", type=int, default=PORT, help=f"port to listen on (default {PORT}; 0: any free one)")
    add("--max-upload", type=int, default=MEGABYTES, metavar="MB", help=f"largest upload (default {MEGABYTES})")
    return parse


def load(model: Path | None) -> FaceSwapper:
    """The model that was named, or the one that ships, or a sentence that says which to name."""
    if model is not None:
        return FaceSwapper.from_pretrained(model)
    try:
        return FaceSwapper.from_pretrained()
    except UserError as error:
        raise UserError(
            "no model ships with this installation; give --model FOLDER, a model folder that `simswap-jax train` or "
            "`simswap-jax import` left."
        ) from error


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there, or a sentence why it cannot."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(
            f"the page cannot listen on {host}, port {port} ({error.strerror or error}); choose another --port "
            "or --host."
        ) from error


def is_loopback(host: str) -> bool:
    """Whether an address means this computer only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def gradio_application(studio: Studio, sessions: Sessions, megabytes: int) -> Any:
    """The page as an ASGI application, keeping its files below the sessions' folder and telling nobody of its use."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(sessions.root)
    os.environ["HF_HUB_OFFLINE"] = "1"
    import gradio as gr
    from fastapi import FastAPI

    from simswap_jax.app.page import STYLE, build, theme

    inside = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    return gr.mount_gradio_app(
        inside,
        build(studio, sessions, megabytes),
        path="",
        footer_links=[],
        show_error=False,
        max_file_size=megabytes * 2**20,
        ssr_mode=False,
        theme=theme(),
        css=STYLE,
    )


def say_where(host: str, port: int) -> None:
    """Print the address, and a warning where others can reach it."""
    named = f"[{host}]" if ":" in host else host
    print(f"Open http://{named}:{port} in a browser; Ctrl-C ends the page.", flush=True)
    if not is_loopback(host):
        print(
            "Everybody who can reach this computer can use the page: there is no password and no encryption. Put a "
            "web server before it that has both.",
            flush=True,
        )


async def serve(application: Any, sessions: Sessions, listening: socket.socket) -> None:
    """Serve until interrupted, and look now and then for files that nobody uses."""
    import uvicorn

    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = uvicorn.Server(
        uvicorn.Config(application, log_level="warning", ws="none", server_header=False, timeout_graceful_shutdown=2)
    )

    async def sweeping() -> None:
        while True:
            await asyncio.sleep(SWEEP)
            await asyncio.to_thread(sessions.sweep)

    task = asyncio.create_task(sweeping())
    try:
        await server.serve(sockets=[listening])
    finally:
        task.cancel()
