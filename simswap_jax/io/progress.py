"""One line now and then that says how far a long job is."""

import sys
import time
from collections.abc import Callable

Sink = Callable[[str], None]


def to_terminal(line: str) -> None:
    """Print a line of progress to standard error."""
    print(line, file=sys.stderr, flush=True)


class Progress:
    """Counts things and says every few seconds how many are done, how fast, and how long the rest takes.

    The pauses grow to a twentieth of the time passed, so that a job of a day does not fill its log.
    """

    def __init__(self, total: int, what: str, sink: Sink | None, first: float = 2.0) -> None:
        """Args:
        total: how many there are.
        what: what is counted, e.g. ``"pictures"``.
        sink: is given each line; None is silent.
        first: seconds before the first line.
        """
        self.total, self.what, self.sink, self.first = total, what, sink, first
        self.done = 0
        self.started = time.monotonic()
        self.due = self.started + first

    def add(self, count: int = 1) -> None:
        """Count some more as done; say so when a line is due."""
        self.done += count
        now = time.monotonic()
        if self.sink is not None and now >= self.due and self.done < self.total:
            self.sink(self.line(now - self.started))
            self.due = now + max(self.first, 0.05 * (now - self.started))

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def line(self, seconds: float) -> str:
        """E.g. ``1,200 of 24,000 pictures, 5,021/s, 0:05 left``."""
        rate = self.done / max(seconds, 1e-9)
        left = (self.total - self.done) / max(rate, 1e-9)
        return f"{self.done:,} of {self.total:,} {self.what}, {rate:,.0f}/s, {clock(left)} left"


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
