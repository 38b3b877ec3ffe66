"""Ctrl-C and SIGTERM: what is said at once, when a training ends, and how."""

import os
import signal
import threading
import time

import pytest

from simswap_jax.training import signals
from simswap_jax.training.signals import INTERRUPTED, STOPPED, StopRequest, stop_signals
from tests.support.progress import listening, log_lines


@pytest.fixture
def leaving():
    """What `leave` was called with."""
    return []


def test_before_the_first_step_it_ends_at_once(leaving):
    request = StopRequest(leaving.append)
    with log_lines() as lines:
        request.answer(signal.SIGTERM)
    assert leaving == [STOPPED]
    assert lines == [signals.LEFT]


def test_after_it_the_step_is_finished_and_a_second_ctrl_c_ends_at_once(leaving):
    request = StopRequest(leaving.append)
    request.preparing = False
    with log_lines() as lines:
        request.answer(signal.SIGINT)
        request.note(signal.SIGINT, None)
        assert request()
        assert leaving == []
        request.answer(signal.SIGINT)
    assert leaving == [INTERRUPTED]
    assert lines == [signals.STOPPING, signals.LEFT_NOW]
    with pytest.raises(KeyboardInterrupt):
        request.note(signal.SIGINT, None)


def test_a_program_that_is_not_to_end_is_interrupted(leaving):
    request = StopRequest(None)
    with log_lines() as lines:
        request.answer(signal.SIGINT)
    assert lines == [signals.LEFT]
    with pytest.raises(KeyboardInterrupt):
        request.note(signal.SIGINT, None)
    request = StopRequest(None)
    request.note(signal.SIGTERM, None)
    assert request()


def test_it_is_answered_by_a_thread_and_all_is_as_before_at_the_end():
    """By a thread of its own."""
    said = threading.Event()
    before = signal.getsignal(signal.SIGTERM)
    with listening(lambda line: said.set()), stop_signals(None) as asked:
        asked.preparing = False
        waiting = threading.Thread(target=lambda: os.kill(os.getpid(), signal.SIGTERM))
        waiting.start()
        assert said.wait(20)
        waiting.join()
        for _ in range(1000):
            if asked():
                break
            time.sleep(0.01)
        assert asked()
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.set_wakeup_fd(-1) == -1
    assert not any(thread.name == "signals" for thread in threading.enumerate())


def test_in_another_thread_nothing_is_changed():
    before, seen = signal.getsignal(signal.SIGINT), []

    def run():
        with stop_signals(None) as asked:
            seen.append((signal.getsignal(signal.SIGINT), asked()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
