"""Stages at the same time: order, bounds, errors, ends."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from simswap_jax.video.stages import Stages, ordered, threaded


def test_order_is_kept_and_few_are_started():
    started, taken = [], 0

    def square(x):
        started.append(x)
        return x * x

    with ThreadPoolExecutor(3) as pool, closing(ordered(square, range(50), pool, 4)) as run:
        for i, value in enumerate(threaded(run, 2)):
            assert value == i * i
            taken = i
            assert len(started) <= taken + 10
    assert taken == 49


def test_stages_overlap():
    ahead, stages = threading.Event(), Stages()

    def made(x):
        if x == 1:
            ahead.set()
        return x

    with closing(threaded(stages.timed("first", map(made, range(3))), 2)) as first:
        assert next(first) == 0
        with stages.clock("second"):
            assert ahead.wait(60)  # the first stage works on 1 while this one has 0
        assert list(first) == [1, 2]
    assert stages.seconds.keys() == {"first", "second"}


def test_errors_arrive_where_items_are_taken():
    def broken():
        yield 1
        raise ValueError("broken")

    taken = []
    with pytest.raises(ValueError, match="broken"):
        taken.extend(threaded(broken(), 1))
    with ThreadPoolExecutor(2) as pool, pytest.raises(ZeroDivisionError):
        list(ordered(lambda x: 1 // x, [1, 0, 1], pool, 2))


def test_whoever_stops_early_stops_the_threads():
    ended = threading.Event()

    def endless():
        try:
            while True:
                yield 0
        finally:
            ended.set()

    before = set(threading.enumerate())  # of other tests, too; some of those end meanwhile
    with closing(threaded(threaded(endless(), 2), 2)) as run:
        next(run)
    assert ended.wait(60)
    assert set(threading.enumerate()) <= before
