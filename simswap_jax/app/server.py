"""The page, served on this computer."""

import asyncio
import importlib.util
import ipaddress
import logging
import os
import re
import signal
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simswap_jax.app.gate import Gate, PublicAddress, host_of
from simswap_jax.app.log import bounded_log
from simswap_jax.app.sessions import Sessions
from simswap_jax.app.studio import Studio
from simswap_jax.errors import UserError, missing_extra
from simswap_jax.inference.swapper import FaceSwapper

HOST, PORT = "127.0.0.1", 7860
MEGABYTES = 200  # of one upload
SWEEP = 60.0  # seconds between looks for what was not used for long
MOST_CONNECTIONS = 1024
MOST_TABS = 256  # whose choices are kept

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerOptions:
    """Where the page is served.

    Attributes:
      model: a model folder; None: the one that ships.
      host: the address to listen on; others than this computer's can be reached by others.
      port: to listen on; 0: any free one.
      megabytes: the most that is taken in one upload.
      allowed_hosts: names by which browsers call the page besides this computer's own, where a proxy stands before it.
      root_path: the path below which a proxy shows it, such as ``/faces``; empty for none.
      runtime: what runs the generator, as of `FaceSwapper`.

    Raises:
      UserError: a number out of its range, or a name or path that is none.
    """

    model: Path | None = None
    host: str = HOST
    port: int = PORT
    megabytes: int = MEGABYTES
    allowed_hosts: tuple[str, ...] = ()
    root_path: str = ""
    runtime: str = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise UserError(f"--port is {self.port}; it goes from 0 (any free one) to 65535.", "port-range")
        if self.megabytes < 1:
            raise UserError(f"--max-upload is {self.megabytes}; it must be at least 1 (MB).", "upload-range")

        for name in self.allowed_hosts:
            if host_of(name) is None or ":" in name.rpartition("]")[2]:
                raise UserError(
                    f"--allowed-host is '{name}'; give the name alone, such as faces.example.org.", "allowed-host-form"
                )
        object.__setattr__(self, "root_path", self.root_path.rstrip("/"))
        if self.root_path and not ROOT_PATH.fullmatch(self.root_path):
            raise UserError(f"--root-path is '{self.root_path}'; give a path such as /faces.", "root-path-form")

    def address(self) -> PublicAddress:
        """Where browsers find the page; any name is right where others can reach it, unless names are given."""
        named = {name for name in map(host_of, self.allowed_hosts) if name}
        if not named and not is_loopback(self.host):
            return PublicAddress(None, self.root_path)
        here = {"127.0.0.1", "localhost", "::1", host_of(f"[{self.host}]") or self.host.lower()}
        return PublicAddress(frozenset(named | here), self.root_path)


ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def model_in_words(swapper: FaceSwapper, folder: Path | None) -> str:
    """Which model works here, and where."""
    import jax

    name = (
        "the one that ships" if folder is None else f"'{folder.parent.name if folder.name == 'model' else folder.name}'"
    )
    device = jax.devices()[0]
    where = "the CPU" if device.platform == "cpu" else device.device_kind
    return f"Model: {name}, faces of {swapper.face_size} pixels, on {where}."


def serve_page(options: ServerOptions) -> None:
    """Serve the page until it is interrupted; its files are then removed.

    Raises:
      UserError: the extra is missing, the address cannot be listened on, or the model cannot be read.
    """
    if importlib.util.find_spec("gradio") is None:
        raise missing_extra("gradio", "app", "the page")
    listening = listen(options.host, options.port)
    with (
        listening,
        tempfile.TemporaryDirectory(prefix="simswap_jax_app_", ignore_cleanup_errors=True) as folder,
        bounded_log(__name__),
    ):
        swapper = FaceSwapper.from_pretrained(options.model, runtime=options.runtime)
        studio = Studio(swapper, model_in_words(swapper, options.model))
        sessions = Sessions(Path(folder).resolve())
        page, memory = gradio_application(studio, sessions, options)
        gate = Gate(page, sessions, options.megabytes * 2**20, options.address(), memory)
        say_where(options, listening.getsockname()[1])
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the files go then, too
        with suppress(KeyboardInterrupt):  # how it is meant to end
            asyncio.run(serve(gate, sessions, memory, listening))
        sessions.close()
    _log.info("The page is closed and its files are removed.")


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


class GradioMemory:
    """What gradio keeps for tabs until they fetch it (`gate.PageMemory`)."""

    def __init__(self, page: Any) -> None:
        self._queue = page._queue  # gradio has no other way to it
        self._arguments = {number: len(event.inputs) for number, event in page.fns.items()}

    def arguments(self, event: int) -> int | None:
        """How many values an event's function takes; None where there is no such event."""
        return self._arguments.get(event)

    def unread(self, tab: str) -> int | None:
        """How many answers of a tab are under way or not fetched; None where nothing is kept for it."""
        if tab not in self._queue.pending_messages_per_session:
            return None
        return len(self._queue.pending_event_ids_session.get(tab, ()))

    async def forget(self, tab: str) -> None:
        """Throw away what is kept for a tab; what it waits for is not started any more."""
        await self._queue.clean_events(session_hash=tab)
        self._queue.pending_messages_per_session.pop(tab, None)
        self._queue.pending_event_ids_session.pop(tab, None)

    async def keep_only(self, tabs: set[str]) -> None:
        """Throw away what is kept for tabs that are not among these."""
        kept = {*self._queue.pending_messages_per_session, *self._queue.pending_event_ids_session}
        for tab in kept - tabs:
            await self.forget(tab)


def gradio_application(studio: Studio, sessions: Sessions, options: ServerOptions) -> tuple[Any, GradioMemory]:
    """The page as an ASGI application, keeping its files below the sessions' folder and telling nobody of its use."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "100"  # it sums them up after each event
    os.environ["GRADIO_TEMP_DIR"] = str(sessions.root)
    os.environ["HF_HUB_OFFLINE"] = "1"
    import gradio as gr
    from fastapi import FastAPI

    from simswap_jax.app.layout import STYLE, theme
    from simswap_jax.app.page import build

    inside = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    page = build(studio, sessions, options.megabytes)
    page.state_session_capacity = MOST_TABS
    application = gr.mount_gradio_app(
        inside,
        page,
        path="",
        root_path=options.root_path or None,
        footer_links=[],
        show_error=False,
        max_file_size=options.megabytes * 2**20,
        ssr_mode=False,
        theme=theme(),
        css=STYLE,
    )
    return application, GradioMemory(page)


def say_where(options: ServerOptions, port: int) -> None:
    """Say the address, and warn where others can reach it."""
    named = f"[{options.host}]" if ":" in options.host else options.host
    _log.info("Open http://%s:%d%s in a browser; Ctrl-C ends the page.", named, port, options.root_path)
    if options.allowed_hosts:
        _log.info("Behind a proxy it answers to %s.", ", ".join(options.allowed_hosts))
    if not is_loopback(options.host):
        _log.warning(
            "Everybody who can reach this computer can use the page: there is no password and no encryption. Put a "
            "web server before it that has both."
        )


async def serve(gate: Gate, sessions: Sessions, memory: GradioMemory, listening: socket.socket) -> None:
    """Serve until interrupted, and look now and then for files and answers that nobody uses."""
    import uvicorn

    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = uvicorn.Server(
        uvicorn.Config(
            gate,
            log_config=None,  # its lines go where ours go
            access_log=False,
            ws="none",
            server_header=False,
            proxy_headers=False,  # the gate reads them
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=2,
        )
    )

    async def sweeping() -> None:
        while True:
            await asyncio.sleep(SWEEP)
            await asyncio.to_thread(sessions.sweep)
            await memory.keep_only(sessions.all_tabs())

    task = asyncio.create_task(sweeping())
    try:
        await server.serve(sockets=[listening])
    finally:
        task.cancel()
