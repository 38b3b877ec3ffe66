"""What a training says: its log lines, collected, or answered to while it runs."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Listener(logging.Handler):
    """Hands every line to a function."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__()
        self.hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        self.hear(record.getMessage())


@contextmanager
def listening(hear: Callable[[str], None]) -> Iterator[None]:
    """Hear the package's log lines, of level INFO and above, as they come."""
    logger, listener = logging.getLogger("simswap_jax"), Listener(hear)
    before = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.setLevel(before)


@contextmanager
def log_lines() -> Iterator[list[str]]:
    """The package's log lines."""
    lines: list[str] = []
    with listening(lines.append):
        yield lines
