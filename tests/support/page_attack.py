"""Broken requests for the page, by raw sockets: what a scanner, a cut line or somebody curious sends.

python tests/support/page_attack.py ADDRESS SEED COUNT → one line of JSON: how many answers of each status.
"""

import json
import random
import re
import socket
import sys
from collections import Counter
from urllib.parse import urlsplit

SECONDS = 20.0  # to wait for an answer
HASH = "abcdefghij"
JOIN, UPLOAD, FILE = "/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/file="
HOSTS = ("[::1", "[zz]:80", "[", "]", "::1", "evil.example", "", "a" * 5000, "127.0.0.1:x", "[v1.x]", "\xff\xfe", "a b")
VALUES = (
    None,
    True,
    -1,
    0,
    1e400,
    10**40,
    "x",
    "",
    "\ud800",
    [],
    {},
    [[]],
    [None],
    ["a"],
    {"path": 1},
    {"path": "/etc/passwd"},
    {"path": ""},
    [{"path": None}],
    {"index": "x"},
    {"index": [1]},
    {"index": [1e9, -1]},
    {"__type__": "update"},
    "a" * 9000,
)
KINDS = (
    "host",
    "upload",
    "field",
    "length",
    "event",
    "event",
    "event",
    "file",
    "garbage",
    "target",
    "cookie",
    "picture",
    "query",
    "mutant",
)
TARGETS = (
    "/",
    "/config",
    JOIN,
    UPLOAD,
    FILE,
    "/gradio_api/queue/data",
    "/gradio_api/heartbeat/",
    "/gradio_api/info",
    "/gradio_api/cancel",
    "/gradio_api/reset",
    "/gradio_api/upload_progress",
    "/static/",
    "/assets/",
    "/theme.css",
    "/gradio_api/startup-events",
    "/gradio_api/app_id",
    "/svelte/",
    "/nowhere",
    "*",
    "http://evil.example/",
)


def message(method, path, headers, body=b"", length=None):
    """The bytes of a request."""
    given = {"Host": "127.0.0.1", "Connection": "close", **headers}
    if body or length is not None:
        given["Content-Length"] = str(len(body) if length is None else length)
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value is not None)]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


def form(dice, name, content, file=True):
    """A multipart body with one field."""
    what = f'form-data; name="{name}"' + (f'; filename="{dice.choice(["a.png", "", "../x", "b.mp4"])}"' if file else "")
    return f"--x\r\nContent-Disposition: {what}\r\n\r\n".encode() + content + b"\r\n--x--\r\n"


def mutated(dice, data):
    """The bytes with a few of them changed, removed or doubled."""
    data = bytearray(data)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(data) + 1)
        data[at : at + dice.randint(0, 4)] = dice.randbytes(dice.randint(0, 6))
    return bytes(data)


def value(dice, depth=0):
    """Any JSON value."""
    if depth < 2 and dice.random() < 0.3:
        return {dice.choice(["path", "index", "data", "x"]): value(dice, depth + 1) for _ in range(dice.randint(0, 3))}
    return dice.choice(VALUES)


def event(dice, own, events):
    """A click that the page never sends; most have as many values as an event takes."""
    number = dice.choice(list(events))
    count = events[number] if dice.random() < 0.8 else dice.randint(0, 9)
    asked = {
        "data": [value(dice) for _ in range(count)],
        "fn_index": number if dice.random() < 0.9 else dice.randrange(20),
        "session_hash": HASH + str(dice.randrange(40)),
        "trigger_id": dice.randrange(40),
        "event_data": value(dice),
    }
    if own and dice.random() < 0.5:
        file = {"path": own, "meta": {"_type": "gradio.FileData"}}
        asked["data"] = [dice.choice([file, [file], None, True, 0.5, ["its mouth"], "soft edge"]) for _ in range(count)]
    for _ in range(dice.choice([0, 0, 0, 1, 3])):
        asked[dice.choice([*asked, "batched", "simple_format", "event_id", "x", "request"])] = value(dice)
    if dice.random() < 0.1:
        asked.pop(dice.choice(list(asked)))
    body = json.dumps(asked).encode()
    return mutated(dice, body) if dice.random() < 0.1 else body


def requests(dice, cookie, own, events):
    """One broken request: its bytes, and whether the line is cut after them."""
    known = {"Cookie": f"simswap_session={cookie}"}
    kind = dice.choice(KINDS)
    multipart = {"Content-Type": "multipart/form-data; boundary=x", **known}
    match kind:
        case "host":
            host = {"Host": dice.choice(HOSTS), **known}
            return message(dice.choice(["GET", "POST"]), dice.choice(TARGETS), host), False
        case "upload":  # cut off
            body = form(dice, "files", dice.randbytes(300))
            return message("POST", UPLOAD, multipart, body[: dice.randrange(1, len(body))], len(body)), True
        case "field":
            body = form(dice, dice.choice(["files", "file", "", "a" * 3000, "files[]"]), b"text", dice.random() < 0.3)
            return message("POST", UPLOAD, multipart, body), False
        case "length":
            length = dice.choice(["-1", "x", "1e3", "", "99999999999999999999", " 5", "5, 6", "0x10"])
            return message("POST", UPLOAD, multipart, b"hello", length), True
        case "event":
            return message("POST", JOIN, {"Content-Type": "application/json", **known}, event(dice, own, events)), False
        case "file":
            name = dice.choice([own, "/etc/passwd", "%00", "%ff%fe", "a" * 9000, "%2e%2e/", "%ud800", ""])
            reach = dice.choice(["bytes=x-", "bytes=9-1", "bytes=0-1,2-3", "bytes=" + "0-0," * 2000, "bytes=-", "x"])
            return message(dice.choice(["GET", "HEAD", "PUT"]), FILE + name, {"Range": reach, **known}), False
        case "garbage":
            return dice.randbytes(dice.randint(1, 400)) + b"\r\n\r\n", True
        case "target":
            body = json.dumps(value(dice)).encode()
            return message(
                dice.choice(["POST", "PUT", "DELETE", "GET", "OPTIONS", "FOO"]),
                dice.choice(TARGETS),
                {"Content-Type": dice.choice(["application/json", "text/plain", "x"]), **known},
                body,
            ), False
        case "cookie":
            odd = dice.choice(["simswap_session=", "simswap_session=\xff", "=;=;", 'a="', "a" * 9000, "; " * 400])
            return message("GET", dice.choice(TARGETS), {"Cookie": odd}), False
        case "picture":
            body = form(dice, "files", b"\x89PNG\r\n" + dice.randbytes(200))
            return message("POST", UPLOAD, multipart, body), False
        case "query":
            path = dice.choice(
                [
                    "/gradio_api/queue/data",
                    "/gradio_api/queue/data?session_hash=",
                    "/config?x=%ff",
                    "/gradio_api/queue/data?session_hash=zzz",
                    f"/gradio_api/queue/data?session_hash={HASH}{dice.randrange(40)}",
                    "/gradio_api/info?serialize=maybe",
                    "/?deep_link=../../etc",
                    "/?page=" + "x" * 3000,
                    "/gradio_api/reset?x",
                ]
            )
            return message("GET", path, known), False
        case _:
            return mutated(dice, message("POST", JOIN, known, event(dice, own, events))), True


def ask(address, data, cut=False):
    """The answer to bytes; empty where the server closes without one. A stream is left when its first part is here.

    Raises TimeoutError where the server neither answers to the end nor closes.
    """
    with socket.create_connection(address, timeout=SECONDS) as line:
        line.sendall(data)
        if cut:
            line.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while part := line.recv(65_536):
                answer += part
                if b"text/event-stream" in answer[:2000] or len(answer) > 1_000_000:
                    break
        except ConnectionError:
            pass
        return answer


def enter(address):
    """A session's secret."""
    return re.search(rb"simswap_session=([\w-]+)", ask(address, message("GET", "/", {})))[1].decode()


def attack(where, seed, count):
    """Send broken requests; how many answers there were of each status, "" for a closed line, "hung" for none."""
    dice = random.Random(seed)
    parts = urlsplit(where)
    address = (parts.hostname, parts.port)
    cookie = enter(address)
    config = json.loads(ask(address, message("GET", "/config", {})).partition(b"\r\n\r\n")[2])
    events = {each["id"]: len(each["inputs"]) for each in config["dependencies"]}
    multipart = {"Content-Type": "multipart/form-data; boundary=x", "Cookie": f"simswap_session={cookie}"}
    said = ask(address, message("POST", UPLOAD, multipart, form(dice, "files", b"no picture")))
    own = json.loads(said.partition(b"\r\n\r\n")[2])[0] if b" 200 " in said[:20] else ""
    found: Counter[str] = Counter()
    for _ in range(count):
        data, cut = requests(dice, cookie, own, events)
        try:
            found[ask(address, data, cut)[9:12].decode("latin-1")] += 1
        except TimeoutError:
            found["hung"] += 1
        except ConnectionError:
            found[""] += 1
    return found


if __name__ == "__main__":
    print(json.dumps(attack(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
