"""What stands before the page: who asks is known by a cookie, and gets the page, uploads, and their own files.

Gradio serves any file of its cache to anybody who can name it, and fetches addresses that it is given. So nothing but
the routes that the page needs comes through here, a file only to the browser that it belongs to, and no event that
names another file. Cookies are ``SameSite=Strict``, so that other sites cannot use them.
"""

import asyncio
import ipaddress
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qs

from simswap_jax.app.sessions import EXPIRED, Session, Sessions
from simswap_jax.errors import UserError

COOKIE = "simswap_session"
FILE = "/gradio_api/file="
UPLOAD = "/gradio_api/upload"
PROGRESS = "/gradio_api/upload_progress"
JOIN = "/gradio_api/queue/join"
STREAM = "/gradio_api/queue/data"
HEARTBEAT = "/gradio_api/heartbeat/"
CANCEL = "/gradio_api/cancel"
RESET = "/gradio_api/reset"
PAGE = "/"
# Routes that give the same to everybody: the page's own scripts and styles.
PUBLIC = ("/assets/", "/static/", "/svelte/", "/theme.css", "/config", "/favicon.ico", "/manifest.json")
# Routes that the page reads once it has a session.
OWN = ("/gradio_api/startup-events", "/gradio_api/info", "/gradio_api/app_id")
MOST_FILES = 8  # at once
MOST_UPLOADS, MOST_UPLOADS_EACH = 16, 4  # under way, of all browsers and of one
UPLOAD_SECONDS = 900.0  # after which one is given up
LARGEST_EVENT = 2_000_000  # bytes of what a click may send
MOST_UNREAD = 32  # answers that wait for one tab
NO_EVENT = "That is no event of this page; reload it."

_log = logging.getLogger(__name__)


class Refused(Exception):
    """A request that gets no more than a status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class PublicAddress:
    """Where browsers find the page.

    Attributes:
      hosts: names by which it may be called, against other sites that point a name of theirs here; None for any.
      root: the path below which a proxy shows it, such as ``/faces``; empty for none.
    """

    hosts: frozenset[str] | None = None
    root: str = ""


class PageMemory(Protocol):
    """What the page keeps for tabs until they fetch it: none of it may grow because nobody does."""

    def arguments(self, event: int) -> int | None:
        """How many values an event's function takes; None where there is no such event."""

    def unread(self, tab: str) -> int | None:
        """How many answers of a tab are under way or not fetched; None where nothing is kept for it."""

    async def forget(self, tab: str) -> None:
        """Throw away what is kept for a tab."""


class Gate:
    """An ASGI application around the page."""

    def __init__(
        self, inside: Any, sessions: Sessions, largest_upload: int, address: PublicAddress, memory: PageMemory
    ) -> None:
        """Stand before a page.

        Args:
          inside: the ASGI application to guard.
          sessions: whose files are whose.
          largest_upload: bytes of one upload, all its files together.
          address: how the page may be called.
          memory: what the page keeps for its tabs.
        """
        self._inside, self._sessions, self._memory = inside, sessions, memory
        self._largest_upload, self._address = largest_upload, address
        self._uploads = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or let the page answer it."""
        if scope["type"] == "lifespan":
            await self._inside(scope, receive, send)
            return
        if scope["type"] != "http":  # the page uses no web sockets
            return
        reply = Reply(scope, send)
        try:
            await self._route(called_as(scope, self._address), receive, reply)
        except Refused as refused:
            await reply.refuse(refused.status, str(refused))
        except Exception:
            _log.exception("500 %s %s", scope["method"], scope["path"])
            await reply.refuse(500, "Something went wrong inside the program.", logged=True)

    async def _route(self, scope: Any, receive: Any, send: Any) -> None:
        path, method = scope["path"], scope["method"]
        headers = headers_of(scope)
        session = self._sessions.find(cookie(headers.get("cookie", "")))
        reads = method in ("GET", "HEAD")
        if path == self._address.root and path and reads:  # addresses in the page are relative to this folder
            await answer(send, 307, b"", location=f"{path}/")
        elif path == PAGE and reads:
            if session is None:
                send = with_cookie(send, self._sessions.begin(), self._address.root, scope["scheme"] == "https")
            await self._inside({**scope, "query_string": b""}, receive, send)
        elif path.startswith(FILE) and reads:
            if not self._sessions.readable(session, path.removeprefix(FILE)):
                raise Refused(403, "This file is not yours, or not there any more.")
            await self._inside(scope, receive, send)
        elif path.startswith(PUBLIC) and reads:
            await self._inside({**scope, "query_string": b""}, receive, send)
        elif session is None:
            raise Refused(403, EXPIRED)
        elif path in OWN and reads:
            await self._inside(scope, receive, send)
        elif path == STREAM and reads:
            tab = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
            if tab not in session.tabs or self._memory.unread(tab) is None:
                raise Refused(404, "There is no answer waiting; reload the page.")
            session.waiting += 1  # a swap may stand behind a long video
            try:
                await self._inside(scope, receive, send)
            finally:
                session.waiting -= 1
        elif path.startswith(HEARTBEAT) and reads:
            await self._claim(session, path.removeprefix(HEARTBEAT))
            await self._inside(scope, receive, send)
        elif method == "POST":
            await self._post(session, scope, receive, send)
        elif path == PROGRESS and reads:  # uploads come from near: they are not counted on the way
            await answer(send, 200, b'data: {"msg": "done"}\n\n', b"text/event-stream")
        else:
            raise Refused(404, "There is nothing here.")

    async def _post(self, session: Session, scope: Any, receive: Any, send: Any) -> None:
        """What a browser sends."""
        path = scope["path"].rstrip("/")
        if path == UPLOAD:
            await answer(send, 200, await self._upload(session, scope, receive))
        elif path == JOIN:
            event = await self._event(session, await read_json(receive, LARGEST_EVENT))
            await self._inside(*as_if_sent(scope, receive, event), send)
        elif path == CANCEL:
            asked = await read_json(receive, LARGEST_EVENT)
            fine = is_index(asked.get("fn_index")) and isinstance(asked.get("event_id"), str)
            if not fine or asked.get("session_hash") not in list(session.tabs):
                raise Refused(400, NO_EVENT)
            kept = {name: asked[name] for name in ("session_hash", "fn_index", "event_id")}
            await self._inside(*as_if_sent(scope, receive, kept), send)
        elif path == RESET:  # gradio does nothing either
            await answer(send, 200, {"success": True})
        else:
            raise Refused(404, "There is nothing here.")

    async def _claim(self, session: Session, tab: Any) -> None:
        """Note that a tab is a browser's own; what is kept for too many of its others goes.

        Raises:
          Refused: it is none, or another's.
        """
        if not isinstance(tab, str) or not TAB.fullmatch(tab):
            raise Refused(400, NO_EVENT)
        too_many = self._sessions.claim(session, tab)
        if too_many is None:
            raise Refused(403, "This page is another browser's; reload it.")
        for old in too_many:
            await self._memory.forget(old)

    async def _upload(self, session: Session, scope: Any, receive: Any) -> list[str]:
        """Put uploaded files into the session's own folder, and say where."""
        headers = headers_of(scope)
        length = headers.get("content-length", "")
        if not length.isdecimal():
            raise Refused(411, "An upload must say how large it is.")
        if int(length) > self._largest_upload:
            most = self._largest_upload // 2**20
            raise Refused(413, f"More than {most} MB are not taken at once; send smaller pictures.")
        if not headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise Refused(415, "An upload must be a form with files.")
        if self._uploads >= MOST_UPLOADS or session.uploads >= MOST_UPLOADS_EACH:
            raise Refused(429, "Too many uploads are under way; wait until they are done.")
        self._uploads, session.uploads = self._uploads + 1, session.uploads + 1
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                return await received(session, scope, receive)
        except TimeoutError as error:
            raise Refused(408, "The upload took too long; try again.") from error
        finally:
            self._uploads, session.uploads = self._uploads - 1, session.uploads - 1

    async def _event(self, session: Session, asked: dict[str, Any]) -> dict[str, Any]:
        """What is let through of a click: only an event of the page's, and no file that is not the session's.

        Raises:
          Refused: it is none.
        """
        event, data, tab = asked.get("fn_index"), asked.get("data"), asked.get("session_hash")
        wanted = self._memory.arguments(event) if isinstance(event, int) and is_index(event) else None
        trigger = asked.get("trigger_id")
        if wanted is None or not isinstance(data, list) or len(data) != wanted:
            raise Refused(400, NO_EVENT)
        if trigger is not None and not is_index(trigger):
            raise Refused(400, NO_EVENT)
        if not all(self._sessions.readable(session, path) for path in paths_in([data, asked.get("event_data")])):
            raise Refused(403, "This event names a file that is not yours, or not there any more; reload the page.")
        await self._claim(session, tab)
        if (self._memory.unread(str(tab)) or 0) >= MOST_UNREAD:
            raise Refused(429, "Too many clicks are not answered yet; wait, or reload the page.")
        return {"fn_index": event, "data": data, "session_hash": tab, "trigger_id": trigger,
                "event_data": asked.get("event_data")}  # fmt: skip


TAB = re.compile(r"[\w-]{1,64}", re.ASCII)


def is_index(value: Any) -> bool:
    """Whether a value out of JSON counts something."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


async def received(session: Session, scope: Any, receive: Any) -> list[str]:
    """The files of a form, in the session's folder.

    Raises:
      Refused: it is cut off, is no form, has no files or too many, or there is no room.
    """
    from starlette.concurrency import run_in_threadpool
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException
    from starlette.requests import ClientDisconnect, Request

    try:
        form = await Request(scope, receive).form(max_files=MOST_FILES, max_fields=4, max_part_size=10_000)
    except ClientDisconnect as error:
        raise Refused(400, "The upload was cut off.") from error
    except Exception as error:  # Starlette's HTTPException, and what its parser raises on nonsense
        reason = error.message if isinstance(error, MultiPartException) else getattr(error, "detail", "broken")
        raise Refused(400, f"The upload was not understood ({reason}).") from error
    try:
        files = [file for file in form.getlist("files") if isinstance(file, UploadFile)]
        if not files:
            raise Refused(400, "The upload has no files.")
        return await run_in_threadpool(keep, session, files)
    except UserError as error:
        raise Refused(403 if session.ended else 507, str(error)) from error
    except OSError as error:
        raise Refused(507, "The disk is full.") from error
    finally:
        await form.close()


async def read_json(receive: Any, most: int) -> dict[str, Any]:
    """A request's body as a JSON object that can be written again.

    Raises:
      Refused: it is larger than ``most`` bytes, is none, or names numbers or letters that are none.
    """
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "The request was cut off.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            raise Refused(413, "That is more than a click may send.")

    def whole(text: str) -> int:
        if len(text) > 16:  # more than JavaScript counts to
            raise ValueError("too large a number")
        return int(text)

    try:
        asked = json.loads(body, parse_int=whole)
        json.dumps(asked, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refused(400, NO_EVENT) from error
    if not isinstance(asked, dict):
        raise Refused(400, NO_EVENT)
    return asked


def as_if_sent(scope: Any, receive: Any, content: Any) -> tuple[Any, Any]:
    """The scope and ``receive`` of a request that was read already, as if its body were this JSON."""
    body = json.dumps(content).encode()
    kept = [pair for pair in scope["headers"] if pair[0].lower() not in (b"content-type", b"content-length")]
    sent = [*kept, (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    given = False

    async def again() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return {**scope, "headers": sent, "query_string": b""}, again


def headers_of(scope: Any) -> dict[str, str]:
    """A request's headers by name in small letters; of several the last one."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def called_as(scope: Any, address: PublicAddress) -> Any:
    """A request as the browser made it, whatever proxy it came through.

    Its host is the one that the browser named, its scheme what it used, its path without what a proxy put before it.

    Raises:
      Refused: the name is not one by which the page may be called.
    """
    headers = headers_of(scope)
    forwarded, scheme = (headers.get(f"x-forwarded-{name}", "").partition(",")[0].strip() for name in ("host", "proto"))
    names = [headers.get("host", ""), *([forwarded] if forwarded else [])]
    called = [host_of(name) for name in names]
    if None in called:
        raise Refused(400, "The request names no host.")
    if address.hosts is not None and not address.hosts.issuperset(called):
        raise Refused(421, "This page is not known by that name.")
    path = scope["path"]
    if address.root and path.startswith(address.root + "/"):
        path = path.removeprefix(address.root)
    kept = [
        (name, value)
        for name, value in scope["headers"]
        if name.lower() != b"host"
        and not name.lower().startswith((b"x-forwarded-", b"x-gradio-"))
        # One stretch of a file is enough; answers to thousands of them would be large.
        and not (name.lower() == b"range" and b"," in value)
    ]
    host = (b"host", names[-1].encode("latin-1"))
    scheme = "https" if scheme.lower() == "https" else "http"
    return {**scope, "headers": [host, *kept], "path": path, "scheme": scheme}


HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)


def host_of(header: str) -> str | None:
    """The name, in small letters, in a Host header; None where it is none."""
    found = HOST.fullmatch(header)
    if found is None:
        return None
    name = found[1].lower()
    if not name.startswith("["):
        return name
    try:
        return str(ipaddress.IPv6Address(name[1:-1]))
    except ValueError:
        return None


class Reply:
    """ASGI's ``send`` of one request, which knows whether the answer has started and logs what was refused."""

    def __init__(self, scope: Any, send: Any) -> None:
        self._what = f"{scope['method']} {scope['path']}"
        self._send, self._started = send, False

    async def __call__(self, message: Any) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            if message["status"] >= 400 and not self._started:
                _log.warning("%d %s", message["status"], self._what)
            self._started = True
        await self._send(message)

    async def refuse(self, status: int, sentence: str, logged: bool = False) -> None:
        """Answer with a sentence, where gradio's page looks for one, unless an answer has started."""
        if not logged:
            _log.warning("%d %s: %s", status, self._what, sentence)
        if not self._started:
            self._started = True
            await answer(self._send, status, {"detail": sentence, "error": sentence})


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
    """The session's secret out of a Cookie header; other sites of this host may have put anything beside it."""
    pairs = (pair.partition("=") for pair in header.split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}.get(COOKIE)


def with_cookie(send: Any, token: str, root: str, secure: bool) -> Any:
    """A ``send`` that gives the browser its secret with the answer, for the page below a path only."""

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            given = f"{COOKIE}={token}; Path={root}/; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")
            message = {**message, "headers": [*message["headers"], (b"set-cookie", given.encode())]}
        await send(message)

    return sending


async def answer(
    send: Any, status: int, content: Any, kind: bytes = b"application/json", location: str | None = None
) -> None:
    """Answer with JSON, or with bytes of another kind, or by sending the browser to another place."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    headers += [] if location is None else [(b"location", location.encode("latin-1"))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
