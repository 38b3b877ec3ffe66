"""The hardware run: stages that fail or take too long, what is resumed, its page; and, slowly, all of it in small."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def hardware_run():
    spec = importlib.util.spec_from_file_location("hardware_run", ROOT / "benchmarks" / "hardware_run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def asked(tmp_path, monkeypatch, hardware_run):
    monkeypatch.setattr(hardware_run, "about", lambda: {"device": "stand-in", "devices": 1, "jax": "0"})
    monkeypatch.setattr(hardware_run, "PATIENCE", 2.0)
    return Namespace(output=tmp_path, device="cpu", minutes=1.0)


def is_running(number):
    """Whether a process is there, and not only waiting for its parent to ask how it ended."""
    try:
        os.kill(number, 0)
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # just gone, or a system without /proc
        return not Path("/proc").exists()


def python(text):
    return [sys.executable, "-c", text]


def results(folder):
    return json.loads((folder / "hardware.json").read_text())["stages"]


def test_a_stage_that_fails_is_noted_and_the_next_one_runs(asked, hardware_run):
    planned = [
        hardware_run.Stage("tests", python("raise SystemExit('broken')"), 0.3),
        hardware_run.Stage("training", python("raise SystemExit(3)"), 0.0, (0, 3)),
    ]
    assert hardware_run.run_all(asked, planned) == 1
    assert [(name, row["ok"], row["status"]) for name, row in results(asked.output).items()] == [
        ("tests", False, 1),
        ("training", True, 3),
    ]
    assert "broken" in (asked.output / "tests.log").read_text()
    page = (asked.output / "index.html").read_text()
    assert "1 × stand-in" in page
    assert "failure" in page


@pytest.mark.parametrize(("device", "torch"), [("gpu", True), ("gpu", False), ("cpu", True), ("tpu", True)])
def test_on_a_tpu_no_pytorch_is_measured(tmp_path, hardware_run, device, torch):
    asked = Namespace(output=tmp_path, device=device, torch=torch, dtype="bfloat16", batch=32)
    [speed] = [stage for stage in hardware_run.stages(asked, []) if stage.name == "speed"]
    assert ("--ours" in speed.command) == (device == "tpu" or not torch)
    if device == "tpu":
        with_torch = [word for word in speed.command if word != "--ours"]
        done = subprocess.run(with_torch, capture_output=True, text=True, check=False)
        assert (done.returncode, "--ours" in done.stderr) == (2, True)


def test_what_succeeded_is_not_run_again_but_the_training_is(asked, hardware_run):
    once = python("open('ran', 'a').write('x')".replace("ran", str(asked.output / "ran")))
    planned = [hardware_run.Stage("speed", once, 0.3), hardware_run.Stage("training", once, 0.0)]
    assert hardware_run.run_all(asked, planned) == 0
    assert hardware_run.run_all(asked, planned) == 0
    assert (asked.output / "ran").read_text() == "xxx"


def test_a_stage_that_takes_too_long_is_ended_with_its_children(asked, hardware_run):
    text = "import os, time; child = os.fork(); child and open({!r}, 'w').write(str(child)); time.sleep(60)"
    command = python(text.format(str(asked.output / "child")))
    row = hardware_run.run_stage(hardware_run.Stage("speed", command, 0.3), 3.0, asked)
    assert (row["ok"], row["cut"]) == (False, True)
    number = int((asked.output / "child").read_text())
    for _ in range(300):
        if not is_running(number):
            return
        time.sleep(0.1)
    pytest.fail("the child goes on")


def test_a_training_is_asked_to_save_before_it_is_ended(hardware_run):
    text = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(3)); print('on', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(python(text), stdout=subprocess.PIPE, start_new_session=True)
    with process:
        assert process.stdout.readline() == b"on\n"
        assert hardware_run.stop(process) == 3


@pytest.mark.parametrize(
    ("named", "words"), [("--minutes", ["--minutes", "1"]), ("--workdir", ["--minutes", "5", "--", "--workdir=x"])]
)
def test_mistakes_get_a_sentence(hardware_run, named, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        hardware_run.main(["--output", str(tmp_path), *words])
    assert ended.value.code == 2
    assert named in capsys.readouterr().err.splitlines()[-1]


def test_the_page_shows_what_was_measured(tmp_path, hardware_run):
    side = {"images_per_second": 1234.5, "mfu": 0.4321}
    found = {
        "speed": {"asked": {"device": "gpu", "batch": 32}, "simswap_jax": side},
        "profile": {"steps": 3, "largest": [{"name": "convolution.7", "count": 3, "milliseconds": 1.5}]},
        "training": {"last": {"step": 90, "identity": 0.25, "skipped": None}},
    }
    said = {"about": {"device": "d", "devices": 8, "jax": "1"}, "minutes": 10.0, "stages": {}, "measured": found}
    hardware_run.write_page(tmp_path, said)
    page = (tmp_path / "index.html").read_text()
    assert all(text in page for text in ("device gpu, batch 32", "1234", "0.4321", "convolution.7", "0.25", "—"))


@pytest.mark.slow
def test_a_rehearsal_on_the_cpu(tmp_path, hardware_run):
    pytest.importorskip("torch", reason="needs the extra `torch`")
    assert hardware_run.main(["--device", "cpu", "--minutes", "20", "--output", str(tmp_path)]) == 0
    said = json.loads((tmp_path / "hardware.json").read_text())
    assert [row["ok"] for row in said["stages"].values()] == [True] * 3
    assert said["measured"]["speed"]["our_time_over_pytorchs"]["seconds_a_step"] > 0
    assert said["measured"]["profile"]["largest"][0]["milliseconds"] > 0
