"""Several processes: how they connect, what they are told when they do not, and a training of two for real."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from simswap_jax.contrib.rendered import dataset
from simswap_jax.data import loader, records
from simswap_jax.training import distributed, metrics, workdir
from simswap_jax.training.config import default_config
from simswap_jax.weights import identity_folder
from tests.support.errors import raises_user_error

LOCAL = Path(__file__).parents[2] / "launch" / "local.sh"
PROGRAM = Path(sys.executable).with_name("simswap-jax")
PATIENCE = 600  # seconds
EXPERIMENT = """
from simswap_jax.training import identity

def get_config():
    config = identity.default_config()
    config.network.widths, config.network.layers = (2,), (1,)
    config.network.size, config.data.size = (16, 16), 16
    config.batch_size, config.log_every, config.checkpoint_every = 8, 1, 2
    config.data.held_out = 0.08  # the fifth of the people
    config.validation.every, config.validation.pairs = 2, 1
    config.validation.evaluator = "tests.support.scripted_evaluator:build"
    return config
"""


def fields(**changes):
    return {**default_config().processes.to_dict(), **changes}


SLURM = {"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "n[1-4]", "SLURM_PROCID": "1"}
JAX = {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1", "JAX_COORDINATOR_ADDRESS": "here:99"}


@pytest.mark.parametrize(
    ("changes", "environment", "expected"),
    [
        ({}, {}, None),
        ({}, JAX, distributed.DistributedConfig(2, 1, "here:99")),
        ({"count": 1}, JAX | SLURM, None),
        ({"count": 4, "index": 0, "coordinator": "there:1"}, {}, distributed.DistributedConfig(4, 0, "there:1")),
        ({"index": 0}, JAX, distributed.DistributedConfig(2, 0, "here:99")),
        ({}, SLURM, distributed.DistributedConfig(None, None, None)),
        ({"count": 4}, SLURM, distributed.DistributedConfig(None, None, None)),
        ({}, {"SLURM_NTASKS": "4"}, None),  # an allocation in which this was not started by srun
        ({}, SLURM | {"SLURM_NTASKS": "1"}, None),
        ({}, {"TPU_WORKER_HOSTNAMES": "a,b"}, distributed.DistributedConfig(None, None, None)),
        ({}, {"TPU_WORKER_HOSTNAMES": "a"}, None),
        ({"count": -1}, {}, distributed.DistributedConfig(None, None, None)),
    ],
)
def test_where_processes_connect(changes, environment, expected):
    assert distributed.distributed_config(fields(**changes), environment) == expected


@pytest.mark.parametrize(
    ("changes", "environment", "code", "named"),
    [
        ({"count": 2}, {}, "processes-index", "from 0 to 1"),
        ({"count": 2, "index": 2}, {}, "processes-index", "process 2 of 2"),
        ({"count": 2, "index": 0}, {}, "processes-coordinator", "''"),
        ({"count": 2, "index": 0, "coordinator": "here"}, {}, "processes-coordinator", "'here'"),
        ({"count": 2, "index": 0, "coordinator": "here:http"}, {}, "processes-coordinator", "'here:http'"),
        ({"count": -2}, {}, "processes-count", -2),
        ({}, JAX | {"JAX_NUM_PROCESSES": "two"}, "processes-environment", "JAX_NUM_PROCESSES is 'two'"),
    ],
)
def test_processes_that_cannot_connect_are_one_sentence(changes, environment, code, named):
    with raises_user_error(code, named):
        distributed.distributed_config(fields(**changes), environment)


def free_port():
    with socket.socket() as made:
        made.bind(("localhost", 0))
        return made.getsockname()[1]


@pytest.fixture
def words(tmp_path):
    """A training of four rendered people, validated, as the command line has it; the batch divides by 8 devices."""
    folder = tmp_path / "people"
    dataset.write_people(folder, dataset.sample_people(3, 5), dataset.person_names(5), 4, 4, 16)
    experiment = tmp_path / "experiment.py"
    experiment.write_text(EXPERIMENT)
    return ["--config", str(experiment), "--workdir", str(tmp_path / "run"), f"--config.data.root={folder}"]


def environment(**changes):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_NUM")}
    path = os.pathsep.join([str(LOCAL.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    return kept | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "PYTHONPATH": path} | changes


def trained_steps(run):
    """The steps of a workdir's training rows; the validations beside them are those of every other one."""
    rows = metrics.read_lines(run)
    steps = [row["step"] for row in rows if "identity_loss" in row]
    validated = [row["step"] for row in rows if "validation/score" in row]
    assert len(rows) == len(steps) + len(validated)
    assert [step for step in validated if step % 2 == 0] == [step for step in steps if step % 2 == 0]
    return steps


@pytest.mark.parametrize("index", [0, 1])
def test_a_host_that_never_comes_is_one_sentence_after_the_stated_time(index, words, tmp_path):
    where = f"localhost:{free_port()}"
    began = time.monotonic()
    told = {"count": 2, "index": index, "coordinator": where, "wait": 2}
    done = subprocess.run(
        [PROGRAM, "train", *words, *(f"--config.processes.{name}={value}" for name, value in told.items())],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1  # not 2: the launch scripts try again
    said = [line for line in done.stderr.splitlines() if line.startswith("simswap-jax: ")]
    assert len(said) == 1, done.stderr
    assert f"after 2 seconds not all of the 2 processes at {where} had come (this is process {index})" in said[0]
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began >= 2
    assert not (tmp_path / "run").exists()


def test_a_workdir_that_a_process_does_not_see_is_one_sentence(tmp_path):
    with raises_user_error("workdir-not-shared", tmp_path):
        workdir.require_shared(tmp_path)
    (tmp_path / workdir.CONFIG).write_text("{}")
    workdir.require_shared(tmp_path)


def test_another_number_of_processes_resumes_at_the_same_batch(words, tmp_path):
    people = records.build(tmp_path / "people", tmp_path / "records")

    def batches(index, count):
        return loader.picture_batches(people, 8, 16, 0, host_index=index, host_count=count, threads=0)

    parts = [batches(index, 2) for index in range(2)]
    for part in parts:
        for _ in range(3):
            next(part)
    alone = batches(0, 1)
    alone.set_state(parts[0].get_state())
    whole, halves = next(alone), [next(part) for part in parts]
    for name, array in whole.items():
        np.testing.assert_array_equal(array, np.concatenate([half[name] for half in halves]))


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_other_and_both_resume(words, tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    for kill in (0, 1):
        local = Local([*words, "--config.steps=2000"], DEVICES="2")
        local.until("resuming from step" if kill else "step 1/")
        local.until("step ")
        while not any(path.name.isdigit() for path in folder.iterdir()):
            time.sleep(0.05)
        children = Path(f"/proc/{local.process.pid}/task/{local.process.pid}/children").read_text().split()
        trainings = [int(pid) for pid in children if b"train" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
        assert len(trainings) == 2
        os.kill(trainings[kill], signal.SIGKILL)
        assert local.end() not in (0, 3)
    newest = max(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdigit())
    local = Local([*words, f"--config.steps={newest + 3}"], DEVICES="2")
    assert local.end() == 0, local.lines
    assert f"resuming from step {newest}" in local.lines
    assert trained_steps(tmp_path / "run") == list(range(1, newest + 4))


class Local:
    """launch/local.sh at work."""

    def __init__(self, words, **variables):
        self.process = subprocess.Popen(
            [LOCAL, *words],
            env=environment(PROCESSES="2", PROGRAM=str(PROGRAM), PORT=str(free_port()), **variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self.came = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self.came:
                self.lines.append(line.rstrip())
                self.came.notify_all()

    def until(self, start):
        with self.came:
            found = self.came.wait_for(lambda: any(line.startswith(start) for line in self.lines), timeout=PATIENCE)
        assert found, self.lines

    def end(self):
        status = self.process.wait(PATIENCE)
        self.reader.join()
        self.process.stdout.close()
        return status


@pytest.mark.slow
def test_two_processes_train_for_real_and_one_resumes(words, tmp_path):
    """SIGTERM to the script saves and ends both with status 3; both resume; then a single process does."""
    run = tmp_path / "run"
    local = Local([*words, "--config.steps=500"], DEVICES="4")
    local.until("step 3/")
    local.process.send_signal(signal.SIGTERM)
    assert local.end() == 3, local.lines
    assert sum("4 people, 16 pictures" in line for line in local.lines) == 1, "process 1 speaks too"
    steps = trained_steps(run)
    stopped = len(steps)
    assert steps == list(range(1, stopped + 1))
    assert sum(line.startswith("validation at step 2 ·") for line in local.lines) == 1, "process 1 validates too"
    assert (run / "report.html").is_file()
    assert identity_folder.read(run / "best", "").ours
    assert f"stopped at step {stopped}, saved; the same command resumes there" in local.lines
    assert str(stopped) in {path.name for path in (run / "checkpoints").iterdir()}
    done = subprocess.run(
        [PROGRAM, "train", *words, f"--config.steps={stopped + 2}"],
        env=environment(JAX_NUM_CPU_DEVICES="1"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert f"resuming from step {stopped}" in done.stdout
    assert trained_steps(run) == list(range(1, stopped + 3))
    assert identity_folder.read(run / "model", "").ours
    assert json.loads((run / "model" / "config.json").read_text())


def dry(*more, **changes):
    return subprocess.run(
        [LOCAL, *more],
        env={"PATH": os.environ["PATH"], "PROGRAM": str(PROGRAM)} | changes,
        capture_output=True,
        text=True,
    )


def test_a_dry_run_says_what_would_run():
    done = dry("--dry-run", "--config", "an experiment.py", "--workdir", "x", PROCESSES="2", DEVICES="4", PORT="99")
    assert (done.returncode, done.stderr) == (0, "")
    found = [shlex.split(line[2:]) for line in done.stdout.splitlines()]
    assert len(found) == 2
    for index, line in enumerate(found):
        assert line[-6:] == [str(PROGRAM), "train", "--config", "an experiment.py", "--workdir", "x"]
        told = dict(word.split("=") for word in line[1:-6])
        assert told.pop("JAX_PLATFORMS") == "cpu"
        assert told.pop("JAX_NUM_CPU_DEVICES") == "4"
        assert distributed.distributed_config(fields(), told) == distributed.DistributedConfig(2, index, "localhost:99")


@pytest.mark.parametrize(
    ("changes", "more", "said"),
    [
        ({"DEVICES": "4"}, ["--config"], "PROCESSES is ''"),
        ({"PROCESSES": "two", "DEVICES": "4"}, ["--config"], "PROCESSES is 'two'"),
        ({"PROCESSES": "2"}, ["--config"], "DEVICES is ''"),
        ({"PROCESSES": "2", "DEVICES": "4"}, [], "what is to be trained is missing"),
        ({"PROCESSES": "2", "DEVICES": "4", "PROGRAM": "nothing-of-that-name"}, ["--config"], "there is no program"),
    ],
)
def test_what_the_script_misses_is_one_sentence(changes, more, said):
    done = dry(*more, **changes)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
