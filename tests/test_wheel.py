"""The built wheel, in an environment of its own and far from the checkout: swap, demo, train and evaluate."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
import venv
import zipfile
from pathlib import Path

import pytest

from simswap_jax import experiments
from tests.test_documentation import tracked

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
MAKE_PEOPLE = """
import sys
from pathlib import Path
from simswap_jax.contrib.rendered import dataset
people = dataset.sample_people(5, 8)
dataset.write_people(Path(sys.argv[1]), people, dataset.person_names(8), 3, 6, 64)
"""
WHERE = """
from pathlib import Path
import simswap_jax, simswap_jax.errors as errors
print(Path(simswap_jax.__file__).parent)
print(errors.install_command("video"))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the wheel and the sdist, made of a copy of what git keeps; the wheel is made of the sdist."""
    copy, dist = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, copy, cwd=dist)
    return dist


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The folder of an environment with the wheel; the packages that it needs are those of the running one.

    A .pth file shows their folder and reads none of its .pth files, so an editable checkout stays out of sight.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    packages = folder / f"lib/python{sysconfig.get_python_version()}/site-packages"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run(*words, cwd):
    """What a program prints, in an environment that names no checkout."""
    done = subprocess.run([*map(str, words)], cwd=cwd, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SIMSWAP_JAX"))}


def test_wheel_and_sdist_hold_what_is_needed_and_no_more(built):
    run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir(), cwd=built)
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    inside = set(zipfile.ZipFile(wheel).namelist())
    top = {name.split("/")[0] for name in inside}
    assert {name.partition("-")[0] for name in top} == {"simswap_jax"}
    kept = {name for name in tracked() if name.startswith("simswap_jax/")}
    assert kept <= inside, sorted(kept - inside)
    assert {f"simswap_jax/{name}" for name in tracked() if name.startswith("configs/")} <= inside
    assert any(name.endswith("licenses/LICENSE") for name in inside)
    with tarfile.open(sdist) as file:
        sources = {name.partition("/")[2] for name in file.getnames()}
    assert kept | {"LICENSE", "README.md", "pyproject.toml", "setup.py", "configs/weights.yaml"} <= sources


def test_the_environment_has_the_wheel_and_not_the_checkout(installed, tmp_path):
    package, command = run(installed / "bin/python", "-c", WHERE, cwd=tmp_path).splitlines()
    assert Path(package).is_relative_to(installed)
    assert command == "pip install 'simswap-jax[video]'"
    listed = run(installed / "bin/simswap-jax", "train", "--list", cwd=tmp_path)
    assert [line.split()[0] for line in listed.splitlines()] == experiments.names()


@pytest.fixture(scope="module")
def people(installed, tmp_path_factory):
    """A folder of eight rendered people, three pictures each."""
    folder = tmp_path_factory.mktemp("rendered")
    run(installed / "bin/python", "-c", MAKE_PEOPLE, "people", cwd=folder)
    return folder / "people"


def test_a_face_is_swapped(installed, people, tmp_path):
    (model,) = installed.glob("lib/*/site-packages/simswap_jax/contrib/rendered/pretrained/generator")
    words = ["--source", people / "p0000/000.png", "--target", people / "p0001/000.png", "--output", "swapped.png"]
    run(installed / "bin/simswap-jax", "swap", "--aligned", "--model", model, *words, cwd=tmp_path)
    assert (tmp_path / "swapped.png").stat().st_size > 1_000


def test_the_demo_swaps_the_example_people_first(installed, tmp_path):
    program = installed / "bin/simswap-jax"
    started = subprocess.Popen(
        [program, "demo", "--workdir", "demo"], cwd=tmp_path, env=environment(), start_new_session=True
    )
    until = time.monotonic() + 300
    try:
        while not (tmp_path / "demo/real_faces.png").exists():
            assert started.poll() is None, "the demo ended"
            assert time.monotonic() < until, "no sheet"
            time.sleep(0.5)
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def test_a_small_training_is_evaluated(installed, people, tmp_path):
    program, (judge,) = installed / "bin/simswap-jax", installed.glob("lib/*/site-packages/**/judges/identity")
    fields = {
        "data.root": people,
        "data.held_out": 0.4,
        "data.alignment": "rendered",
        "identity.weights": judge,
        "steps": 1,
        "batch_size": 4,
        "generator.widths": "(4, 4)",
        "generator.blocks": 1,
        "discriminator.widths": "(4, 4, 4)",
        "discriminator.tail": 4,
    }
    words = [f"--config.{name}={value}" for name, value in fields.items()]
    run(program, "train", "--config", "celeba_64", "--workdir", "run", *words, cwd=tmp_path)
    assert (tmp_path / "run/model/generator.safetensors").is_file()
    words = ["--protocol", "synthetic", "--data", people, "--pairs", "4", "--far", "0.05", "--output", "evaluation"]
    run(program, "evaluate", "--model", "run/model", *words, cwd=tmp_path)
    assert (tmp_path / "evaluation/index.html").is_file()
