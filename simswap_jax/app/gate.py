"""What stands before the page: who asks is known by a cookie, and gets the page, uploads, and their own files.

Gradio serves any file of its cache to anybody who can name it, and fetches addresses that it is given. So nothing but
the routes that the page needs comes through here, a file only to the browser that it belongs to, and no event that
names another file. Cookies are ``SameSite=Strict``, so that other sites cannot use them.
"""

import json
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from simswap_jax.errors import UserError

LIFETIME = 3600.0  # seconds without a request after which a browser's files go
MOST = 64  # browsers at once; one more takes the place of the one that was quiet the longest
QUOTA = 1_000_000_000  # bytes that one browser may keep here
LONGEST_NAME = 80  # characters of an uploaded file's name that are kept


@dataclass
class Session:
    """One browser's folder.

    Attributes:
      folder: everything it uploaded and was given; its name is a secret of its own, not the cookie.
      used: when the last request came, by ``time.monotonic``.
      busy: how many jobs work on its files; until they end the folder stays.
    """

    folder: Path
    used: float
    busy: int = 0

    def owns(self, path: str | Path) -> bool:
        """Whether a path, followed through links and "..", lies in this folder."""
        return within(path, self.folder)

    def place(self, name: str) -> Path:
        """Where a new file of that name goes: alone in a folder below this one.

        Raises:
          UserError: there is no room left.
        """
        if self.size() > QUOTA:
            raise UserError(
                f"your files take more than {QUOTA // 1_000_000} MB here; come back in an hour, or use smaller ones.",
                "quota-exceeded",
            )
        folder = self.folder / secrets.token_urlsafe(9)
        folder.mkdir()
        return folder / harmless(name)

    def size(self) -> int:
        """Bytes in the folder."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


class Sessions:
    """All browsers' folders, below one that is removed at the end. For several threads."""

    def __init__(self, root: Path, lifetime: float = LIFETIME, most: int = MOST) -> None:
        self.root = root
        self.examples = root / "examples"  # drawn at the start; everybody may see them
        self.examples.mkdir()
        self._lifetime, self._most = lifetime, most
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()

    def begin(self) -> str:
        """A new session; returns the secret by which its browser is known."""
        new = secrets.token_urlsafe(32)
        folder = self.root / secrets.token_urlsafe(16)
        folder.mkdir(mode=0o700)
        with self._lock:
            self._open[new] = Session(folder, time.monotonic())
            quiet = sorted((each.used, token) for token, each in self._open.items() if not each.busy)
            ended = self._taken_out([token for _, token in quiet[: max(0, len(self._open) - self._most)]])
        remove(ended)
        return new

    def find(self, token: str | None) -> Session | None:
        """The session of a browser that shows its secret; None for a wrong one, or one that has ended."""
        with self._lock:
            session = self._open.get(token or "")
            if session is not None:
                session.used = time.monotonic()
            return session

    @contextmanager
    def working(self, session: Session) -> Iterator[None]:
        """While a job, which may take longer than a session is kept, works on a session's files."""
        with self._lock:
            session.busy += 1
        try:
            yield
        finally:
            with self._lock:
                session.busy -= 1
                session.used = time.monotonic()

    def readable(self, session: Session | None, path: str | Path) -> bool:
        """Whether a browser may read a file: its own, and the examples."""
        return within(path, self.examples) or (session is not None and session.owns(path))

    def sweep(self) -> int:
        """End the sessions that were not used for long; returns how many."""
        with self._lock:
            oldest = time.monotonic() - self._lifetime
            ended = self._taken_out(
                [token for token, session in self._open.items() if session.used < oldest and not session.busy]
            )
        remove(ended)
        return len(ended)

    def close(self) -> None:
        """Remove everything."""
        with self._lock:
            self._open.clear()
        shutil.rmtree(self.root, ignore_errors=True)

    def _taken_out(self, tokens: list[str]) -> list[Session]:
        """End sessions that nobody works on, under the lock under which that was seen."""
        return [self._open.pop(token) for token in tokens]


def remove(sessions: list[Session]) -> None:
    """Remove the folders of sessions that have ended."""
    for session in sessions:
        shutil.rmtree(session.folder, ignore_errors=True)


def within(path: str | Path, folder: Path) -> bool:
    """Whether a path, followed through links and "..", lies below a folder."""
    if "\0" in str(path) or not os.path.isabs(path):
        return False
    return os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep)


def harmless(name: str) -> str:
    """A file's name as it may stand on any disk: letters, digits, ".", "-", "_" and spaces, its ending kept."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(letter if letter.isalnum() or letter in "._- " else "_" for letter in last).strip(". ")
    stem, dot, ending = kept.rpartition(".")
    if not dot or not stem:
        return kept[:LONGEST_NAME] or "file"
    return f"{stem[:LONGEST_NAME]}.{ending[:10]}"


COOKIE = "simswap_session"
FILE = "/gradio_api/file="
UPLOAD = "/gradio_api/upload"
PROGRESS = "/gradio_api/upload_progress"
JOIN = "/gradio_api/queue/join"
PAGE = "/"
# Routes that give the same to everybody: the page's own scripts and styles.
PUBLIC = ("/assets/", "/static/", "/svelte/", "/theme.css", "/config", "/favicon.ico", "/manifest.json")
# Routes that the page uses once it has a session.
OWN = ("/gradio_api/queue/data", "/gradio_api/heartbeat/", "/gradio_api/startup-events", "/gradio_api/info",
       "/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/app_id")  # fmt: skip
MOST_FILES = 8  # at once
LARGEST_EVENT = 2_000_000  # bytes of what a click may send
EXPIRED = "This page was not used for an hour, so its files are gone; reload it."


class Gate:
    """An ASGI application around the page."""

    def __init__(self, inside: Any, sessions: Sessions, largest_upload: int, hosts: frozenset[str] | None) -> None:
        """Stand before a page.

        Args:
          inside: the ASGI application to guard.
          sessions: whose files are whose.
          largest_upload: bytes of one upload, all its files together.
          hosts: names by which the page may be called, against other sites that point a name of theirs here; None
            for any.
        """
        self._inside, self._sessions = inside, sessions
        self._largest_upload, self._hosts = largest_upload, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or let the page answer it."""
        if scope["type"] == "lifespan":
            await self._inside(scope, receive, send)
            return
        if scope["type"] != "http":  # the page uses no web sockets
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path, method = scope["path"], scope["method"]
        if self._hosts is not None and urlsplit(f"//{headers.get('host', '')}").hostname not in self._hosts:
            await refuse(send, 421, "This page is not known by that name.")
            return
        session = self._sessions.find(cookie(headers.get("cookie", "")))
        if path == PAGE and method in ("GET", "HEAD"):
            await self._inside(scope, receive, send if session else with_cookie(send, self._sessions.begin()))
        elif path.startswith(FILE) and method in ("GET", "HEAD"):
            if self._sessions.readable(session, path.removeprefix(FILE)):
                await self._inside(scope, receive, send)
            else:
                await refuse(send, 403, "This file is not yours, or not there any more.")
        elif path.startswith(PUBLIC) and method in ("GET", "HEAD"):
            await self._inside(scope, receive, send)
        elif session is None:
            await refuse(send, 403, EXPIRED)
        elif path == UPLOAD and method == "POST":
            await self._upload(session, headers, scope, receive, send)
        elif path == JOIN and method == "POST":
            await self._event(session, scope, receive, send)
        elif path == PROGRESS:  # uploads come from near: they are not counted on the way
            await answer(send, 200, b'data: {"msg": "done"}\n\n', b"text/event-stream")
        elif path.startswith(OWN):
            await self._inside(scope, receive, send)
        else:
            await refuse(send, 404, "There is nothing here.")

    async def _upload(self, session: Session, headers: dict[str, str], scope: Any, receive: Any, send: Any) -> None:
        """Put uploaded files into the session's own folder, and say where."""
        from starlette.concurrency import run_in_threadpool
        from starlette.formparsers import MultiPartException
        from starlette.requests import Request

        too_large = f"More than {self._largest_upload // 2**20} MB are not taken at once; send smaller pictures."
        length = headers.get("content-length", "")
        if not length.isdecimal():
            await refuse(send, 411, "An upload must say how large it is.")
            return
        if int(length) > self._largest_upload:
            await refuse(send, 413, too_large)
            return
        try:
            form = await Request(scope, receive).form(max_files=MOST_FILES, max_fields=4)
        except (MultiPartException, ValueError) as error:
            await refuse(send, 400, f"The upload was not understood ({error}).")
            return
        try:
            paths = await run_in_threadpool(keep, session, [file for file in form.getlist("files") if file])
        except (UserError, OSError) as error:
            await refuse(send, 507, str(error) if isinstance(error, UserError) else "The disk is full.")
            return
        finally:
            await form.close()
        await answer(send, 200, paths)

    async def _event(self, session: Session, scope: Any, receive: Any, send: Any) -> None:
        """Let a click through unless it names a file that is not the session's."""
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > LARGEST_EVENT:
                await refuse(send, 413, "That is more than a click may send.")
                return
        try:
            named = list(paths_in(json.loads(body)))
        except (ValueError, RecursionError):
            await refuse(send, 400, "That is no event.")
            return
        if not all(self._sessions.readable(session, path) for path in named):
            await refuse(
                send, 403, "This event names a file that is not yours, or not there any more; reload the page."
            )
            return
        given = False

        async def again() -> Any:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._inside(scope, again, send)


def keep(session: Session, uploads: list[Any]) -> list[str]:
    """Copy uploads (Starlette's) into a session's folder; returns the paths."""
    import shutil

    paths = []
    for upload in uploads:
        path = session.place(str(upload.filename or "file"))
        with path.open("wb") as file:
            shutil.copyfileobj(upload.file, file)
        paths.append(str(path))
    return paths


def paths_in(value: Any) -> Iterator[str]:
    """Every ``path`` in an event, as gradio writes a file: ``{"path": …}`` anywhere below."""
    if isinstance(value, dict):
        if value.get("path") is not None:
            yield str(value["path"])
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from paths_in(each)


def cookie(header: str) -> str | None:
    """The session's secret out of a Cookie header."""
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def with_cookie(send: Any, token: str) -> Any:
    """A ``send`` that gives the browser its secret with the answer."""

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            given = f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict"
            message = {**message, "headers": [*message["headers"], (b"set-cookie", given.encode())]}
        await send(message)

    return sending


async def refuse(send: Any, status: int, sentence: str) -> None:
    """Answer with a sentence, where gradio's page looks for one."""
    logging.getLogger(__name__).debug("%d: %s", status, sentence)
    await answer(send, status, {"detail": sentence, "error": sentence})


async def answer(send: Any, status: int, content: Any, kind: bytes = b"application/json") -> None:
    """Answer with JSON, or with bytes of another kind."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
