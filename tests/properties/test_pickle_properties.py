"""Foreign pickles: read as data or refused; nothing of them is ever imported or run, and none takes long."""

import contextlib
import io
import pickle
import sys
import time

from hypothesis import given
from hypothesis import strategies as st

from simswap_jax.weights.pickle_reader import PickleRefused, load
from tests.support.properties import few

BOMB = "antigravity"  # a module of Python's own that opens a browser when it is imported


class Bomb:
    """Pickled, it says: import the module and call its function with these arguments."""

    def __reduce__(self):
        return (exec, (f"import {BOMB}",))


def pickled(protocol):
    content = {"weights": [1, 2.5, "a"], "bomb": Bomb(), "set": {1, 2}, "nested": ({}, [], (None, True), b"bytes")}
    return pickle.dumps(content, protocol) + b"c" + BOMB.encode() + b"\ngeohash\n(I1\ntR."


PICKLES = [pickled(protocol) for protocol in (2, 3, 4, 5)]
edits = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 3), st.binary(min_size=1, max_size=4)), min_size=0, max_size=6
)


def read(data):
    start = time.process_time()
    with contextlib.suppress(PickleRefused):
        load(io.BytesIO(data))
    assert BOMB not in sys.modules
    assert time.process_time() - start < 5


@few
@given(st.sampled_from(PICKLES), edits)
def test_mutated_pickles_are_read_or_refused(content, changes):
    data = bytearray(content)
    for at, length, replacement in changes:
        at %= len(data) + 1
        data[at : at + length] = replacement
    read(bytes(data))


@few
@given(st.lists(st.sampled_from([bytes([code]) for code in range(256)]), max_size=60).map(b"".join))
def test_any_bytes_are_read_or_refused(data):
    read(data)
