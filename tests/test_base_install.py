"""The base install: nothing heavy is imported, and importing the package is quick and pulls in no JAX."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("tensorflow", "torch", "gradio", "tensorboard", "tensorboardX", "wandb", "onnx", "onnxruntime", "av")


@pytest.fixture
def blocked(tmp_path):
    """An environment in which importing anything heavy raises."""
    for name in HEAVY:
        (tmp_path / "blocked" / name).mkdir(parents=True)
        (tmp_path / "blocked" / name / "__init__.py").write_text(f"raise ImportError('{name} was imported')\n")
    return {**os.environ, "PYTHONPATH": str(tmp_path / "blocked")}


def python(program, environment, *arguments):
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_block_blocks(blocked):
    assert "torch was imported" in python("import torch", blocked).stderr


def test_importing_the_package_is_quick_and_light(blocked):
    # Seconds of the processor, not of the clock: other tests may be running beside this one.
    program = (
        "import sys, time; start = time.process_time(); import simswap_jax; "
        "assert time.process_time() - start < 2, 'slow'; assert not {'jax', 'cv2'} & set(sys.modules)"
    )
    done = python(program, blocked)
    assert done.returncode == 0, done.stderr


TRAIN_AND_SWAP = """
import sys
from pathlib import Path
import numpy as np
from simswap_jax import FaceSwapper
from simswap_jax.cli.main import main
from simswap_jax.contrib.rendered import dataset as synthetic
from simswap_jax.contrib.rendered import demo
from simswap_jax.training import identity
from simswap_jax.training.loop import train

root = Path(sys.argv[1])
people = synthetic.sample_people(5, 3)
synthetic.write_people(root / "people", people, synthetic.person_names(3), 3, 6, demo.SIZE)
config = identity.default_config()
config.data.root, config.data.cache = str(root / "people"), str(root / "records")
config.steps, config.batch_size, config.network.widths = 1, 4, (4, 4, 4, 4)
known = train(config, root / "identity")
config = demo.simswap_config(root / "people", root / "records", known.model)
config.steps, config.batch_size, config.data.held_out = 1, 4, 0.0
config.generator.widths, config.discriminator.widths, config.discriminator.tail = (4, 4), (4, 4, 4), 4
config.generator.blocks, config.optimizer.muon_learning_rate = 1, 0.0
done = train(config, root / "swap")
source, target = root / "people/p0000/000.png", root / "people/p0001/000.png"
status = main(["swap", "--aligned", "--model", str(done.model), "--source", str(source), "--target", str(target),
               "--output", str(root / "result.png")])
assert status == 0 and (root / "result.png").is_file()
assert FaceSwapper.from_pretrained(done.model).face_size == demo.SIZE
loaded = set(sys.modules) & set(sys.argv[2:])
assert not loaded, loaded
"""


def test_the_modules_of_training_and_swapping_import_nothing_heavy(blocked):
    modules = ("training.loop", "training.simswap", "inference.photo", "evaluation.evaluate", "cli.train", "cli.swap")
    lines = [f"import simswap_jax.{name}" for name in modules]
    lines += ["import sys", "heavy = set(sys.modules) & set(sys.argv[1:])", "assert not heavy, heavy"]
    done = python("; ".join(lines), blocked, *HEAVY)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_training_and_swapping_import_nothing_heavy(blocked, tmp_path):
    done = python(TRAIN_AND_SWAP, blocked, tmp_path, *HEAVY)
    assert done.returncode == 0, done.stderr


def test_the_command_line_prints_sentences_not_tracebacks(tmp_path):
    program = "from simswap_jax.cli.main import main; raise SystemExit(main())"
    for words, said in (
        (["fly"], "'fly'"),
        (["train", "--config", "nowhere.py", "--workdir", str(tmp_path)], "nowhere.py"),
        (["swap", "--aligned", "--source", "a.png", "--target", "b.png", "--output", "c.png"], "a.png"),
    ):
        done = python(program, dict(os.environ), *words)
        assert done.returncode == 2, done
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_the_installed_command_knows_its_verbs():
    command = Path(sys.executable).with_name("simswap-jax")
    if not command.exists():
        pytest.skip("simswap-jax is not installed beside this Python")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    for verb in ("demo", "train", "swap", "evaluate", "import", "export", "app", "doctor"):
        assert verb in done.stdout
