"""Where the package's log lines go when it runs as a program: each plainly on a line of its own."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import TextIO

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
