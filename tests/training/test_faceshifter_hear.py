"""HEAR-Net as a method: its recipe, its frozen first stage; trained, resumed, swapped with, not exported."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax import FaceSwapper
from simswap_jax.cli import main as cli
from simswap_jax.data import embeddings, records
from simswap_jax.experiments import faceshifter_hear as experiment
from simswap_jax.io.images import encode_png
from simswap_jax.models import families
from simswap_jax.models.normalization import denormalize
from simswap_jax.training import faceshifter_hear, flops, loop
from simswap_jax.training.config import check, default_config
from simswap_jax.training.faceshifter import FaceShifter
from simswap_jax.training.occluders import NUMBERS
from simswap_jax.training.runner import Runner
from simswap_jax.training.state import NetworkState, TrainState
from simswap_jax.weights import model_folder
from tests.support.errors import raises_user_error
from tests.support.small_method import GENERATORS, small_batch, small_config, small_method
from tests.support.small_model import faces, lively
from tests.support.small_run import small_identity, whole_and_resumed

SHAPE = {
    "preset": "", "encoder": (4, 4), "widths": (8, 4), "bottom": 8, "attribute_kernel": 1, "mask_kernel": 1,
}  # fmt: skip


def test_the_recipe_is_the_papers():
    made = default_config("faceshifter_hear")
    assert made.losses.to_dict() == {"identity": 1, "reconstruction": 1, "change": 1}
    assert (made.data.size, made.data.same_fraction, made.data.same_source) == (256, 0.5, "picture")
    assert "discriminator" not in made
    assert made.data.top_errors == 1.0  # what the workdirs of former versions count with
    assert experiment.get_config().data.top_errors == 0.1
    assert experiment.get_config("small-64").data.top_errors == 1.0


def test_the_shares_of_a_step_are_its_total():
    told = {"identity": 1.0, "reconstruction": 0.2, "change": 0.3}
    split = faceshifter_hear.FaceShifterHear(small_config("faceshifter_hear"), None, None, None).shares(told, 1)
    assert split == {"G": {"id": 1.0, "rec": 0.2, "chg": 0.3}, "D": {}}


@pytest.mark.parametrize(
    ("fields", "code", "named"),
    [
        ({"first_stage": ""}, "hear-without-first-stage", ["'random'"]),
        ({"data.occluded": 1.5}, "hear-occluded", [1.5]),
        ({"data.top_errors": 0.0}, "hear-top-errors", [0.0]),
        ({"data.top_errors": 1.1}, "hear-top-errors", [1.1]),
        ({"identity.robust": "copy", "data.precompute_embeddings": True}, "hear-robust-copy", ["copy"]),
        ({"data.size": 512}, "config-face-size", [512, "256 pixels"]),
        ({"generator.hear": (4,) * 9}, "config-generator", ["9 halvings"]),
        ({"augmentation": "a:b"}, "config-augmentation-unsupported", ["faceshifter_hear"]),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(fields, code, named):
    config = default_config("faceshifter_hear")
    config.data.root, config.first_stage = "somewhere", "random"
    with config.unlocked():
        config.update_from_flattened_dict({"generator.preset": "", **fields})
    with raises_user_error(code, *named):
        check(config)


def test_the_largest_errors_are_a_share_and_at_least_one():
    errors = np.array([0.1, 0.5, 0.2, 0.5, 0.4], np.float32)
    assert faceshifter_hear.largest(errors, 0.4).tolist() == [1, 3]
    assert faceshifter_hear.largest(errors, 0.2).tolist() == [1]  # the first of two that are alike
    assert faceshifter_hear.largest(errors, 0.01).tolist() == [1]
    assert faceshifter_hear.largest(errors, 0.6).tolist() == [1, 3, 4]


@dataclasses.dataclass
class Grey:
    """In the place of AEI-Net: it draws ``level`` whatever it is shown."""

    level: float = 0.5
    config: str = "grey"
    convention: str = "unit"

    def apply(self, variables, target, given):
        assert given["vector"].shape == (6, 8)  # all pictures at once, whatever config.batch_size is
        assert all(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(variables))
        return jnp.full_like(target, self.level)


@pytest.fixture
def shades(tmp_path):
    """Six pictures of two people, each of one grey."""
    for number, grey in enumerate((120, 0, 100, 255, 140, 60)):
        folder = tmp_path / "people" / f"p{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(encode_png(np.full((32, 32, 3), grey, np.uint8)))
    return records.build(tmp_path / "people", tmp_path / "records")


def test_targets_are_the_worst_share_of_the_pictures_and_are_found_again(shades, tmp_path, monkeypatch):
    shown = {"p0": (120, 100, 140), "p1": (0, 255, 60)}  # the data set's order
    greys = np.array(sum(shown.values(), ())) / 255.0
    network = small_method(small_config("faceshifter_hear"))
    config = small_config("faceshifter_hear", **{"data.top_errors": 0.34, "data.source_size": 32, "batch_size": 4})
    method = dataclasses.replace(network, config=config)
    monkeypatch.setattr(families, "build", lambda config: Grey())
    weights = {"params": {"aei": {"w": np.zeros(2, np.float32)}, "hear": {}}}
    compute = embeddings.compute_in_batches

    def checked(program, variables, *arguments):
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(variables))  # sent to the device once
        return compute(program, variables, *arguments)

    monkeypatch.setattr(embeddings, "compute_in_batches", checked)
    state = TrainState(0, 0, {"generator": NetworkState(weights["params"], {}, ())}, {})
    errors = method.heuristic_errors(state, shades, tmp_path)
    np.testing.assert_allclose(errors, np.abs(greys - 0.5), atol=1e-6)
    [file] = tmp_path.glob("vectors-*.npy")
    assert np.load(file).shape == (6, 1, 1)  # one number a picture
    chosen = method.with_targets(state, shades, tmp_path)
    assert [shades.files[row] for row in chosen.targets] == ["p1/1.png", "p1/3.png"]  # black and white

    batches = chosen.batches(shades, tmp_path)
    seen = np.concatenate([next(batches)["target"][:, 0, 0, 0] for _ in range(8)])
    assert set(seen.tolist()) == {0, 255}
    assert set(next(network.batches(shades, tmp_path))["target"][:, 0, 0, 0].tolist()) > {0, 255}  # all of them

    def never(*arguments):
        raise AssertionError

    with monkeypatch.context() as away:
        away.setattr(embeddings, "compute_in_batches", never)
        np.testing.assert_array_equal(method.heuristic_errors(state, shades, tmp_path), errors)
        other = dataclasses.replace(
            state, networks={"generator": NetworkState({"aei": {"w": jnp.ones(2)}, "hear": {}}, {}, ())}
        )
        with pytest.raises(AssertionError):  # another AEI-Net's
            method.heuristic_errors(other, shades, tmp_path)
    monkeypatch.setattr(families, "build", lambda config: Grey(np.nan))
    with raises_user_error("hear-errors-not-finite", "config.first_stage"):
        method.heuristic_errors(other, shades, tmp_path)


def choose_on_two_devices(folder):
    """Of a state that is split over two devices, and of the same on one: tells which targets they choose."""
    people = records.build(folder / "people", folder / "records")
    config = small_config("faceshifter_hear", **{"data.top_errors": 0.5, "data.source_size": 32, "batch_size": 4})
    method = small_method(config)
    run = Runner(method, 4, devices=2, fsdp=2, large=256)
    state = run.init(jax.random.PRNGKey(0))
    told = {"split": sum(not leaf.is_fully_replicated for leaf in jax.tree.leaves(state))}
    told["two"] = loop.with_targets(method, run, state, people, (folder, folder / "two")).targets.tolist()
    told["one"] = method.with_targets(jax.device_get(state), people, folder / "one").targets.tolist()
    told["files"] = [[file.name for file in (folder / name).iterdir()] for name in ("one", "two")]
    print(json.dumps(told))


def test_pictures_that_cannot_be_read_while_targets_are_chosen_are_one_sentence(tmp_path):
    class Unreadable:
        chooses_targets = True

        def with_targets(self, state, people, cache):
            raise OSError(5, "Input/output error", str(cache / "part"))

    run, state = SimpleNamespace(gather=lambda tree: tree), TrainState(0, 0, {}, {})
    with raises_user_error("pictures-cannot-be-read", "Input/output error", tmp_path / "faces", tmp_path / "cache"):
        loop.with_targets(Unreadable(), run, state, None, (tmp_path / "faces", tmp_path / "cache"))


@pytest.mark.slow
def test_a_state_split_over_two_devices_chooses_the_same_targets(shades, tmp_path):
    code = f"import pathlib, {__name__} as here; here.choose_on_two_devices(pathlib.Path({str(tmp_path)!r}))"
    added = {"JAX_NUM_CPU_DEVICES": "2", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    said = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | added, cwd=Path(__file__).parents[2], check=True, timeout=900,
        capture_output=True, text=True,
    )  # fmt: skip
    told = json.loads(said.stdout.splitlines()[-1])
    assert told["split"] > 0
    assert len(told["two"]) == 3
    assert told["one"] == told["two"]
    assert told["files"][0] == told["files"][1]  # found again, wherever the state lies


@pytest.mark.slow
def test_losses_add_up_and_only_hear_net_moves():
    method = small_method(small_config("faceshifter_hear"))
    state = jax.jit(method.init)(jax.random.PRNGKey(0))
    batch = {**small_batch(0), "same_person": np.arange(16) % 2 == 0}
    after, told = jax.jit(method.step)(state, batch, method.frozen)
    total = sum(float(told[name]) for name in ("identity", "reconstruction", "change"))
    np.testing.assert_allclose(float(told["generator"]), total, rtol=1e-5)
    before, now = state.networks["generator"].variables, after.networks["generator"].variables
    for collection in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, now[collection]["aei"], before[collection]["aei"])
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), now[collection]["hear"], before[collection]["hear"])
        assert all(jax.tree.leaves(moved))
    assert "discriminator" not in told

    # The targets have occluders by the step's own numbers.
    random = jax.random.uniform(jax.random.fold_in(state.key, state.step), (16, NUMBERS))
    pictures = faceshifter_hear.occluded(batch["target"] / np.float32(255), random, 0.5)
    floats = {**method.decode(batch), "target": pictures}
    alone = jax.jit(lambda s, f: method.loss(s.networks["generator"].params, s, f, method.frozen))(state, floats)
    np.testing.assert_allclose(alone[0], told["generator"], rtol=1e-5)
    given = method.given(floats, method.frozen)
    own = method.networks.identity.embed(method.frozen, denormalize(pictures, "unit"))
    np.testing.assert_allclose(given["target_vector"], own, rtol=1e-5, atol=1e-6)


@pytest.mark.slow  # traces all networks
def test_both_stages_are_counted():
    counted = flops.by_network(small_method(small_config("faceshifter_hear")))
    assert 0 < counted["HEAR-Net's gradients"] < counted["both stages"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """On an AEI-Net's model folder."""
    folder = tmp_path_factory.mktemp("hear")
    config = small_config("faceshifter_hear", devices=1, batch_size=4, first_stage=str(folder / "aei"))
    config.data.top_errors = 0.5
    config.generator.update({**SHAPE, "hear": (4, 4)})
    config.identity.weights = small_identity(folder / "identity")
    write_first_stage(folder / "aei", config)
    return *whole_and_resumed(folder, config), folder


def write_first_stage(folder, config):
    """An AEI-Net with numbers, as `FaceShifter` leaves it."""
    method = faceshifter_hear.build(config, None)
    aei = families.build(GENERATORS["faceshifter_hear"].first_stage)
    variables = lively(jax.eval_shape(lambda key: aei.init(key, 32), jax.random.key(2)))
    made = dataclasses.replace(
        FaceShifter.model(method, jax.jit(method.init)(jax.random.PRNGKey(0))), generator=aei.config,
        variables=variables,
    )  # fmt: skip
    model_folder.write(folder, made, include_identity=False)


@pytest.mark.slow
def test_it_resumes_to_the_bit_and_leaves_the_first_stage_as_it_was(trained):
    whole, resumed, folder = trained
    assert isinstance(whole.method, faceshifter_hear.FaceShifterHear)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed.state), jax.device_get(whole.state))
    assert (folder / "whole" / "samples" / "0000003.png").is_file()
    assert len(whole.method.targets) == 4  # of eight pictures
    np.testing.assert_array_equal(resumed.method.targets, whole.method.targets)
    first, both = model_folder.read(folder / "aei", with_identity=False), model_folder.read(whole.model)
    for name, tree in first.variables.items():
        jax.tree.map(np.testing.assert_array_equal, both.variables[name]["aei"], tree)


@pytest.mark.slow
def test_its_model_swaps_with_the_targets_own_vectors_and_refuses_to_be_exported(trained, capsys):
    whole, _, folder = trained
    model = model_folder.read(whole.model)
    assert model.generator.family == "faceshifter_hear"
    assert "AEI-Net and HEAR-Net for 32 pixels" in (whole.model / "README.md").read_text(encoding="utf-8")
    swapper = FaceSwapper.from_pretrained(whole.model)
    targets, vectors = faces(2, seed=3), np.eye(2, 8, dtype=np.float32)
    given = {"vector": vectors, "target_vector": swapper.identity_vectors(targets)}
    expected = model.network.apply(model.variables, jnp.asarray(targets / np.float32(255)), given)
    np.testing.assert_allclose(swapper.swap_aligned(targets, vectors), np.asarray(expected) * 255, atol=1.01)
    assert cli.main(["export", str(whole.model), "--output", str(folder / "model.onnx")]) == 2
    assert "faceshifter_hear" in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.slow
def test_another_first_stage_is_refused(trained):
    whole, _, folder = trained
    config = small_config("faceshifter_hear", first_stage=str(whole.model))  # of both stages, not of the first
    config.identity.weights = str(folder / "identity")
    config.generator.update({**SHAPE, "hear": (4, 4)})
    method = faceshifter_hear.build(config, None)
    with raises_user_error("hear-other-first-stage", "config.first_stage"):
        method.begin(jax.jit(method.init)(jax.random.PRNGKey(0)))
