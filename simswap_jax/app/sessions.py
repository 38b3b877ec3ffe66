"""Each browser's folder on this computer: what it uploaded and was given, until it is not used any more."""

import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simswap_jax.errors import UserError

LIFETIME = 3600.0  # seconds without a request after which a browser's files go
MOST = 64  # browsers at once; one more takes the place of the one that was quiet the longest
QUOTA = 1_000_000_000  # bytes that one browser may keep here
LONGEST_NAME = 80  # characters of an uploaded file's name that are kept
TABS = 16  # of one browser that are known at once
EXPIRED = "This page was not used for an hour, so its files are gone; reload it."


@dataclass
class Session:
    """One browser's folder.

    Attributes:
      folder: everything it uploaded and was given, once there is anything; its name is a secret of its own, not the
        cookie.
      used: when the last request came, by ``time.monotonic``.
      busy: how many jobs work on its files; until they end the folder stays.
      uploads: how many are under way.
      waiting: how many of its tabs wait for an answer now.
      ended: its files are removed, and no more are taken.
      tabs: gradio's names of the pages that it has open, the latest last.
      outcome: what the last job made, or the sentence why it made nothing; the page's, offered again after a reload.
    """

    folder: Path
    used: float
    busy: int = 0
    uploads: int = 0
    waiting: int = 0
    ended: bool = False
    tabs: dict[str, None] = field(default_factory=dict)
    outcome: Any = None

    @property
    def in_use(self) -> bool:
        """Whether something is under way that needs the folder, however long it takes."""
        return bool(self.busy or self.uploads or self.waiting)

    def owns(self, path: str | Path) -> bool:
        """Whether a path, followed through links and "..", lies in this folder."""
        return within(path, self.folder)

    def place(self, name: str) -> Path:
        """Where a new file of that name goes: alone in a folder below this one.

        Raises:
          UserError: there is no room left, or the session has ended.
        """
        if self.size() > QUOTA:
            raise UserError(
                f"your files take more than {QUOTA // 1_000_000} MB here; come back in an hour, or use smaller ones.",
                "quota-exceeded",
            )
        self.folder.mkdir(mode=0o700, exist_ok=True)
        folder = self.folder / secrets.token_urlsafe(9)
        folder.mkdir()
        if self.ended:  # looked at last: whoever ends a session removes what is there then
            remove([self])
            raise UserError(EXPIRED, "session-expired")
        return folder / harmless(name)

    def size(self) -> int:
        """Bytes in the folder."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


class Sessions:
    """All browsers' folders, below one that is removed at the end. For several threads."""

    def __init__(self, root: Path, lifetime: float = LIFETIME, most: int = MOST) -> None:
        self.root = root
        self.examples = root / "examples"  # drawn at the start; everybody may see them
        self.examples.mkdir()
        self._lifetime, self._most = lifetime, most
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()

    def begin(self) -> str:
        """A new session; returns the secret by which its browser is known.

        Where there are too many, one makes way: of those that have no files, if there are any, the quietest.
        """
        new = secrets.token_urlsafe(32)
        folder = self.root / secrets.token_urlsafe(16)
        with self._lock:
            quiet = sorted(
                (each.folder.exists(), each.used, token) for token, each in self._open.items() if not each.in_use
            )
            self._open[new] = Session(folder, time.monotonic())
            ended = self._taken_out([token for *_, token in quiet[: max(0, len(self._open) - self._most)]])
        remove(ended)
        return new

    def find(self, token: str | None) -> Session | None:
        """The session of a browser that shows its secret; None for a wrong one, or one that has ended."""
        with self._lock:
            session = self._open.get(token or "")
            if session is not None:
                session.used = time.monotonic()
            return session

    @contextmanager
    def working(self, session: Session) -> Iterator[None]:
        """While a job, which may take longer than a session is kept, works on a session's files."""
        with self._lock:
            session.busy += 1
        try:
            yield
        finally:
            with self._lock:
                session.busy -= 1
                session.used = time.monotonic()

    def claim(self, session: Session, tab: str) -> list[str] | None:
        """Note that a tab is a browser's own; returns the names of tabs that are too many, None if it is another's."""
        with self._lock:
            if any(tab in each.tabs for each in self._open.values() if each is not session):
                return None
            session.tabs.pop(tab, None)
            session.tabs[tab] = None
            old = list(session.tabs)[:-TABS]
            for name in old:
                del session.tabs[name]
            return old

    def all_tabs(self) -> set[str]:
        """The names of all tabs of all sessions that there are."""
        with self._lock:
            return {tab for session in self._open.values() for tab in session.tabs}

    def readable(self, session: Session | None, path: str | Path) -> bool:
        """Whether a browser may read a file: its own, and the examples."""
        return within(path, self.examples) or (session is not None and session.owns(path))

    def sweep(self) -> int:
        """End the sessions that were not used for long; returns how many."""
        with self._lock:
            oldest = time.monotonic() - self._lifetime
            ended = self._taken_out(
                [token for token, session in self._open.items() if session.used < oldest and not session.in_use]
            )
        remove(ended)
        return len(ended)

    def close(self) -> None:
        """Remove everything."""
        with self._lock:
            self._open.clear()
        shutil.rmtree(self.root, ignore_errors=True)

    def _taken_out(self, tokens: list[str]) -> list[Session]:
        """End sessions that are not in use, under the lock under which that was seen."""
        ended = [self._open.pop(token) for token in tokens]
        for session in ended:
            session.ended = True
        return ended


def remove(sessions: list[Session]) -> None:
    """Remove the folders of sessions that have ended."""
    for session in sessions:
        shutil.rmtree(session.folder, ignore_errors=True)


def within(path: str | Path, folder: Path) -> bool:
    """Whether a path, followed through links and "..", lies below a folder."""
    if "\0" in str(path) or not os.path.isabs(path):
        return False
    return os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep)


def harmless(name: str) -> str:
    """A file's name as it may stand on any disk: letters, digits, ".", "-", "_" and spaces, its ending kept."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(letter if letter.isalnum() or letter in "._- " else "_" for letter in last).strip(". ")
    stem, dot, ending = kept.rpartition(".")
    if not dot or not stem:
        return kept[:LONGEST_NAME] or "file"
    return f"{stem[:LONGEST_NAME]}.{ending[:10]}"
