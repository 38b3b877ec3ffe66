"""The log of the page's server: a few lines in a while, each short, each traceback once."""

import io
import logging
import os

from simswap_jax.app.log import LONGEST, RateLimit, bounded_log
from simswap_jax.io.progress import PACKAGE, log_lines

LOG = logging.getLogger("simswap_jax.app.gate")


def test_lines_are_limited_and_those_left_out_counted():
    now = [0.0]
    limit = RateLimit(lines=2, seconds=60, always=("its.own",), now=lambda: now[0])
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(limit)

    def say(text, name="other"):
        handler.handle(logging.LogRecord(name, logging.WARNING, "", 0, "%s", (text,), None))

    for number in range(1000):
        say(f"line {number}")
    say("an own line", "its.own")
    now[0] = 61.0
    say("x" * 5000 + "\n")
    say("a\nb\x1b[31m\N{RIGHT-TO-LEFT OVERRIDE}")
    assert stream.getvalue().splitlines() == [
        "line 0", "line 1", "an own line", "x" * LONGEST + "… (998 lines before it left out)", "a?b?[31m?",
    ]  # fmt: skip


def test_a_traceback_is_written_once(capsys):
    def fail(number):
        try:
            raise ValueError(f"theirs\x1b[31m {number}")
        except ValueError:
            LOG.exception("event %d", number)

    with log_lines(), bounded_log("simswap_jax.app.server"):
        for number in range(5):
            fail(number)
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
        for _ in range(100):
            logging.getLogger("python_multipart").warning("Skipping a byte")
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.count("Traceback") == 1
    lines = [line for line in said.out.splitlines() if line.startswith(("event", "Invalid", "Skipping"))]
    assert lines[1] == "event 1 (ValueError: theirs?[31m 1; as before)"
    assert "\x1b" not in said.out
    assert len(lines) == 10
    assert not PACKAGE.filters
    assert not [handler for handler in logging.getLogger().handlers if type(handler).__name__ == "LineHandler"]


def test_what_libraries_print_is_limited_too(capfd):
    with log_lines(), bounded_log():
        for number in range(1000):
            os.write(2, b"libpng warning: bad \x1b[31m chunk %d\n" % number)
    os.write(2, b"as ever\n")
    said = capfd.readouterr()
    assert said.err == "as ever\n"
    assert said.out.splitlines() == [f"libpng warning: bad ?[31m chunk {number}" for number in range(10)]
