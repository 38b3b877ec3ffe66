"""A stand-in for the Hugging Face Hub on this machine: repositories in memory, as much of its protocol as is used."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + 34 * "0"
REVISIONS = ("main", "v1", COMMIT)


class Hub(ThreadingHTTPServer):
    """Repository → file name → content. ``asked`` has every request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        """For HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    """What the Hub answers."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        """Nothing."""

    def answer(self, status: int, content: bytes, **headers: str) -> None:
        """Send one answer; of HEAD without its content."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def json(self, content: object) -> None:
        """Send JSON."""
        self.answer(200, json.dumps(content).encode(), Content_Type="application/json")

    def missing(self, code: str) -> None:
        """Say what is not there, as the Hub does."""
        self.answer(404, b"{}", X_Error_Code=code, X_Error_Message=code)

    def do_GET(self) -> None:
        """Files and lists of files."""
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        listing = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        found = file or listing
        if found is None or found[1] not in self.server.repositories:
            return self.missing("RepoNotFound")
        files = self.server.repositories[found[1]]
        revision = file[2] if file else listing[3] or "main"
        if revision not in REVISIONS:
            return self.missing("RevisionNotFound")
        if file and file[3] not in files:
            return self.missing("EntryNotFound")
        if file:
            content = files[file[3]]
            tag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self.answer(200, content, ETag=tag, X_Repo_Commit=COMMIT, Accept_Ranges="none")
        if listing[2] == "tree":
            return self.json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in files.items()
                ]
            )
        siblings = [{"rfilename": name} for name in files]
        return self.json({"id": found[1], "sha": COMMIT, "siblings": siblings, "private": False, "tags": []})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """New repositories and commits."""
        path = self.path.partition("?")[0]
        self.server.asked.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = "/".join(filter(None, [wanted.get("organization"), wanted["name"]]))
            self.server.repositories.setdefault(name, {})
            if wanted.get("private") or wanted.get("visibility") == "private":
                self.server.private.add(name)
            return self.json({"url": f"{self.server.address}/{name}", "name": name})
        if path == "/api/validate-yaml":
            return self.json({"errors": [], "warnings": []})
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path)
        if found is None:
            return self.missing("EntryNotFound")
        if found[2] == "preupload":
            files = json.loads(body)["files"]
            regular = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in files]
            return self.json({"files": regular})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.repositories[found[1]][line["value"]["path"]] = content
        return self.json({"commitUrl": f"{self.server.address}/{found[1]}/commit/{COMMIT}", "commitOid": COMMIT})


@contextmanager
def hub_here() -> Iterator[Hub]:
    """A stand-in that answers while the block runs."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
