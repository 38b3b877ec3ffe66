"""The page, served on this computer."""

import asyncio
import importlib.util
import ipaddress
import logging
import os
import signal
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simswap_jax.app.gate import Gate, Sessions
from simswap_jax.app.studio import Studio
from simswap_jax.errors import UserError, missing_extra
from simswap_jax.inference.swapper import FaceSwapper

HOST, PORT = "127.0.0.1", 7860
MEGABYTES = 200  # of one upload
SWEEP = 60.0  # seconds between looks for files that were not used for long

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerOptions:
    """Where the page is served.

    Attributes:
      model: a model folder; None: the one that ships.
      host: the address to listen on; others than this computer's can be reached by others.
      port: to listen on; 0: any free one.
      megabytes: the most that is taken in one upload.

    Raises:
      UserError: a number out of its range.
    """

    model: Path | None = None
    host: str = HOST
    port: int = PORT
    megabytes: int = MEGABYTES

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise UserError(f"--port is {self.port}; it goes from 0 (any free one) to 65535.", "port-range")
        if self.megabytes < 1:
            raise UserError(f"--max-upload is {self.megabytes}; it must be at least 1 (MB).", "upload-range")

    def names(self) -> frozenset[str] | None:
        """The names by which the page may be called; None: any, where others can reach it."""
        return frozenset(["127.0.0.1", "localhost", "::1", self.host]) if is_loopback(self.host) else None


def serve_page(options: ServerOptions) -> None:
    """Serve the page until it is interrupted; its files are then removed.

    Raises:
      UserError: the extra is missing, the address cannot be listened on, or the model cannot be read.
    """
    if importlib.util.find_spec("gradio") is None:
        raise missing_extra("gradio", "app", "the page")
    listening = listen(options.host, options.port)
    with listening, tempfile.TemporaryDirectory(prefix="simswap_jax_app_", ignore_cleanup_errors=True) as folder:
        studio = Studio(load(options.model))
        sessions = Sessions(Path(folder).resolve())
        page = gradio_application(studio, sessions, options.megabytes)
        application = Gate(page, sessions, options.megabytes * 2**20, options.names())
        say_where(options.host, listening.getsockname()[1])
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the files go then, too
        with suppress(KeyboardInterrupt):  # how it is meant to end
            asyncio.run(serve(application, sessions, listening))
        sessions.close()
    _log.info("The page is closed and its files are removed.")


def load(model: Path | None) -> FaceSwapper:
    """The model that was named, or the one that ships, or a sentence that says which to name."""
    if model is not None:
        return FaceSwapper.from_pretrained(model)
    try:
        return FaceSwapper.from_pretrained()
    except UserError as error:
        raise UserError(
            "no model ships with this installation; give --model FOLDER, a model folder that `simswap-jax train` or "
            "`simswap-jax import` left.",
            "model-missing",
        ) from error


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there, or a sentence why it cannot."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(
            f"the page cannot listen on {host}, port {port} ({error.strerror or error}); choose another --port "
            "or --host.",
            "cannot-listen",
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
    """Say the address, and warn where others can reach it."""
    named = f"[{host}]" if ":" in host else host
    _log.info("Open http://%s:%d in a browser; Ctrl-C ends the page.", named, port)
    if not is_loopback(host):
        _log.warning(
            "Everybody who can reach this computer can use the page: there is no password and no encryption. Put a "
            "web server before it that has both."
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
