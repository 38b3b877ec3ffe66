"""The page's gate: a browser gets the page and its own files, and nothing else; uploads are limited and go away."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from simswap_jax.app import gate as gate_module
from simswap_jax.app import sessions as module
from simswap_jax.app.gate import (
    CANCEL,
    COOKIE,
    FILE,
    HEARTBEAT,
    JOIN,
    MOST_FILES,
    RESET,
    STREAM,
    UPLOAD,
    Gate,
    PublicAddress,
    cookie,
    host_of,
    paths_in,
)
from simswap_jax.app.sessions import TABS, Sessions, harmless
from simswap_jax.errors import UserError
from tests.support.errors import raises_user_error

LARGEST = 20_000


class Inside:
    """An application that takes everything and says what it was asked."""

    def __init__(self):
        self.asked, self.scopes = [], []

    async def __call__(self, scope, receive, send):
        body = (await receive()).get("body", b"")
        self.scopes.append(scope)
        self.asked.append((scope["path"], body))
        if body == b"raise" or b"raise=" in scope["query_string"]:
            raise KeyError("broken inside")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inside"})


class Kept:
    """The page's answers to tabs: one event, 0, that takes one value."""

    def __init__(self):
        self.waiting, self.forgotten = {}, []

    def arguments(self, event):
        return {0: 1}.get(event)

    def unread(self, tab):
        return self.waiting.get(tab)

    async def forget(self, tab):
        self.forgotten.append(tab)


@pytest.fixture
def sessions(tmp_path):
    (tmp_path / "app").mkdir()
    return Sessions(tmp_path / "app")


@pytest.fixture
def gate(sessions):
    return Gate(Inside(), sessions, LARGEST, PublicAddress(frozenset(["127.0.0.1", "faces.example"])), Kept())


def ask(gate, method, path, token=None, body=b"", cut=False, **headers):
    """(status, headers, body) of a request; ``cut``: the line breaks before its end."""
    given = {"host": "127.0.0.1:7860", "content-length": str(len(body)), **headers}
    if token:
        given["cookie"] = f"other=1; {COOKIE}={token}"
    scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path.partition("?")[0],
        "query_string": path.partition("?")[2].encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
    }
    sent = []
    parts = iter([{"type": "http.request", "body": body, "more_body": True}] if cut else [])

    async def receive():
        if cut:
            return next(parts, {"type": "http.disconnect"})
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


def event(path=None, **other):
    data = [None] if path is None else [[{"path": str(path), "meta": {"_type": "gradio.FileData"}}]]
    return json.dumps({"data": data, "fn_index": 0, "session_hash": "tab", **other}).encode()


def test_a_browser_is_known_by_its_cookie(gate, sessions):
    token = enter(gate)
    assert "set-cookie" not in ask(gate, "GET", "/", token)[1]
    assert "set-cookie" in ask(gate, "GET", "/", "forged")[1]
    assert sessions.find("forged") is None


@pytest.mark.parametrize("others", ['g_state={"i_l":0}; ', "a b=\x01; =; ;", '"; '])
def test_a_cookie_of_another_page_hides_nothing(others):
    assert cookie(f"{others}{COOKIE}=secret; last=1") == "secret"
    assert cookie(f"{others}last=1") is None


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
    for stretch, kept in (("bytes=0-1", True), ("bytes=0-0,1-1,0-0", False)):  # many would make the answer large
        assert ask(gate, "GET", FILE + first, token, range=stretch)[0] == 200
        assert (b"range" in dict(gate._inside.scopes[-1]["headers"])) == kept


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
    assert ask(gate, "POST", JOIN, theirs, event(mine, session_hash="theirs"))[0] == 403
    assert ask(gate, "POST", JOIN, theirs, event())[0] == 403  # the first one's tab
    gate._memory.waiting = {"tab": 1}
    assert [ask(gate, "GET", f"{STREAM}?session_hash=tab", token)[0] for token in (ours, theirs)] == [200, 404]


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
    [(path, body)] = gate._inside.asked
    assert (path, json.loads(body)["data"]) == (JOIN, json.loads(event(mine))["data"])


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


NO_EVENTS = [b"no json", b"[" * 100_000, b"[]", b"{}", event(fn_index=7), event(fn_index=True), event(fn_index="0"),
             event(data=[]), event(data=[1, 2]), event(data={}), event(session_hash=None), event(session_hash="a b"),
             event(session_hash="x" * 65), event(trigger_id="x"), event(data=[float("nan")]), event(data=[1e999]),
             event(data=[10**40]), event(data=["\ud800"]), bytes(2_100_000)]  # fmt: skip


@pytest.mark.parametrize("body", NO_EVENTS, ids=range(len(NO_EVENTS)))
def test_an_event_that_is_none_is_refused(gate, body):
    token = enter(gate)
    gate._inside.asked.clear()
    assert ask(gate, "POST", JOIN, token, body)[0] in (400, 413)
    assert gate._inside.asked == []


def test_of_an_event_only_what_the_page_sends_gets_through(gate):
    token = enter(gate)
    sent = event(batched=True, simple_format=True, event_id="x", trigger_id=3, event_data={"index": 1}, x=1)
    assert ask(gate, "POST", JOIN, token, sent, content_type="text/plain")[0] == 200
    got = json.loads(gate._inside.asked[-1][1])
    assert got == {
        "fn_index": 0, "data": [None], "session_hash": "tab", "trigger_id": 3, "event_data": {"index": 1}
    }  # fmt: skip
    assert dict(gate._inside.scopes[-1]["headers"])[b"content-type"] == b"application/json"
    asked = {"session_hash": "tab", "fn_index": 0, "event_id": "e"}
    for wrong in ({}, {**asked, "session_hash": []}, {**asked, "session_hash": "other"}, {**asked, "event_id": 1}):
        assert ask(gate, "POST", CANCEL, token, json.dumps(wrong).encode())[0] == 400
    assert ask(gate, "POST", CANCEL, token, json.dumps(asked).encode())[0] == 200
    asked_before = len(gate._inside.asked)
    assert ask(gate, "POST", RESET, token, b"{}")[0] == 200
    assert len(gate._inside.asked) == asked_before  # answered here


def test_nothing_that_waits_for_a_tab_grows_without_bound(gate, sessions, monkeypatch):
    token = enter(gate)
    for number in range(TABS + 3):
        assert ask(gate, "POST", JOIN, token, event(session_hash=f"tab{number}"))[0] == 200
    assert ask(gate, "GET", f"{HEARTBEAT}more", token)[0] == 200
    assert gate._memory.forgotten == ["tab0", "tab1", "tab2", "tab3"]
    assert len(sessions.find(token).tabs) == len(sessions.all_tabs()) == TABS
    monkeypatch.setattr(gate_module, "MOST_UNREAD", 5)
    gate._memory.waiting = {"tab9": 4}
    assert ask(gate, "POST", JOIN, token, event(session_hash="tab9"))[0] == 200
    gate._memory.waiting = {"tab9": 5}
    assert ask(gate, "POST", JOIN, token, event(session_hash="tab9"))[0] == 429
    sessions.find(token).uploads = gate_module.MOST_UPLOADS_EACH
    assert upload(gate, token, ("a.png", b"x"))[0] == 429


@pytest.mark.parametrize(
    "host, status",
    [("[::1", 400), ("[zz]:80", 400), ("[1:2]", 400), ("", 400), ("a b", 400), ("127.0.0.1:x", 400), ("\xff", 400),
     ("evil.example", 421), ("[::1]", 421), ("FACES.example:443", 200), ("127.0.0.1", 200)],
)  # fmt: skip
def test_a_host_is_known_or_the_request_refused(gate, host, status):
    assert ask(gate, "GET", "/", host=host.encode("latin-1").decode("latin-1"))[0] == status


def test_hosts_are_read_as_browsers_write_them():
    assert [host_of(name) for name in ("[::0001]:80", "Box", "a_b.c:1")] == ["::1", "box", "a_b.c"]


def test_broken_uploads_are_refused_and_leave_nothing(gate, sessions):
    token = enter(gate)
    field = b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\ntext\r\n--x--\r\n'
    kind = {"content_type": "multipart/form-data; boundary=x"}
    assert ask(gate, "POST", UPLOAD, token, field, **kind)[0] == 400  # a field of the name, no file
    assert ask(gate, "POST", UPLOAD, token, field.replace(b"text", bytes(15_000)), **kind)[0] == 400
    assert ask(gate, "POST", UPLOAD, token, field[:60], cut=True, **kind)[0] == 400
    assert ask(gate, "POST", UPLOAD, token, b"a=b", content_type="application/x-www-form-urlencoded")[0] == 415
    assert ask(gate, "POST", UPLOAD, token, field, content_type="multipart/form-data")[0] == 400
    assert sessions.find(token).size() == 0
    assert sessions.find(token).uploads == gate._uploads == 0


def test_every_refusal_is_one_line_and_an_error_inside_is_no_traceback_to_the_client(gate, caplog):
    token = enter(gate)
    assert ask(gate, "GET", f"{FILE}/etc/passwd", token)[0] == 403
    assert ask(gate, "GET", "/nowhere", token)[0] == 404
    assert [record.getMessage()[:3] for record in caplog.records] == ["403", "404"]
    gate._memory.waiting = {"tab": 1}
    ask(gate, "POST", JOIN, token, event())
    status, _, body = ask(gate, "GET", f"{STREAM}?session_hash=tab&raise=1", token)
    assert (status, b"broken inside" in body) == (500, False)
    assert len(caplog.records) == 3


def test_behind_a_proxy_below_a_path(sessions):
    address = PublicAddress(frozenset(["127.0.0.1", "faces.example"]), "/swap")
    gate = Gate(Inside(), sessions, LARGEST, address, Kept())
    status, headers, _ = ask(gate, "GET", "/swap")
    assert (status, headers["location"]) == (307, "/swap/")
    for path in ("/swap/", "/"):  # whether the proxy takes the path away or not
        status, headers, _ = ask(gate, "GET", path, x_forwarded_host="faces.example", x_forwarded_proto="https")
        assert status == 200
        assert "Path=/swap/;" in headers["set-cookie"]
        assert headers["set-cookie"].endswith("; Secure")
        scope = gate._inside.scopes[-1]
        assert (scope["path"], scope["scheme"]) == ("/", "https")
        assert [value for name, value in scope["headers"] if b"host" in name] == [b"faces.example"]
    assert "Secure" not in ask(gate, "GET", "/", host="faces.example")[1]["set-cookie"]
    token = cookie(headers["set-cookie"].split(";")[0])
    assert ask(gate, "GET", f"/swap{FILE}/etc/passwd", token)[0] == 403
    assert ask(gate, "POST", f"/swap{JOIN}", token, event())[0] == 200
    # A page of evil.example that points its name here can send this header, but not another Host.
    assert ask(gate, "GET", "/", host="evil.example", x_forwarded_host="faces.example")[0] == 421
    assert ask(gate, "GET", "/", x_forwarded_host="evil.example")[0] == 421


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
    third = sessions.begin()
    sessions.find(second).place("a.png").write_bytes(b"x")
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 1095)
    fourth = sessions.begin()  # one more than there may be: the quietest of those without files goes
    assert [bool(sessions.find(token)) for token in (second, third, fourth)] == [True, False, True]
    sessions.find(fourth).place("a.png").write_bytes(b"x")
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 1096)
    sessions.find(fourth)
    sessions.begin()
    assert [bool(sessions.find(token)) for token in (second, fourth)] == [False, True]
    sessions.close()
    assert not tmp_path.exists()


def test_a_browser_that_uploads_or_waits_for_an_answer_keeps_its_files(tmp_path, monkeypatch):
    sessions = Sessions(tmp_path, lifetime=0, most=1)
    receive_files, seen = gate_module.received, []

    def others_come():
        time_now = module.time.monotonic()
        with monkeypatch.context() as later:
            later.setattr(module.time, "monotonic", lambda: time_now + 1)
            seen.append((sessions.sweep(), sessions.begin()))

    class Answering(Inside):
        async def __call__(self, scope, receive, send):
            if scope["path"] == STREAM:
                others_come()
            await super().__call__(scope, receive, send)

    async def received(*arguments):
        others_come()
        return await receive_files(*arguments)

    monkeypatch.setattr(gate_module, "received", received)
    gate = Gate(Answering(), sessions, LARGEST, PublicAddress(), Kept())
    token = enter(gate)
    status, _, body = upload(gate, token, ("a.png", b"x"))
    assert status == 200
    gate._memory.waiting = {"tab": 1}
    ask(gate, "GET", f"{HEARTBEAT}tab", token)
    assert ask(gate, "GET", f"{STREAM}?session_hash=tab", token)[0] == 200
    assert len(seen) == 2
    assert Path(json.loads(body)[0]).is_file()
    session = sessions.find(token)
    assert not session.in_use


def test_a_session_that_has_ended_takes_no_more_files(tmp_path):
    sessions = Sessions(tmp_path, most=1)
    session = sessions.find(sessions.begin())
    session.place("a.png").write_bytes(b"x")
    sessions.begin()
    with raises_user_error("session-expired"):
        session.place("b.png")
    assert not session.folder.exists()


@pytest.mark.parametrize(
    "name, kept",
    [("a.png", "a.png"), ("../../x", "x"), ("C:\\a\\b.jpg", "b.jpg"), ("..", "file"), ("", "file"),
     ("a\0<b>.png", "a__b_.png"), (".hidden", "hidden"), ("x" * 300 + ".jpeg", "x" * 80 + ".jpeg")],
)  # fmt: skip
def test_names_are_harmless(name, kept):
    assert harmless(name) == kept
