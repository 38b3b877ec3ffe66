"""The page's gate: a browser gets the page and its own files, and nothing else; uploads are limited and go away."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from simswap_jax.app import gate as module
from simswap_jax.app.gate import COOKIE, FILE, JOIN, MOST_FILES, UPLOAD, Gate, Sessions, cookie, harmless, paths_in
from simswap_jax.errors import UserError

LARGEST = 20_000


class Inside:
    """An application that takes everything and says what it was asked."""

    def __init__(self):
        self.asked = []

    async def __call__(self, scope, receive, send):
        body = (await receive()).get("body", b"")
        self.asked.append((scope["path"], body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inside"})


@pytest.fixture
def sessions(tmp_path):
    (tmp_path / "app").mkdir()
    return Sessions(tmp_path / "app")


@pytest.fixture
def gate(sessions):
    return Gate(Inside(), sessions, LARGEST, frozenset(["127.0.0.1"]))


def ask(gate, method, path, token=None, body=b"", **headers):
    """(status, headers, body) of a request."""
    given = {"host": "127.0.0.1:7860", "content-length": str(len(body)), **headers}
    if token:
        given["cookie"] = f"other=1; {COOKIE}={token}"
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
    }
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(gate(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


def enter(gate):
    status, headers, _ = ask(gate, "GET", "/")
    assert status == 200
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=Strict" in headers["set-cookie"]
    return cookie(headers["set-cookie"].split(";")[0])


def upload(gate, token, *files):
    parts = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n' % (name.encode(), content)
        for name, content in files
    )
    return ask(gate, "POST", UPLOAD, token, parts + b"--x--\r\n", content_type="multipart/form-data; boundary=x")


def event(path):
    return json.dumps({"data": [[{"path": str(path), "meta": {"_type": "gradio.FileData"}}]], "fn_index": 0}).encode()


def test_a_browser_is_known_by_its_cookie(gate, sessions):
    token = enter(gate)
    assert "set-cookie" not in ask(gate, "GET", "/", token)[1]
    assert "set-cookie" in ask(gate, "GET", "/", "forged")[1]
    assert sessions.find("forged") is None


def test_uploads_go_into_the_browsers_own_folder_under_harmless_names(gate, sessions):
    token = enter(gate)
    status, _, body = upload(gate, token, ("../../Ä b.png", b"one"), ("b.jpg", b"two"))
    assert status == 200
    first, second = json.loads(body)
    assert sessions.find(token).owns(first)
    assert sessions.find(token).owns(second)
    assert first.endswith("/Ä b.png")
    assert [Path(path).read_bytes() for path in (first, second)] == [b"one", b"two"]
    assert ask(gate, "GET", FILE + first, token)[0] == 200


def test_two_browsers_do_not_see_each_others_files(gate):
    ours, theirs = enter(gate), enter(gate)
    mine = json.loads(upload(gate, ours, ("a.png", b"secret"))[2])[0]
    same = json.loads(upload(gate, theirs, ("a.png", b"secret"))[2])[0]
    assert mine != same  # also where the content is the same
    for token in (theirs, None, "forged"):
        status, _, body = ask(gate, "GET", FILE + mine, token)
        assert status == 403
        assert b"not yours" in body
    assert ask(gate, "POST", JOIN, ours, event(mine))[0] == 200
    assert ask(gate, "POST", JOIN, theirs, event(mine))[0] == 403


@pytest.mark.parametrize("name", ["{outside}", "{mine}/../../../{outside}", "{mine}/../../../../outside.txt",
                                  "outside.txt", "../outside.txt", "/etc/passwd", "http://example.org/x", "file:///etc/passwd",
                                  "", "{mine}\0", "{root}", "{folder}", "{link}"])  # fmt: skip
def test_nothing_outside_the_folder_can_be_read_or_named(gate, sessions, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outside.txt").write_text("secret")
    token = enter(gate)
    mine = json.loads(upload(gate, token, ("a.png", b"mine"))[2])[0]
    folder = sessions.find(token).folder
    (folder / "link").symlink_to(tmp_path / "outside.txt")
    wanted = name.format(
        mine=mine, outside=tmp_path / "outside.txt", root=sessions.root, folder=folder, link=folder / "link"
    )
    gate._inside.asked.clear()
    assert ask(gate, "GET", FILE + wanted, token)[0] == 403
    assert ask(gate, "POST", JOIN, token, event(wanted))[0] == 403
    assert gate._inside.asked == []
    assert ask(gate, "POST", JOIN, token, event(mine))[0] == 200
    assert gate._inside.asked == [(JOIN, event(mine))]


def test_only_the_routes_that_the_page_needs_are_there(gate):
    token = enter(gate)
    for path in ("/gradio_api/proxy=http://a.b", "/file=x", "/gradio_api/call/x", "/gradio_api/run/x", "/monitoring",
                 "/gradio_api/deep_link", "/gradio_api/component_server", "/docs", "/login"):  # fmt: skip
        assert ask(gate, "GET", path, token)[0] == 404
        assert ask(gate, "POST", path, token)[0] == 404
    assert ask(gate, "POST", JOIN, None, b"{}")[0] == 403  # another site's page has no cookie to send
    assert ask(gate, "GET", "/assets/a.js")[0] == 200
    assert ask(gate, "GET", "/", host="evil.example")[0] == 421


def test_everybody_may_see_the_examples(gate, sessions):
    path = sessions.examples / "face.png"
    path.write_bytes(b"drawn")
    assert ask(gate, "GET", FILE + str(path))[0] == 200


def test_uploads_are_limited(gate, sessions, monkeypatch):
    token = enter(gate)
    status, _, body = upload(gate, token, ("a.png", bytes(LARGEST)))
    assert (status, b"More than 0 MB" in body) == (413, True)
    assert ask(gate, "POST", UPLOAD, token, b"", content_length="", content_type="multipart/form-data")[0] == 411
    assert upload(gate, token, *[("a.png", b"x")] * (MOST_FILES + 1))[0] == 400
    assert ask(gate, "POST", UPLOAD, token, b"nonsense", content_type="multipart/form-data; boundary=x")[0] == 400
    assert upload(gate, None, ("a.png", b"x"))[0] == 403
    assert sessions.find(token).size() == 0
    monkeypatch.setattr(module, "QUOTA", 5)
    assert upload(gate, token, ("a.png", b"123456"))[0] == 200
    status, _, body = upload(gate, token, ("a.png", b"x"))
    assert (status, b"your files take more" in body) == (507, True)
    with pytest.raises(UserError, match="your files take more"):
        sessions.find(token).place("result.png")


def test_an_event_that_is_none_is_refused(gate):
    token = enter(gate)
    for body in (b"no json", b"[" * 100_000, bytes(2_100_000)):
        assert ask(gate, "POST", JOIN, token, body)[0] in (400, 413)


def test_paths_are_found_wherever_they_stand():
    value = {"data": [{"a": {"path": "one", "b": [{"path": {"path": "two"}}]}}, "path", None]}
    assert list(paths_in(value)) == ["one", "{'path': 'two'}", "two"]


def test_files_go_when_they_are_not_used(tmp_path, monkeypatch):
    sessions = Sessions(tmp_path, lifetime=100, most=2)
    first, second = sessions.begin(), sessions.begin()
    folder = sessions.find(first).folder
    sessions.find(first).place("a.png").write_bytes(b"x")
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 60)
    assert sessions.find(second)
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 120)
    assert sessions.sweep() == 1
    assert not folder.exists()
    assert sessions.find(first) is None
    assert sessions.find(second)
    with sessions.working(sessions.find(second)):  # a long job
        monkeypatch.setattr(module.time, "monotonic", lambda: now + 1000)
        assert sessions.sweep() == 0
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 1090)
    assert sessions.sweep() == 0  # it was used until the job ended
    sessions.begin()  # one more than there may be: the quietest goes
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 1095)
    sessions.begin()
    assert sessions.find(second) is None
    sessions.close()
    assert not tmp_path.exists()


@pytest.mark.parametrize(
    "name, kept",
    [("a.png", "a.png"), ("../../x", "x"), ("C:\\a\\b.jpg", "b.jpg"), ("..", "file"), ("", "file"),
     ("a\0<b>.png", "a__b_.png"), (".hidden", "hidden"), ("x" * 300 + ".jpeg", "x" * 80 + ".jpeg")],
)  # fmt: skip
def test_names_are_harmless(name, kept):
    assert harmless(name) == kept
