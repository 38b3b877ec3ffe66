import io
import logging
import sys

from simswap_jax.io import progress
from simswap_jax.io.atomic import file_sha256, json_fingerprint
from simswap_jax.io.progress import PACKAGE, Progress, format_duration, log_lines


def test_a_line_now_and_then_where_there_is_no_terminal(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "simswap_jax")
    counter = Progress(4000, "images")
    for step in range(4000):
        now[0] = 0.1 * (step + 1)
        counter.add()
    lines = [record.message for record in caplog.records]
    assert lines[0] == "20 of 4,000 images, 10/s, 6:38 left"
    assert 20 < len(lines) < 80  # the pauses grow
    assert counter.seconds == 400.0


def test_a_bar_in_a_terminal(monkeypatch, caplog):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    caplog.set_level(logging.INFO, "simswap_jax")
    with Progress(3, "faces", first=0.0) as counter:
        for _ in range(3):
            counter.add()
    assert "faces" in terminal.getvalue()
    assert not caplog.records


def test_slow_work_has_a_digit_more():
    assert Progress(10, "images").line(1.0).startswith("0 of 10 images, 0/s")
    counter = Progress(10, "images")
    counter.done = 5
    assert counter.line(2.0) == "5 of 10 images, 2.5/s, 0:02 left"


def test_durations():
    assert [format_duration(seconds) for seconds in (0.4, 61, 3661)] == ["0:00", "1:01", "1:01:01"]


def test_log_lines_go_plainly_to_the_output_that_is_asked_for(capsys):
    logger = logging.getLogger("simswap_jax.anything")
    before = PACKAGE.level, PACKAGE.propagate
    with log_lines():
        logger.info("%d faces", 3)
    with log_lines(to_stderr=True):
        logger.warning("careful")
        logger.debug("details")
    logger.info("nobody hears this")
    assert capsys.readouterr() == ("3 faces\n", "careful\n")
    assert (PACKAGE.level, PACKAGE.propagate, PACKAGE.handlers) == (*before, [])


def test_fingerprints(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert json_fingerprint({"a": 1, "b": (2,)}) == json_fingerprint({"b": [2], "a": 1}) != json_fingerprint({"a": 1})
