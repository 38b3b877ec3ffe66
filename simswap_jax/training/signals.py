"""Ctrl-C and SIGTERM while a training runs: answered at once, whatever the program is waiting for."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from simswap_jax.training import distributed

logger = logging.getLogger(__name__)

STOPPED, INTERRUPTED = 3, 130  # exit status: stopped before the end; interrupted, without saving

STOPPING = "stopping after this step, then saving; Ctrl-C again stops now, without saving"
STOPPING_LATER = "stopping after the first step, then saving; Ctrl-C again stops now, without saving"
LEFT = "stopped before the first step; nothing was lost"
LEFT_NOW = "stopped without saving; the same command resumes from the newest checkpoint"


class StopRequest:
    """What was asked of a training by signals.

    Attributes:
      preparing: no step was made yet, so that stopping loses nothing.

    Args:
      leave: ends the process at once with a status; None: ``KeyboardInterrupt`` is raised as soon as Python runs.
    """

    def __init__(self, leave: Callable[[int], Any] | None) -> None:
        self.preparing = True
        self._leave = leave
        self._asked = threading.Event()
        self._heard = 0

    def __call__(self) -> bool:
        """Whether to stop after this step."""
        return self._asked.is_set()

    def answer(self, number: int) -> None:
        """Say at once what will happen, or end the process; called for each signal by a thread that waits for them."""
        self._heard += 1
        if distributed.is_multiprocess():
            if self._heard == 1:
                logger.info(STOPPING)
        elif self._heard == 1 and self.preparing and (number == signal.SIGINT or self._leave is not None):
            self._end(LEFT, STOPPED)
        elif self._heard == 1:
            logger.info(STOPPING_LATER if self.preparing else STOPPING)
        elif number == signal.SIGINT:
            self._end(LEFT_NOW, INTERRUPTED)

    def _end(self, sentence: str, status: int) -> None:
        logger.info(sentence)
        if self._leave is not None:
            self._leave(status)

    def note(self, number: int, frame: Any) -> None:
        """What Python does when it comes to it, which a long call of a library delays."""
        del frame
        several = distributed.is_multiprocess()
        if number == signal.SIGINT and (self._asked.is_set() or (self.preparing and not several)):
            raise KeyboardInterrupt
        self._asked.set()
        if several:
            os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def stop_signals(leave: Callable[[int], Any] | None = None) -> Iterator[StopRequest]:
    """Turn Ctrl-C and SIGTERM into a question asked between two steps; a second Ctrl-C stops at once.

    Before the first step (set ``preparing`` to False after it) Ctrl-C ends at once. Where several processes train, all
    have to stop after the same step: JAX's service hears SIGTERM, and Ctrl-C is handed on to it.

    Args:
      leave: as of `StopRequest`.
    """
    asked = StopRequest(leave)
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    heard = (signal.SIGINT,) if distributed.is_multiprocess() else (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, asked.note) for number in heard}
    try:
        with heard_at_once(asked.answer, heard):
            yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def heard_at_once(answer: Callable[[int], None], heard: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Call ``answer`` in a thread of its own for each signal, also while the main thread is in a library's call."""
    ours, systems = socket.socketpair()
    systems.setblocking(False)
    before = signal.set_wakeup_fd(systems.fileno(), warn_on_full_buffer=False)

    def listen() -> None:
        while numbers := ours.recv(1):
            if numbers[0] in heard:
                answer(numbers[0])

    listener = threading.Thread(target=listen, daemon=True, name="signals")
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        systems.close()  # ends the thread
        listener.join()
        ours.close()
