"""What the page's server writes to its log: a few lines a minute, whatever its clients send."""

import logging
import os
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from simswap_jax.io.progress import PACKAGE

LINES, SECONDS = 10, 60.0  # the most lines in that time
LONGEST = 300  # characters of a line
DEEPEST = 60  # lines of a traceback


class RateLimit(logging.Filter):
    """Lets some records through in a while and counts the others; of each traceback the first one only.

    The record after those that were left out says how many there were.
    """

    def __init__(
        self,
        lines: int = LINES,
        seconds: float = SECONDS,
        always: tuple[str, ...] = (),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        lines: the most in a stretch of time.
        seconds: how long that is.
        always: names of loggers whose records are not counted.
        now: the clock, seconds.
        """
        super().__init__()
        self._lines, self._seconds, self._always, self._now = lines, seconds, always, now
        self._since, self._written, self._left_out = now(), 0, 0
        self._places: set[tuple[str, int]] = set()  # of tracebacks; no more than lines of code
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written; it is made one line, cut, and without what could steer a terminal."""
        if record.name in self._always:
            return True
        with self._lock:
            if self._now() - self._since >= self._seconds:
                self._since, self._written = self._now(), 0
            if self._written >= self._lines:
                self._left_out += 1
                return False
            self._written += 1
            left_out, self._left_out = self._left_out, 0
        said = record.getMessage()
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and self._is_new(error):
            record.exc_text = "\n".join(
                map(one_line, "".join(traceback.format_exception(error)).splitlines()[-DEEPEST:])
            )
        elif error is not None:
            said = f"{said} ({type(error).__name__}: {error}; as before)"
            record.exc_info = record.exc_text = None
        said = one_line(said)
        record.msg, record.args = (f"{said} ({left_out:,} lines before it left out)" if left_out else said), ()
        return True

    def _is_new(self, error: BaseException) -> bool:
        """Whether no error was logged that came from the same line of code."""
        last = traceback.extract_tb(error.__traceback__)[-1:]
        place = (last[0].filename, last[0].lineno or 0) if last else (type(error).__name__, 0)
        known = place in self._places
        self._places.add(place)
        return not known


def one_line(text: str) -> str:
    """A text that a client may have chosen, as it may stand in a log."""
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return "".join(letter if letter.isprintable() else "?" for letter in cut)


@contextmanager
def bounded_log(*always: str) -> Iterator[None]:
    """Within the block all loggers of the process share the package's handlers, and one `RateLimit`.

    What libraries print to standard error, those written in C too, is logged in the same way; Python's warnings are not
    printed. Their texts may be a client's.

    Args:
      always: names of loggers that are not limited.
    """
    # Without handlers of the package, logging itself writes to standard error: what is printed there stays there then.
    limit, root, handlers = RateLimit(always=always), logging.getLogger(), list(PACKAGE.handlers)
    for handler in handlers:
        handler.addFilter(limit)
        root.addHandler(handler)  # the package's own records do not get there: it does not propagate
    try:
        with warnings.catch_warnings(), printed_is_logged() if handlers else nullcontext():
            warnings.simplefilter("ignore", append=True)
            yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.removeFilter(limit)


STANDARD_ERROR = 2


@contextmanager
def printed_is_logged() -> Iterator[None]:
    """Within the block every line that is printed to standard error is a record of the log."""
    try:
        terminal = os.dup(STANDARD_ERROR)
    except OSError:  # there is none
        yield
        return
    printed, end = os.pipe()
    os.dup2(end, STANDARD_ERROR)
    os.close(end)
    reader = threading.Thread(target=log_what_is_printed, args=(printed,), daemon=True)
    reader.start()
    try:
        yield
    finally:
        os.dup2(terminal, STANDARD_ERROR)
        os.close(terminal)
        reader.join(timeout=2.0)  # a process that was started meanwhile may hold the other end


def log_what_is_printed(printed: int) -> None:
    """Log the lines that come out of a pipe until it is closed."""
    with open(printed, encoding="utf-8", errors="replace") as lines:
        while line := lines.readline(4096):
            if line.strip():
                logging.getLogger(__name__).warning("%s", line.rstrip())
