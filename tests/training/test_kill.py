"""A training killed at any moment, also while it saves, ends in the same bits as one that was left alone."""

import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from simswap_jax.contrib.rendered import dataset
from simswap_jax.training import metrics

CHILD = Path(__file__).parents[1] / "support" / "kill_child.py"
EVERY = 3  # steps between checkpoints
PATIENCE = 600  # seconds
WAYS = {
    "one device": {"devices": 1},
    "jit over 8": {"devices": 8},
    "pmap over 8": {"devices": 8, "parallel": "pmap"},
}


class Nursery:
    """Starts trainings in processes of their own."""

    def __init__(self):
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(CHILD)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.strip())
        self.lines.put("gone")

    def until(self, *starts):
        """Lines up to and with the first that starts with one of these."""
        said = []
        while not said or not said[-1].startswith(starts):
            said.append(self.lines.get(timeout=PATIENCE))
            assert said[-1] != "gone", said
            assert not said[-1].startswith("failed"), said
        return said

    def start(self, workdir, config):
        """Begin a run; its process id."""
        self.process.stdin.write(json.dumps({"workdir": str(workdir), "config": config}) + "\n")
        self.process.stdin.flush()
        return int(self.until("started")[-1].split()[1])

    def close(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.reader.join()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def nursery():
    made = Nursery()
    yield made
    made.close()


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    """What all runs share: a folder of four rendered people and its records."""
    folder = tmp_path_factory.mktemp("rendered")
    dataset.write_people(folder / "people", dataset.sample_people(3, 4), dataset.person_names(4), 4, 4, 16)
    return {
        "data.root": str(folder / "people"),
        "data.cache": str(folder / "records"),
        "checkpoint_every": EVERY,
        "keep": 2,
    }


def finished_checkpoints(workdir):
    folder = workdir / "checkpoints"
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit()) if folder.exists() else []


def being_saved(workdir):
    return list((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def wait_for(condition):
    """Whether it came true in time."""
    end = time.monotonic() + PATIENCE
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.0005)
    return met


def last_step(said):
    steps = [int(line.split()[1].split("/")[0]) for line in said if line.startswith("step ")]
    return max(steps, default=0)


def killed_again_and_again(nursery, workdir, config, kills, draw):
    """Start, kill, start again … and let the last one end."""
    told, in_saving, moments = 0, 0, []
    for number in range(kills):
        there = finished_checkpoints(workdir)
        process = nursery.start(workdir, config)
        while_saving = number % 2 == 0
        # The first kill comes late enough that a checkpoint is whole: a save begins when the one before it has ended.
        after = draw.randrange(0, 4 * EVERY) if number else 2 * EVERY
        said = []
        for _ in range(after):
            said += nursery.until("step ", "done", "ended")
        if while_saving:  # also before the first step, if what an earlier kill left is still there
            wait_for(lambda: being_saved(workdir) or finished(nursery))
        time.sleep(draw.uniform(0, 0.03))
        busy = bool(being_saved(workdir))
        os.kill(process, signal.SIGKILL)
        said += nursery.until("ended")
        assert said[-1] == f"ended {-signal.SIGKILL}", said
        in_saving += busy
        check_start(said, there, told)
        told = last_step(said) or told
        moments.append((told, finished_checkpoints(workdir), busy))
    there = finished_checkpoints(workdir)
    nursery.start(workdir, config)
    said = nursery.until("ended")
    assert said[-1] == "ended 0", said
    check_start(said, there, told)
    return in_saving, moments


def finished(nursery):
    return any(line.startswith(("done", "ended")) for line in list(nursery.lines.queue))


def check_start(said, there, told):
    """It resumed from the newest whole checkpoint, which is not further back than the save before the last."""
    from_step = [int(line.split()[-1]) for line in said if line.startswith("resuming from step")]
    if not from_step:  # killed before it came to this, or nothing was saved yet
        assert not there or not last_step(said), said
        return
    assert from_step == [max(there)]
    # The line of a step is said before its save waits for the one before it.
    assert told - from_step[0] <= 2 * EVERY
    assert not any("damaged" in line for line in said), said


def compare(way, nursery, fields, folder, steps, kills):
    config = fields | WAYS[way] | {"steps": steps}
    draw = random.Random(f"{way} {kills}")
    nursery.start(folder / "whole", config)
    assert nursery.until("ended")[-1] == "ended 0"
    in_saving, moments = killed_again_and_again(nursery, folder / "killed", config, kills, draw)
    with np.load(folder / "whole" / "state.npz") as whole, np.load(folder / "killed" / "state.npz") as killed:
        assert whole.files == killed.files
        for name in whole.files:
            np.testing.assert_array_equal(whole[name], killed[name], err_msg=name)
    rows = [
        [(row["step"], row["identity_loss"], row["training_accuracy"]) for row in metrics.read_lines(folder / name)]
        for name in ("whole", "killed")
    ]
    assert [step for step, *_ in rows[0]] == list(range(1, steps + 1))
    assert rows[0] == rows[1]
    return in_saving, moments


@pytest.mark.parametrize(
    "way", [way if way == "one device" else pytest.param(way, marks=pytest.mark.slow) for way in WAYS]
)
def test_one_kill(way, nursery, fields, tmp_path):
    """Killed once, late enough that a checkpoint is whole; `test_many_kills` kills twenty times."""
    compare(way, nursery, fields, tmp_path, 9, 1)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_many_kills(way, nursery, fields, tmp_path):
    in_saving, moments = compare(way, nursery, fields, tmp_path, 300, 20)
    assert in_saving >= 5, moments
    assert sum(bool(there) for _, there, _ in moments) >= 10, moments
