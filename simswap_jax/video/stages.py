"""Stages that work at the same time, in order and with little in hand: threads, bounded queues, a clock for each."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_PATIENCE = 0.2  # seconds between looks at whether somebody wants to stop


class Stages:
    """How long each stage worked: seconds, summed over its threads; waiting for another stage does not count."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Count the time that the block takes for a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - started
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + passed

    def timed(self, name: str, items: Iterable[T]) -> Generator[T, None, None]:
        """The items, counting the time that it takes to make them for a stage."""
        iterator = iter(items)
        try:
            while True:
                with self.clock(name):
                    try:
                        item = next(iterator)
                    except StopIteration:
                        return
                yield item
        finally:
            close(iterator)


def threaded(items: Iterable[T], ahead: int) -> Generator[T, None, None]:
    """The items, made in a thread of their own, up to ``ahead`` of who takes them; its errors are raised here."""
    ready: queue.Queue[tuple[Any, BaseException | None, bool]] = queue.Queue(ahead)
    stop = threading.Event()

    def put(message: tuple[Any, BaseException | None, bool]) -> None:
        while not stop.is_set():
            try:
                return ready.put(message, timeout=_PATIENCE)
            except queue.Full:
                continue

    def work() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                put((item, None, False))
                if stop.is_set():
                    break
            message: tuple[Any, BaseException | None, bool] = (None, None, True)
        except BaseException as error:  # raised again where the items are taken
            message = (None, error, True)
        finally:
            close(iterator)
        put(message)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error, last = ready.get()
            if error is not None:
                raise error
            if last:
                return
            yield item
    finally:
        stop.set()
        thread.join()


def ordered(function: Callable[[T], R], items: Iterable[T], pool: Executor, ahead: int) -> Generator[R, None, None]:
    """``map`` over a pool, in order, with at most ``ahead`` items running or not yet taken."""
    running: deque[Future[R]] = deque()
    iterator = iter(items)
    try:
        for item in iterator:
            running.append(pool.submit(function, item))
            if len(running) >= ahead:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()
        close(iterator)


def close(iterator: Iterator[Any]) -> None:
    """End a generator now, with what its ``finally`` does."""
    if isinstance(iterator, Generator):
        iterator.close()
