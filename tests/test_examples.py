"""The examples run as they are: scripts in a process each, notebooks in a kernel, in small."""

import functools
import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from simswap_jax.data.dataset import held_out
from simswap_jax.training.extra_losses import LossInputs
from simswap_jax.weights import model_folder
from tests.support.small_model import write_small_model
from tests.test_documentation import tracked

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SMALL = {  # environment variables that notebooks read
    "quickstart": {"COUNT": "1"},
    "train_on_your_faces": {"STEPS": "3", "PEOPLE": "24"},
    "evaluate_and_compare": {"PAIRS": "6", "PEOPLE": "7"},
}
PUBLIC = {"quickstart": ("face_detection_yunet.onnx", "mobilefacenet_casia.ckpt")}  # files that are fetched, else


def here(**more):
    """The environment of a process that runs this checkout, with its commands on the path."""
    bin_folder = Path(sys.executable).parent
    path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "JAX_PLATFORMS": "cpu", **more}


# --- scripts ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("custom_loss.py", r"step +20 +edges 0\.\d+ +generator \d"),
        ("custom_generator.py", r"ScaledConfig\(width=16.*\n\(32, 32, 3\) uint8, \d"),
        ("minimal_train_step.py", r"step +20 +discriminator \d+\.\d+ +generator \d"),
    ],
)
def test_a_script_runs(script, said, tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script)],
        cwd=tmp_path,
        env=here(),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(said, done.stdout), done.stdout
    assert list(tmp_path.iterdir()) == []  # what it made is gone


@pytest.fixture
def custom_loss(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import custom_loss

    return custom_loss


@pytest.fixture
def inputs():
    random = np.random.default_rng(0)
    result, target = random.random((2, 2, 8, 8, 3), np.float32)
    vector = np.eye(4, dtype=np.float32)[:2]
    return LossInputs(result, target, vector, vector, np.array([True, False]))


def test_the_loss_of_edges_is_the_difference_of_slopes(custom_loss, inputs):
    expected = sum(
        np.abs(np.diff(inputs.result, axis=axis) - np.diff(inputs.target, axis=axis)).mean() for axis in (1, 2)
    )
    assert float(custom_loss.edges(inputs)) == pytest.approx(float(expected), rel=1e-5)
    brighter = replace(inputs, result=inputs.target + 0.1)  # the same edges
    assert float(custom_loss.edges(brighter)) == pytest.approx(0.0, abs=1e-6)


def test_the_perceptual_loss_compares_maps_of_the_file(custom_loss, inputs, tmp_path, monkeypatch):
    random, widths = np.random.default_rng(1), (3, 2, 4, 3, 2)
    weights = {}
    for name, (taken, made) in zip(np.concatenate(custom_loss.STAGES), pairwise(widths)):
        weights[f"{name}.weight"] = random.standard_normal((made, taken, 3, 3)).astype(np.float32)
        weights[f"{name}.bias"] = random.standard_normal(made).astype(np.float32)
    save_file(weights, tmp_path / "vgg16.safetensors")
    monkeypatch.setenv("VGG16_WEIGHTS", str(tmp_path / "vgg16.safetensors"))
    custom_loss.vgg16.cache_clear()

    first, second = custom_loss.vgg_maps(inputs.result)
    assert (first.shape, second.shape) == ((2, 8, 8, 4), (2, 4, 4, 2))
    pixel = (inputs.result[0, 2:7, 2:7] - custom_loss.MEAN) / custom_loss.STD  # what the map at (4, 4) is made of
    for name in custom_loss.STAGES[0]:
        windows = np.lib.stride_tricks.sliding_window_view(pixel, (3, 3), axis=(0, 1))
        pixel = np.einsum("yxcij,ocij->yxo", windows, weights[f"{name}.weight"]) + weights[f"{name}.bias"]
        pixel = np.maximum(pixel, 0.0)
    np.testing.assert_allclose(first[0, 4, 4], pixel[0, 0], rtol=1e-4, atol=1e-4)
    assert float(custom_loss.perceptual(inputs)) > 0.1
    assert float(custom_loss.perceptual(replace(inputs, result=inputs.target))) == 0.0


# --- notebooks ---


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_notebook_runs(name, tmp_path, monkeypatch, outside):
    nbformat = pytest.importorskip("nbformat", reason="the extra 'dev' is not installed")
    nbclient = pytest.importorskip("nbclient", reason="the extra 'dev' is not installed")
    for file in PUBLIC.get(name, ()):
        monkeypatch.setenv("SIMSWAP_JAX_WEIGHTS", str(outside(file).parent))
    for key, value in here(**SMALL[name]).items():
        monkeypatch.setenv(key, value)
    book = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(book, timeout=1800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    said = "".join(output.get("text", "") for output in outputs)
    assert "simswap-jax: " not in re.sub(r"simswap-jax: \S+ holds", "", said), said  # a command that failed says so
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
def test_the_london_set_is_swapped_and_groups_are_compared(outside, tmp_path):
    root, judge, small = outside("london_cc_by"), outside("mobileface_v2.onnx"), ("--pairs=2", "--each=1")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "london_set.py"), str(root), str(tmp_path), f"--judge={judge}", *small],
        env=here(SIMSWAP_JAX_WEIGHTS=str(judge.parent)),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in tmp_path.rglob("*.*")} == {"00.png", "01.png", "sheet.png", "groups.md"}
    rows = [line.split("|") for line in (tmp_path / "groups.md").read_text(encoding="utf-8").splitlines()[2:]]
    assert rows[0][1:3] == [" all ", " 102 "]
    assert float(rows[0][3].split()[0]) > 0.8  # ID retrieval


def test_dark_faces_are_taken_more_often_and_held_out_ones_are_not(tmp_path):
    """Of twelve light and twelve dark people in each data set."""
    for folder, count in (("celeba", 1), ("lfw", 2), ("lfw_of_one_picture", 1)):
        for number in range(24):
            for picture in range(count):
                colour = (60, 80, 110) if number % 2 else (180, 200, 230)  # BGR
                path = tmp_path / folder.removesuffix("_of_one_picture") / f"{folder}_{number}" / f"{picture}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.full((112, 112, 3), colour, np.uint8))
    script, folders = EXAMPLES / "celeba_and_lfw.py", [str(tmp_path / name) for name in ("celeba", "lfw", "people")]
    subprocess.run([sys.executable, str(script), *folders, "--often=3"], env=here(), check=True, capture_output=True)
    found = {path.name for path in (tmp_path / "people").iterdir()}
    people = {f"celeba_{number}" for number in range(24)} | {f"lfw_lfw_{number}" for number in range(24)}
    kept = set(held_out(sorted(people), 0.12))
    assert kept & found == kept != set()
    copies = Counter(name.partition("_")[2] for name in found - people)
    assert copies == dict.fromkeys({name for name in people - kept if int(name.split("_")[-1]) % 2}, 3)
    assert held_out(sorted(found - people), 0.12) == []


def test_an_average_lies_between_its_models(tmp_path):
    first, second, made = (tmp_path / name for name in ("first", "second", "average"))
    one = model_folder.read(write_small_model(first))
    moved = jax.tree.map(lambda leaf: np.asarray(leaf) * np.float32(1.5), one.variables)
    model_folder.write(second, replace(one, variables=moved), include_identity=True)
    words = [sys.executable, str(EXAMPLES / "average_models.py"), str(first), str(second), "--output", str(made)]
    run = functools.partial(subprocess.run, env=here(), capture_output=True, text=True, check=False)
    done = run([*words, "--shares", "3", "1"])
    assert done.returncode == 0, done.stderr[-3000:]
    mean = model_folder.read(made, with_identity=False)
    for average, leaf in zip(jax.tree.leaves(mean.variables), jax.tree.leaves(one.variables), strict=True):
        np.testing.assert_allclose(average, 1.125 * np.asarray(leaf), rtol=1e-5)
    assert (mean.generator, mean.identity_sha256) == (one.generator, one.identity_sha256)
    assert mean.card["shares"] == [3.0, 1.0]
    assert run([*words[:-1], str(tmp_path / "half"), "--dtype", "bfloat16"]).returncode == 0
    sizes = [(folder / model_folder.GENERATOR).stat().st_size for folder in (tmp_path / "half", made)]
    assert sizes[0] < 0.6 * sizes[1]
    assert "each above 0" in run([*words, "--shares", "1", "-1"]).stderr
    assert "2 models need 2 shares" in run([*words, "--shares", "1"]).stderr
    other = write_small_model(tmp_path / "other", convention="imagenet")
    done = run([*words[:2], str(first), str(other), *words[4:]])
    assert "architecture" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        (
            [{"held_out": 0.12, "held_out_pictures": 0.2}, {"held_out": 0.05, "held_out_pictures": 0.3}],
            {"held_out": 0.05, "held_out_pictures": 0.2},
        ),
        ([{"held_out": 0.12, "held_out_pictures": 0.2}, {}], {}),
    ],
)
def test_an_average_holds_out_only_whom_all_its_models_did(tmp_path, monkeypatch, cards, expected):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import average_models

    folders = [str(write_small_model(tmp_path / str(number), card=card)) for number, card in enumerate(cards)]
    average_models.main([*folders, "--output", str(tmp_path / "average")])
    card = model_folder.read(tmp_path / "average", with_identity=False).card
    assert {name: value for name, value in card.items() if name.startswith("held_out")} == expected


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_notebook_is_kept_without_results(name):
    book = json.loads((EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    asked = set(re.findall(r'environ\.get\("(\w+)"', "".join("".join(cell["source"]) for cell in cells)))
    assert asked - {"MODEL"} == set(SMALL[name])


def test_every_example_is_tested():
    tested = {"custom_loss.py", "custom_generator.py", "minimal_train_step.py", "small_experiment.py"}
    tested |= {"average_models.py", "celeba_and_lfw.py", "london_set.py"}
    books = {f"{name}.ipynb" for name in SMALL}
    kept = {name.removeprefix("examples/") for name in tracked("--cached") if name.startswith("examples/")}
    assert {name for name in kept if "/" not in name} == tested | books
