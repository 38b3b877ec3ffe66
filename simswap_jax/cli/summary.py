"""What verbs say of what they did: lines in three columns, and on stderr what they are doing."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from simswap_jax.io.progress import to_terminal


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
