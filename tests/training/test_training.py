"""Training: the demo's own configuration, shrunk; resume to the bit; what a wrong start says."""

import errno
import importlib.util
import json
import os
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.cli import train as command
from simswap_jax.contrib.rendered import dataset, demo
from simswap_jax.errors import UserError
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.training import checkpoints, guard, identity, loop, metrics, simswap
from simswap_jax.training import method as methods
from simswap_jax.training.config import check
from simswap_jax.training.loop import train
from simswap_jax.weights import identity_folder, model_folder

PEOPLE = 6
CONFIGS = Path(__file__).parents[2] / "ml_collections_configs"


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
    identity_folder.write(folder, config, IdentityNetwork(config).init(jax.random.PRNGKey(0)), {})
    return folder


@pytest.fixture
def config(root, known, tmp_path):
    """The demo's own experiment, with few steps and small batches; one ID block and Adam alone compile sooner."""
    made = demo.simswap_config(root, tmp_path / "records", known)
    made.generator.blocks, made.optimizer.muon_learning_rate = 1, 0.0
    made.data.held_out = 0.0
    made.batch_size = 4
    made.steps = 4
    made.log_every, made.sample_every, made.checkpoint_every = 1, 4, 100
    return made


def leaves(state):
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(state)}


def silent(line):
    del line


class Stop:
    """Sends this process a signal when a line says that a step was made."""

    def __init__(self, step, number):
        self.step, self.number = step, number

    def __call__(self, line):
        if line.startswith(f"step {self.step}/"):
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed_equals_uninterrupted_to_the_bit(config, root, tmp_path, number):
    if number == signal.SIGINT:
        of_demo = demo.simswap_config(root, root, root)
        config.generator, config.optimizer = of_demo.generator, of_demo.optimizer
    whole = train(config, tmp_path / "whole", say=silent)
    half = train(config, tmp_path / "halves", say=Stop(2, number))
    assert not half.finished
    stopped_at = int(half.state.step)
    assert 2 <= stopped_at < 4
    again = train(config, tmp_path / "halves", say=silent)
    assert whole.finished
    assert again.finished
    expected, found = leaves(whole.state), leaves(again.state)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)
    # The losses of every step too: the batches came in the same order.
    rows = [metrics.read_lines(tmp_path / name) for name in ("whole", "halves")]
    losses = [[(row["step"], row["identity"], row["reconstruction"]) for row in of_run] for of_run in rows]
    assert losses[0] == losses[1]
    assert [step for step, *_ in losses[0]] == [1, 2, 3, 4]


def test_training_leaves_a_model_folder_that_swaps(config, root, tmp_path):
    lines = []
    done = train(config, tmp_path / "run", say=lines.append)
    model = model_folder.read(done.model)
    assert (model.face_size, model.alignment) == (demo.SIZE, "rendered")
    assert model.generator.convention == "unit"
    swapper = FaceSwapper.from_pretrained(done.model)
    picture = np.full((demo.SIZE, demo.SIZE, 3), 127, np.uint8)
    result = swapper.swap_aligned(picture, swapper.identity(picture, aligned=True))
    assert result.shape == picture.shape
    assert (tmp_path / "run" / "samples" / "0000004.png").is_file()
    assert any("images/s" in line and "ETA" in line for line in lines)


def test_the_frozen_network_does_not_move_and_the_rest_does(config, tmp_path):
    done = train(config, tmp_path / "run", say=silent)
    method = done.method
    before = method.init(jax.random.PRNGKey(config.seed))
    for name, network in done.state.networks.items():
        moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), before.networks[name].params, network.params)
        assert max(jax.tree.leaves(moved)) > 0, name
    fresh = identity_folder.read(config.identity.weights, "")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(method.frozen), fresh.variables)


def test_best_is_kept_by_the_score_handed_in(config, tmp_path):
    config.score_every = 1
    seen = []

    def score(method, state):
        seen.append(int(state.step))
        return {1: 0.1, 2: 0.9, 3: 0.5, 4: 0.2}[int(state.step)]

    train(config, tmp_path / "run", score=score, say=silent)
    assert seen == [1, 2, 3, 4]
    assert model_folder.read(tmp_path / "run" / "best").card["step"] == 2
    assert model_folder.read(tmp_path / "run" / "model").card["step"] == 4


def test_identity_training_lowers_its_loss(root, tmp_path):
    made = identity.default_config()
    made.data.root, made.data.cache = str(root), str(tmp_path / "records")
    made.network.widths, made.network.margin_ramp = (4, 8, 8, 8), 1
    made.steps, made.batch_size, made.log_every, made.optimizer.warmup = 30, 16, 1, 1
    done = train(made, tmp_path / "run", say=silent)
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


def refused(config, workdir):
    with pytest.raises(UserError) as caught:
        train(config, workdir, say=silent)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_another_experiments_workdir_is_refused(config, tmp_path):
    config.steps = 1
    train(config, tmp_path / "run", say=silent)
    before = (tmp_path / "run" / "config.json").read_bytes()
    was = config.losses.identity
    config.losses.identity = was + 1.0
    assert f"config.losses.identity was {was} and is now {was + 1.0}" in refused(config, tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_a_workdir_from_before_a_field_came_goes_on(config, tmp_path):
    config.steps = 1
    train(config, tmp_path / "run", say=silent)
    path = tmp_path / "run" / "config.json"
    older = json.loads(path.read_text())
    for name in ("parallel", "fsdp", "accumulate", "nonfinite_limit"):
        del older[name]
    del older["losses"]["feature_matching_end"]
    path.write_text(json.dumps(older))
    config.accumulate = 2
    assert "config.accumulate was 1 and is now 2" in refused(config, tmp_path / "run")
    config.accumulate, config.steps = 1, 2
    lines = []
    assert int(train(config, tmp_path / "run", say=lines.append).state.step) == 2
    assert "going on from step 1" in lines


def test_a_checkpoint_does_not_know_which_runner_wrote_it(root, tmp_path):
    made = identity.default_config()
    made.data.root, made.data.cache = str(root), str(tmp_path / "records")
    made.network.widths, made.batch_size = (4, 8, 8, 8), 16
    made.parallel, made.steps = "pmap", 1
    first = train(made, tmp_path / "run", say=silent)
    made.parallel, made.steps = "jit", 2
    lines = []
    second = train(made, tmp_path / "run", say=lines.append)
    assert "going on from step 1" in lines
    assert int(second.state.step) == 2
    assert {name: x.shape for name, x in leaves(first.state).items()} == {
        name: x.shape for name, x in leaves(second.state).items()
    }


def test_updates_that_are_not_finite_end_the_training(root, tmp_path):
    made = identity.default_config()
    made.data.root, made.data.cache = str(root), str(tmp_path / "records")
    made.network.widths, made.batch_size, made.nonfinite_limit = (4, 8, 8, 8), 16, 2
    made.network.scale = float("inf")
    sentence = refused(made, tmp_path / "run")
    assert "the last 2 updates up to step 2 were not finite and were not made; there is no checkpoint yet" in sentence
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("batch_size", 1, "config.batch_size is 1"),
        ("steps", 0, "config.steps is 0"),
        ("method", "deepfake", "there is no method 'deepfake'"),
        ("data.pairing", "random", "config.data.pairing is 'random'"),
        ("data.held_out", 1.5, "config.data.held_out is 1.5"),
        ("data.alignment", "crooked", "config.data.alignment is 'crooked'"),
        ("data.size", 62, "config.data.size is 62"),
        ("data.root", "", "config.data.root is empty"),
        ("identity.weights", "nowhere.ckpt", "nowhere.ckpt"),
        ("generator.convention", "bgr", "bgr"),
        ("devices", 64, "config.devices is 64"),
        ("parallel", "threads", "config.parallel is 'threads'"),
        ("fsdp", 0, "config.fsdp is 0"),
        ("losses.identity_margin", -0.1, "config.losses.identity_margin is -0.1"),
        ("corruption.colour", -1.0, "config.corruption.colour is -1.0"),
        ("corruption.swap", 1.5, "config.corruption.swap 1.5"),
        ("fsdp", 64, "config.fsdp is 64, a mesh larger than"),
        ("optimizer.muon_learning_rate", -0.02, "config.optimizer.muon_learning_rate is -0.02"),
        ("accumulate", 3, "3 micro-batches"),
    ],
)
def test_a_wrong_field_is_one_sentence(config, tmp_path, field, value, said):
    with config.unlocked():
        config.update_from_flattened_dict({field: value})
    assert said in refused(config, tmp_path / "run")


def test_one_person_is_refused(config, root, tmp_path):
    alone = tmp_path / "alone"
    (alone / "p0000").mkdir(parents=True)
    for file in (root / "p0000").iterdir():
        (alone / "p0000" / file.name).write_bytes(file.read_bytes())
    config.data.root = str(alone)
    assert "one person" in refused(config, tmp_path / "run")


def test_a_disk_without_room_is_refused_and_loses_nothing(config, tmp_path, monkeypatch):
    config.steps = 1
    train(config, tmp_path / "run", say=silent)
    config.steps = 2

    class Usage:
        free = 1000

    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda folder: Usage)
    assert "MiB free" in refused(config, tmp_path / "run")
    monkeypatch.undo()

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.ocp.CheckpointManager, "save", full)
    assert "make room" in refused(config, tmp_path / "run")
    monkeypatch.undo()
    assert int(train(config, tmp_path / "run", say=silent).state.step) == 2


def test_a_disk_that_fills_up_on_the_way_is_one_sentence(config, tmp_path):
    """/dev/full in the place of the file of metrics, after the second step's checkpoint."""
    config.steps, config.score_every, config.checkpoint_every = 3, 2, 2
    file = tmp_path / "run" / metrics.FILE

    def score(method, state):
        file.unlink()
        file.symlink_to("/dev/full")
        return 0.0

    with pytest.raises(UserError, match=r"cannot be written any more \(No space left on device\)"):
        train(config, tmp_path / "run", score=score, say=silent)
    file.unlink()
    config.score_every = 0
    assert int(train(config, tmp_path / "run", say=silent).state.step) == 3


def test_pictures_that_cannot_be_read_any_more_are_one_sentence(tmp_path):
    def batches():
        yield 1
        raise OSError(errno.EIO, "Input/output error")

    iterator = batches()
    assert loop.read(iterator, tmp_path / "faces", tmp_path) == 1
    with pytest.raises(UserError, match=r"cannot be read any more \(Input/output error\); look at .*faces"):
        loop.read(iterator, tmp_path / "faces", tmp_path)


def test_a_damaged_metrics_file_is_cut_at_the_damage(config, tmp_path):
    config.steps = 2
    train(config, tmp_path / "run", say=silent)
    with (tmp_path / "run" / metrics.FILE).open("a") as file:
        file.write('{"step": 3, "iden')
    config.steps = 3
    train(config, tmp_path / "run", say=silent)
    assert [row["step"] for row in metrics.read_lines(tmp_path / "run")] == [1, 2, 3]


def experiment(stem):
    spec = importlib.util.spec_from_file_location(stem, CONFIGS / f"{stem}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ABLATIONS = [("ablations", name) for name in experiment("ablations").ABLATIONS]
STAGES = [("celeba_112", stage) for stage in experiment("celeba_112").STAGES if stage != "first"]
EXPERIMENTS = [(path.stem, None) for path in sorted(CONFIGS.glob("*.py")) if path.stem != "ablations"]
EXPERIMENTS += ABLATIONS + STAGES


@pytest.mark.parametrize("stem", ["celeba_64", "celeba_112", pytest.param("simswap_224", marks=pytest.mark.slow)])
def test_an_experiment_trains_in_small(stem, root, known, tmp_path):
    small = experiment(stem).get_test_config()
    small.data.root, small.data.cache = str(root), str(tmp_path / "records")
    small.data.held_out = 0.0
    small.identity.weights = str(known)
    done = train(small, tmp_path / "run", say=silent)
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
        simswap.generator_config(each, 512)
    assert made.losses == small.losses
    assert made.optimizer == small.optimizer
    assert (made.accumulate, made.nonfinite_limit) == (small.accumulate, small.nonfinite_limit)


@pytest.mark.parametrize(("stem", "name"), [("simswap_512", None), ("simswap_224_deep", None), ABLATIONS[-4]])
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
    assert guard.SKIPPED in told


def test_an_unknown_ablation_names_the_known(tmp_path):
    words = ["--config", f"{CONFIGS / 'ablations.py'}:sFM", "--workdir", str(tmp_path)]
    with pytest.raises(UserError, match="oFM, nFM"):
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
    ("words", "said"),
    [
        (["--workdir", "x"], "--config is missing"),
        (["--config", str(CONFIGS / "simswap_224.py")], "--workdir is missing"),
        (["--config", "nowhere.py", "--workdir", "x"], "nowhere.py"),
        (["--config", str(CONFIGS / "simswap_224.py"), "--workdir", "x", "--config.batchsize=3"], "batchsize"),
        (["--config", str(CONFIGS / "simswap_224.py"), "--workdir", "x", "extra"], "'extra'"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(words, said):
    with pytest.raises(UserError, match=said):
        command.parse(words)


def test_unknown_method_names_the_known(config):
    config.method = "other"
    with pytest.raises(UserError, match="simswap, identity"):
        methods.build(config, None)


def test_a_run_begins_with_the_networks_of_another(config, tmp_path):
    train(config, tmp_path / "first", say=silent)
    config.start, config.seed = str(tmp_path / "first"), 1
    lines = []
    train(config, tmp_path / "second", say=lines.append)
    assert f"beginning with the networks of {tmp_path / 'first'}" in lines
    lines.clear()
    train(config, tmp_path / "second", say=lines.append)
    assert "going on from step 4" in lines  # taken up again, it goes on from its own checkpoint
    config.start = str(tmp_path / "nothing")
    with pytest.raises(UserError, match="there is no whole checkpoint; name the workdir"):
        train(config, tmp_path / "third", say=silent)
