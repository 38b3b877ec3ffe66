"""Training: a small experiment from end to end; resume to the bit; what a wrong start says."""

import errno
import importlib.util
import json
import os
import shutil
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax import experiments
from simswap_jax.cli import train as command
from simswap_jax.contrib.rendered import dataset, demo
from simswap_jax.data import records
from simswap_jax.data.loader import pair_batches
from simswap_jax.data.pairs import Pairing, PairingOptions
from simswap_jax.errors import UserError
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.io import contact_sheet
from simswap_jax.io.atomic import CannotWrite
from simswap_jax.io.images import decode_plain
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.training import checkpoints, identity, loop, metrics, simswap
from simswap_jax.training import method as methods
from simswap_jax.training.config import check
from simswap_jax.training.loop import train
from simswap_jax.training.update import SKIPPED
from simswap_jax.weights import identity_folder, model_folder
from tests.support import diverging_method
from tests.support.errors import raises_user_error
from tests.support.progress import listening, log_lines

PEOPLE = 6
CONFIGS = experiments.FOLDER


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of six rendered people, five pictures each."""
    folder = tmp_path_factory.mktemp("rendered") / "people"
    people = dataset.sample_people(3, PEOPLE)
    dataset.write_people(folder, people, dataset.person_names(PEOPLE), 5, 4, demo.SIZE)
    return folder


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """An identity folder of the demo's kind, not trained."""
    fields = identity.default_config().network
    config = IdentityConfig(
        family=fields.family,
        layers=tuple(fields.layers),
        widths=tuple(fields.widths),
        size=tuple(fields.size),
        frame=tuple(fields.size),
        embedding=fields.embedding,
    )
    folder = tmp_path_factory.mktemp("network") / "identity"
    identity_folder.write(folder, config, jax.jit(IdentityNetwork(config).init)(jax.random.PRNGKey(0)), {})
    return folder


def short_demo(root, known, records):
    """The demo's own experiment, with few steps and small batches; one ID block and Adam alone compile sooner."""
    made = demo.simswap_config(root, records, known)
    made.generator.blocks, made.optimizer.generator = 1, "adam"
    made.data.held_out = 0.0
    made.batch_size = 4
    made.steps = 4
    made.log_every, made.sample_every, made.checkpoint_every = 1, 4, 100
    return made


@pytest.fixture
def config(root, known, tmp_path):
    return short_demo(root, known, tmp_path / "records")


@dataclass(frozen=True)
class Finished:
    """A run of ``config`` that was not interrupted: four steps, trained once for all tests that only look at it."""

    workdir: Path
    done: loop.Trained
    lines: list[str]


@pytest.fixture(scope="module")
def finished(root, known, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    with log_lines() as lines:
        done = train(short_demo(root, known, folder / "records"), folder / "run")
    return Finished(folder / "run", done, list(lines))


@pytest.fixture
def workdir(finished, config, tmp_path):
    """A copy of the finished run's workdir, to be resumed or refused; its records are there."""
    config.data.cache = str(finished.workdir.parent / "records")
    return Path(shutil.copytree(finished.workdir, tmp_path / "run"))


def leaves(state):
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(state)}


class Stop:
    """Sends this process a signal when a line says that a step was made."""

    def __init__(self, step, number):
        self.step, self.number = step, number

    def __call__(self, line):
        if line.startswith(f"step {self.step}/"):
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_stopped_and_resumed_equals_uninterrupted_to_the_bit(config, finished, root, tmp_path, number):
    whole, workdir = finished.done, finished.workdir
    if number == signal.SIGINT:
        of_demo = demo.simswap_config(root, root, root)
        config.generator, config.optimizer = of_demo.generator, of_demo.optimizer
        whole, workdir = train(config, tmp_path / "whole"), tmp_path / "whole"
    with listening(Stop(2, number)):
        half = train(config, tmp_path / "halves")
    assert not half.finished
    stopped_at = int(half.state.step)
    assert 2 <= stopped_at < 4
    again = train(config, tmp_path / "halves")
    assert whole.finished
    assert again.finished
    expected, found = leaves(whole.state), leaves(again.state)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)
    # The losses of every step too: the batches came in the same order.
    rows = [metrics.read_lines(folder) for folder in (workdir, tmp_path / "halves")]
    losses = [[(row["step"], row["identity"], row["reconstruction"]) for row in of_run] for of_run in rows]
    assert losses[0] == losses[1]
    assert [step for step, *_ in losses[0]] == [1, 2, 3, 4]
    # The sheet shows the first samples, wherever the training was resumed.
    sheets = [(folder / "samples" / "0000004.png").read_bytes() for folder in (workdir, tmp_path / "halves")]
    assert sheets[0] == sheets[1]


def test_training_leaves_a_model_folder_that_swaps(finished):
    done = finished.done
    model = model_folder.read(done.model)
    assert (model.face_size, model.alignment) == (demo.SIZE, "rendered")
    assert model.generator.convention == "unit"
    swapper = FaceSwapper.from_pretrained(done.model)
    picture = np.full((demo.SIZE, demo.SIZE, 3), 127, np.uint8)
    result = swapper.swap_aligned(picture, swapper.identity(picture, aligned=True))
    assert result.shape == picture.shape
    assert any("img/s" in line and "ETA" in line and "│ G " in line for line in finished.lines)
    told = "\n".join(finished.lines)
    for word in ("devices ", "networks ", "schedule ", "compiling the training step", "compiled, and the first step"):
        assert word in told, word
    page = (finished.workdir / "report.html").read_text(encoding="utf-8")
    for word in ("Step 4 of 4", "Training: reconstruction", "Samples of the training", "step 4", "batch_size"):
        assert word in page, word


@dataclass(frozen=True)
class OnVectors(diverging_method.Diverging):
    """Three numbers, trained on pairs whose batches hold vectors in place of the sources."""

    def batches(self, people, cache):
        pairing = Pairing(people.person, PairingOptions(0, 4))
        return pair_batches(people, pairing, 16, 16, np.zeros((len(people), 2, 8), np.float32))

    def step(self, state, batch, frozen):
        assert set(batch) == {"target", "identity", "same_person"}
        return super().step(state, batch, frozen)

    def sample(self, state, batch, frozen):
        anyone = SimpleNamespace(generator=SimpleNamespace(convention="unit"))
        assert "source" not in simswap.SimSwap.decode(anyone, batch)  # results are the vectors', as in the step
        return {name: np.asarray(batch[name]) for name in ("source", "target")}


def test_a_sheet_shows_swaps_where_the_source_is_the_targets_own_person(finished, root):
    method = finished.done.method
    batch = dict(next(method.batches(records.build(root, finished.workdir.parent / "records"), finished.workdir)))
    others, own = {**batch, "same_person": np.zeros(4, bool)}, {**batch, "same_person": np.array([1, 1, 0, 1], bool)}
    rolled = {**others, "source": np.asarray(batch["source"])[[3, 0, 2, 2]]}
    as_they_are, expected, found = (
        method.sample(finished.done.state, each, method.frozen) for each in (others, rolled, own)
    )
    np.testing.assert_array_equal(as_they_are["source"], batch["source"])
    for name, pictures in expected.items():
        np.testing.assert_array_equal(found[name], pictures)
    assert (found["source"] != batch["source"]).any((1, 2, 3)).tolist() == [True, True, False, True]


def test_the_first_samples_leave_the_batches_where_they_were(root, tmp_path):
    people = records.build(root, tmp_path)
    vectors = np.zeros((len(people), 2, 8), np.float32)
    iterator = pair_batches(people, Pairing(people.person, PairingOptions(0, 4)), 16, 16, vectors)
    first, expected = loop.first_samples(iterator), next(iterator)  # the iterator stands where it stood
    for name, array in expected.items():
        np.testing.assert_array_equal(first[name], array)
    assert first["source"].shape == (4, 16, 16, 3)


def test_sheets_show_the_sources_of_a_training_on_vectors(root, tmp_path, monkeypatch):
    made = identity.default_config()
    made.method = "tests.support.diverging_method:build"
    made.data.root, made.data.cache, made.data.size = str(root), str(tmp_path / "records"), 16
    made.batch_size, made.steps, made.sample_every = 4, 1, 1
    monkeypatch.setattr(diverging_method, "build", lambda config, *_: OnVectors(config))
    train(made, tmp_path / "run")
    sheet = decode_plain((tmp_path / "run" / "samples" / "0000001.png").read_bytes(), "sheet")
    margin, factor = contact_sheet.MARGIN, 96 // 16
    tile = sheet[-margin - 96 : -margin, margin : margin + 96][::factor, ::factor]
    people = records.build(root, tmp_path / "records")
    pair = Pairing(people.person, PairingOptions(0, 4)).pair(3)  # the last row
    np.testing.assert_array_equal(tile, people.picture(pair.source, 16)[:, :: -1 if pair.flip_source else 1])


@pytest.mark.slow
def test_the_frozen_network_does_not_move_and_the_rest_does(config, finished):
    done = finished.done
    method = done.method
    before = jax.jit(method.init)(jax.random.PRNGKey(config.seed))
    for name, network in done.state.networks.items():
        moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), before.networks[name].params, network.params)
        assert max(jax.tree.leaves(moved)) > 0, name
    fresh = identity_folder.read(config.identity.weights, "")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(method.frozen), fresh.variables)


@pytest.mark.slow
def test_identity_training_lowers_its_loss(root, tmp_path):
    made = identity.default_config()
    made.data.root, made.data.cache = str(root), str(tmp_path / "records")
    made.network.widths, made.network.margin_ramp = (4, 8, 8, 8), 1
    made.steps, made.batch_size, made.log_every, made.optimizer.warmup = 30, 16, 1, 1
    done = train(made, tmp_path / "run")
    rows = metrics.read_lines(tmp_path / "run")
    assert np.mean([row["identity_loss"] for row in rows[-5:]]) < 0.8 * np.mean(
        [row["identity_loss"] for row in rows[:5]]
    )
    found = identity_folder.read(done.model, "")
    assert found.ours
    assert found.network.config.embedding == made.network.embedding


def test_margin_logits_are_those_of_the_angle():
    vectors, centres = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 1.0], [0.0, 3.0]])
    found = identity.margin_logits(vectors, centres, np.array([0, 0]), jnp.asarray(0.3), 10.0)
    angle = np.pi / 4
    np.testing.assert_allclose(
        found, [[10 * np.cos(angle + 0.3), 0.0], [10 * np.cos(angle + 0.3), 10.0]], rtol=1e-4, atol=2e-3
    )


@contextmanager
def refused(code, *named):
    with raises_user_error(code, *named) as caught:
        yield
    assert "\n" not in str(caught.value)


def test_another_experiments_workdir_is_refused(config, workdir):
    before = (workdir / "config.json").read_bytes()
    was = config.losses.identity
    config.losses.identity = was + 1.0
    with refused("workdir-of-another-experiment", "config.losses.identity", was, was + 1.0):
        train(config, workdir)
    assert (workdir / "config.json").read_bytes() == before


@pytest.mark.slow
def test_a_workdir_from_before_a_field_came_is_resumed(config, workdir):
    path = workdir / "config.json"
    older = json.loads(path.read_text())
    for name in ("parallel", "fsdp", "accumulate", "nonfinite_limit"):
        del older[name]
    del older["losses"]["feature_matching_end"]
    path.write_text(json.dumps(older))
    config.accumulate = 2
    with refused("workdir-of-another-experiment", "config.accumulate was 1 and is now 2"):
        train(config, workdir)
    config.accumulate, config.steps = 1, 5
    with log_lines() as lines:
        assert int(train(config, workdir).state.step) == 5
    assert "resuming from step 4" in lines


@pytest.mark.slow
def test_a_checkpoint_does_not_know_which_runner_wrote_it(root, tmp_path):
    made = identity.default_config()
    made.data.root, made.data.cache = str(root), str(tmp_path / "records")
    made.network.widths, made.batch_size = (4, 8, 8, 8), 16
    made.parallel, made.steps = "pmap", 1
    first = train(made, tmp_path / "run")
    made.parallel, made.steps = "jit", 2
    with log_lines() as lines:
        second = train(made, tmp_path / "run")
    assert "resuming from step 1" in lines
    assert int(second.state.step) == 2
    assert {name: x.shape for name, x in leaves(first.state).items()} == {
        name: x.shape for name, x in leaves(second.state).items()
    }


@pytest.mark.slow
def test_updates_that_are_not_finite_end_the_training(root, tmp_path):
    made = identity.default_config()
    made.data.root, made.data.cache = str(root), str(tmp_path / "records")
    made.network.widths, made.batch_size, made.nonfinite_limit = (4, 8, 8, 8), 16, 2
    made.network.scale = float("inf")
    with refused("updates-not-finite", "the last 2 updates up to step 2", "no checkpoint yet"):
        train(made, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(
    ("every", "found_at", "kept", "stays"),
    [
        ({"log_every": 3, "checkpoint_every": 2}, 6, [2, 4], "checkpoint of step 4 stays"),
        ({"log_every": 100, "checkpoint_every": 2}, 6, [2, 4], "checkpoint of step 4 stays"),
        ({"log_every": 5, "checkpoint_every": 100}, 5, [], "no checkpoint yet"),
        ({"log_every": 100, "checkpoint_every": 100}, 9, [], "no checkpoint yet"),
    ],
)
def test_networks_that_are_not_finite_are_neither_saved_nor_exported(root, tmp_path, every, found_at, kept, stays):
    """By default, without the guard in the step: the run ends at a log step or checkpoint, and what was saved stays."""
    made = identity.default_config()
    made.method = "tests.support.diverging_method:build"
    made.data.root, made.data.cache, made.batch_size = str(root), str(tmp_path / "records"), 4
    made.steps, made.sample_every, made.keep = 9, 0, 2
    made.update(every)
    assert made.nonfinite_limit == 0
    for _ in range(2):  # again: resumed from what stayed
        with refused("networks-not-finite", f"at step {found_at}", stays, "nonfinite_limit"):
            train(made, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()
    assert sorted(int(path.name) for path in (tmp_path / "run" / "checkpoints").glob("[0-9]*")) == kept
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert all((row["loss"] is None) == (row["step"] >= diverging_method.DIVERGES) for row in rows)


def test_records_alone_are_enough_to_train_on(root, tmp_path):
    made = identity.default_config()
    made.method = "tests.support.diverging_method:build"
    made.data.root, made.data.cache, made.batch_size, made.steps = str(root), str(tmp_path / "records"), 4, 2
    with log_lines() as lines:
        train(made, tmp_path / "first")
    made.data.root = ""
    with log_lines() as again:
        train(made, tmp_path / "second")
    told = [line for line in lines if "pictures to train on" in line]
    assert told
    assert told == [line for line in again if "pictures to train on" in line]
    made.data.cache = str(tmp_path / "empty")
    with raises_user_error("no-data-set"):
        train(made, tmp_path / "third")
    made.data.cache = ""
    with raises_user_error("config-data-root"):
        train(made, tmp_path / "third")


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("batch_size", 1, "config-batch-size"),
        ("steps", 0, "config-too-small"),
        ("method", "deepfake", "method-unknown"),
        ("method", "nowhere:build", "config-cannot-be-imported"),
        ("data.pairing", "random", "config-unknown-choice"),
        ("data.held_out", 1.5, "config-held-out"),
        ("data.held_out_pictures", 1.0, "config-held-out-pictures"),
        ("data.alignment", "crooked", "config-alignment"),
        ("data.size", 62, "config-size-no-multiple"),
        ("data.root", "gs://bucket/faces", "address-not-supported"),
        ("data.cache", "s3://bucket/records", "address-not-supported"),
        ("identity.weights", "https://example.org/arcface.pth", "address-not-supported"),
        ("identity.weights", "nowhere.ckpt", None),
        ("identity.dtype", "float16", "config-unknown-choice"),
        ("generator.convention", "bgr", "config-generator"),
        ("generator.family", "nobody", "config-generator"),
        ("discriminator.norm", "instance", "config-discriminator"),
        ("devices", 64, "devices-too-many"),
        ("parallel", "threads", "config-unknown-choice"),
        ("fsdp", 0, "config-too-small"),
        ("losses.identity_margin", -0.1, "config-identity-margin"),
        ("augmentation", "nowhere:build", "config-cannot-be-imported"),
        ("augmentation_options.colour", -1.0, "augmentation-options"),
        ("augmentation_options.swap", 1.5, "augmentation-options"),
        ("fsdp", 64, "fsdp-larger-than-devices"),
        ("optimizer.decay", "linear", "config-unknown-choice"),
        ("accumulate", 3, "batch-does-not-divide"),
    ],
)
def test_a_wrong_field_is_one_sentence(config, tmp_path, field, value, code):
    with config.unlocked():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError) as caught:
        train(config, tmp_path / "run")
    assert caught.value.code == code or code is None
    assert str(value) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_workdir_in_a_bucket_is_refused_before_anything_is_made(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("gs://bucket/run", Path("gs://bucket/run")):  # a Path has one slash only
        with refused("address-not-supported", "gs:/"):
            train(config, place)
    assert not Path("gs:").exists()


def test_one_person_is_refused(config, root, tmp_path):
    alone = tmp_path / "alone"
    (alone / "p0000").mkdir(parents=True)
    for file in (root / "p0000").iterdir():
        (alone / "p0000" / file.name).write_bytes(file.read_bytes())
    config.data.root = str(alone)
    with raises_user_error("one-person", "p0000"):
        train(config, tmp_path / "run")


@pytest.mark.slow
def test_a_disk_without_room_is_refused_and_loses_nothing(config, workdir, monkeypatch):
    config.steps = 5

    class Usage:
        free = 1000

    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda folder: Usage)
    with refused("disk-full"):
        train(config, workdir)
    monkeypatch.undo()

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.ocp.CheckpointManager, "save", full)
    with refused("checkpoint-not-written", "No space left on device"):
        train(config, workdir)
    monkeypatch.undo()
    assert int(train(config, workdir).state.step) == 5


def test_a_disk_that_fills_up_on_the_way_is_one_sentence(config, tmp_path, monkeypatch):
    """/dev/full in the place of the file of metrics, after the second step's checkpoint."""
    config.steps, config.checkpoint_every = 3, 2
    file, save = tmp_path / "run" / metrics.FILE, loop.Checkpoints.save

    def save_and_fill(self, state, position):
        save(self, state, position)
        file.unlink()
        file.symlink_to("/dev/full")

    monkeypatch.setattr(loop.Checkpoints, "save", save_and_fill)
    with refused("workdir-write-failed", "No space left on device"):
        train(config, tmp_path / "run")
    monkeypatch.undo()
    file.unlink()
    assert int(train(config, tmp_path / "run").state.step) == 3


def test_pictures_that_cannot_be_read_any_more_are_one_sentence(tmp_path):
    def batches():
        yield 1
        raise OSError(errno.EIO, "Input/output error")

    iterator = batches()
    with loop.picture_errors(tmp_path / "faces", tmp_path):
        assert next(iterator) == 1
    refusal = raises_user_error("pictures-cannot-be-read", "Input/output error", tmp_path / "faces")
    with refusal, loop.picture_errors(tmp_path / "faces", tmp_path):
        next(iterator)
    full = CannotWrite(tmp_path / "part", OSError(errno.ENOSPC, "No space left on device"))
    with raises_user_error("cannot-write", tmp_path / "part"), loop.picture_errors(tmp_path / "faces", tmp_path):
        raise full


@pytest.mark.slow
def test_a_damaged_metrics_file_is_cut_at_the_damage(config, workdir):
    with (workdir / metrics.FILE).open("a") as file:
        file.write('{"step": 5, "iden')
    config.steps = 5
    train(config, workdir)
    assert [row["step"] for row in metrics.read_lines(workdir)] == [1, 2, 3, 4, 5]


def experiment(stem):
    spec = importlib.util.spec_from_file_location(stem, CONFIGS / f"{stem}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ABLATIONS = [("ablations", name) for name in experiment("ablations").ABLATIONS]
STAGES = [
    (stem, stage) for stem in ("celeba_112", "faces_112") for stage in experiment(stem).STAGES if stage != "first"
]
EXPERIMENTS = [(name, None) for name in experiments.names() if name != "ablations"]
EXPERIMENTS += ABLATIONS + STAGES
IN_SMALL = ("celeba_112", "celeba_64", "simswap_224")


@pytest.mark.slow
@pytest.mark.parametrize("stem", IN_SMALL)
def test_an_experiment_trains_in_small(stem, root, known, tmp_path):
    small = experiment(stem).get_test_config()
    small.data.root, small.data.cache = str(root), str(tmp_path / "records")
    small.data.held_out = 0.0
    small.identity.weights = str(known)
    done = train(small, tmp_path / "run")
    assert done.finished
    assert all(np.isfinite(value) for row in metrics.read_lines(tmp_path / "run") for value in row.values())


@pytest.mark.parametrize(("stem", "name"), EXPERIMENTS, ids=lambda value: value)
def test_every_experiment_is_whole(stem, name):
    """It can be read, written down and built, and the small one is the same but for sizes and lengths."""
    module = experiment(stem)
    words = [] if name is None else [name]
    made, small = module.get_config(*words), module.get_test_config(*words)
    assert json.loads(made.to_json())
    for each in (made, small):
        each.data.root = "somewhere"
        check(each)
        if each.method == "simswap":
            simswap.generator_config(each, 512)
    assert made.get("losses") == small.get("losses")
    assert made.optimizer == small.optimizer
    assert (made.accumulate, made.nonfinite_limit) == (small.accumulate, small.nonfinite_limit)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ABLATIONS[-4],
        pytest.param("simswap_512", None, marks=pytest.mark.slow),
        pytest.param("simswap_224_deep", None, marks=pytest.mark.slow),
    ],
)
def test_an_experiments_step_can_be_traced(stem, name, known):
    """The small experiment's step, without compiling it: shapes go in and the same shapes come out."""
    small = experiment(stem).get_test_config(*([] if name is None else [name]))
    small.identity.weights = str(known)
    method = methods.build(small, None)
    before = jax.eval_shape(method.init, jax.random.PRNGKey(0))
    batch, size, source = small.batch_size, small.data.size, small.data.source_size
    pictures = {
        "target": jax.ShapeDtypeStruct((batch, size, size, 3), np.uint8),
        "source": jax.ShapeDtypeStruct((batch, source, source, 3), np.uint8),
        "same_person": jax.ShapeDtypeStruct((batch,), np.bool_),
    }
    after, told = jax.eval_shape(method.step, before, pictures, method.frozen)
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, before)
    assert SKIPPED in told


def test_an_unknown_ablation_names_the_known(tmp_path):
    words = ["--config", f"{CONFIGS / 'ablations.py'}:sFM", "--workdir", str(tmp_path)]
    with raises_user_error("command-line", "oFM, nFM"):
        command.parse(words)
    made, _ = command.parse([*words[:1], f"{CONFIGS / 'ablations.py'}:not_wFM_2", *words[2:]])
    assert (made.losses.feature_matching_first, made.losses.feature_matching_end) == (0, 2)


def test_the_command_line_sets_fields(tmp_path):
    path = CONFIGS / "simswap_224.py"
    made, workdir = command.parse(
        ["--config", str(path), "--workdir", str(tmp_path), "--config.batch_size=32", "--config.losses.identity=20.0"]
    )
    assert (made.batch_size, made.losses.identity, workdir) == (32, 20.0, tmp_path)


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--workdir", "x"], "command-line-incomplete", "--config"),
        (["--config", str(CONFIGS / "simswap_224.py")], "command-line-incomplete", "--workdir"),
        (["--config", "nowhere.py", "--workdir", "x"], "experiment-file", "nowhere.py"),
        (
            ["--config", str(CONFIGS / "simswap_224.py"), "--workdir", "x", "--config.batchsize=3"],
            "config-field",
            "batchsize",
        ),
        (["--config", str(CONFIGS / "simswap_224.py"), "--workdir", "x", "extra"], "flag-not-understood", "'extra'"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(words, code, named):
    with pytest.raises(UserError) as caught:
        command.parse(words)
    assert named in str(caught.value)
    assert caught.value.code in (code, "command-line")


def test_unknown_method_names_the_known(config):
    config.method = "other"
    with raises_user_error(
        "method-unknown", "release, faceshifter, faceshifter_hear, deepfakes, fsgan, ipgan, identity"
    ):
        methods.build(config, None)


@pytest.mark.slow
def test_a_method_from_outside_trains(root, tmp_path):
    """``config.method`` names a module that the package knows nothing of."""
    made = identity.default_config()
    made.method = "tests.support.outside_method:build"
    made.data.root, made.data.cache = str(root), str(tmp_path / "records")
    made.network.widths, made.steps, made.batch_size = (4, 8, 8, 8), 1, 8
    assert type(train(made, tmp_path / "run").method).__name__ == "Renamed"
    made.data.size = 33
    with raises_user_error("outside-size", 33):
        train(made, tmp_path / "other")


@pytest.mark.slow
def test_a_run_starts_from_the_networks_of_another(config, finished, tmp_path):
    config.init_from, config.seed = str(finished.workdir), 1
    with log_lines() as lines:
        train(config, tmp_path / "second")
    assert f"initialized from the networks of {finished.workdir}" in lines
    with log_lines() as lines:
        train(config, tmp_path / "second")
    assert "resuming from step 4" in lines  # a second time, it resumes from its own checkpoint
    config.init_from = str(tmp_path / "nothing")
    with raises_user_error("init-from-no-checkpoint"):
        train(config, tmp_path / "third")
