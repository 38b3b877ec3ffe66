"""What a terminal shows of a job: a progress bar, or a log line now and then; the seconds of
its stages; the log handler of the commands.
"""

import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from simswap_jax.io.atomic import write_text

logger = logging.getLogger(__name__)

Sink = Callable[[str], None]


def to_terminal(line: str) -> None:
    """Print a line of progress to standard error."""
    print(line, file=sys.stderr, flush=True)


class Progress:
    """Counts what is done and shows how many, how fast, and how long the rest takes.

    In a terminal it is a bar (tqdm's). Elsewhere it is a line of the log after some seconds; the pauses grow to a
    twentieth of the time passed, so that a job of a day does not fill its log.
    """

    def __init__(self, total: int, what: str, sink: Sink | None = None, first: float = 2.0) -> None:
        """Args:
        total: how many there are.
        what: what is counted, e.g. ``"images"``.
        sink: is given each line in place of bar and log.
        first: seconds before the first line.
        """
        self.total, self.what, self.first = total, what, first
        self.done = 0
        self.started = time.monotonic()
        self.due = self.started + first
        self._say = sink or logger.info
        self._bar: Any = None if sink or not sys.stderr.isatty() else self._new_bar()

    def _new_bar(self) -> Any:
        from tqdm import tqdm

        return tqdm(total=self.total, desc=self.what, unit="", unit_scale=True, leave=False, dynamic_ncols=True)

    def add(self, count: int = 1) -> None:
        """Count some more as done; show it when that is due."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
            if self.done >= self.total:
                self.close()
            return
        now = time.monotonic()
        if now >= self.due and self.done < self.total:
            self._say(self.line(now - self.started))
            self.due = now + max(self.first, 0.05 * (now - self.started))

    def close(self) -> None:
        """Remove the bar. A progress that reaches its total closes itself."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def line(self, seconds: float) -> str:
        """E.g. ``1,200 of 24,000 images, 5,021/s, 0:05 left``; below ten a second with a digit more."""
        rate = self.done / max(seconds, 1e-9)
        left = (self.total - self.done) / max(rate, 1e-9)
        speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        return f"{self.done:,} of {self.total:,} {self.what}, {speed}/s, {format_duration(left)} left"


def format_duration(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


clock = format_duration


PACKAGE = logging.getLogger("simswap_jax")


class LineHandler(logging.Handler):
    """Writes each message as a line, above the progress bar if there is one."""

    def __init__(self, to_stderr: bool = False) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self._to_stderr = to_stderr

    @property
    def stream(self) -> TextIO:
        """Standard output or error as it is now, as ``print`` does."""
        return sys.stderr if self._to_stderr else sys.stdout

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        from tqdm import tqdm

        try:
            tqdm.write(self.format(record), file=self.stream)
            self.stream.flush()
        except Exception:
            self.handleError(record)


@contextlib.contextmanager
def log_lines(to_stderr: bool = False) -> Iterator[None]:
    """Write the package's log lines of level INFO and above to standard output, or error, within the block."""
    handler = LineHandler(to_stderr)
    before = PACKAGE.level, PACKAGE.propagate
    PACKAGE.addHandler(handler)
    PACKAGE.setLevel(logging.INFO)
    PACKAGE.propagate = False  # a library that configures the root logger must not say all twice
    try:
        yield
    finally:
        PACKAGE.removeHandler(handler)
        PACKAGE.setLevel(before[0])
        PACKAGE.propagate = before[1]


@dataclass(frozen=True)
class Row:
    """A line of a summary: what, its value, and how it is known."""

    what: str
    value: str
    how: str = ""


def table(rows: Sequence[Row]) -> str:
    """Lines in three columns."""
    first = max((len(row.what) for row in rows), default=0)
    second = max((len(row.value) for row in rows if row.how), default=0)
    return "\n".join(f"{r.what:<{first}}  {r.value:<{second}}  {r.how}".rstrip() for r in rows)


class Steps:
    """Says on stderr what is being done, and how long it took."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def say(self, what: str) -> None:
        """One step, with the seconds since the first."""
        to_terminal(f"{time.monotonic() - self.started:6.1f} s  {what}")


class StageTimer:
    """Seconds by stage, kept on disk, so that a job that was stopped and resumed still knows its whole time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self._seconds.values())

    @contextlib.contextmanager
    def stage(self, name: str, line: str, finished: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Log ``line`` and time what happens inside, unless it had been ``finished`` by an earlier call."""
        logger.info("%s", line)
        before = finished()
        started = time.monotonic()
        try:
            yield
        finally:
            if not before:
                self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - started
                write_text(self._path, json.dumps(self._seconds) + "\n")
