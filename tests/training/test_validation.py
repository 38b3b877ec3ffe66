"""Validation while training: rows, sheets, report; the best state is kept; nothing of the training changes."""

import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from simswap_jax.contrib.rendered import dataset
from simswap_jax.errors import UserError
from simswap_jax.training import experiment, identity, loop, metrics, report, validation
from simswap_jax.training.config import check, default_config
from simswap_jax.training.experiment import flat
from simswap_jax.weights import identity_folder
from tests.support import scripted_evaluator
from tests.support.errors import raises_user_error
from tests.support.progress import log_lines

EVALUATOR = "tests.support.scripted_evaluator:build"
WEIGHTS = {"retrieval": 1.0, "cosine_target": -1.0, "pose_error": -0.1, "self_l1": 0.0}


def test_the_score_is_the_stated_sum_of_what_was_measured():
    values = {"retrieval": 0.75, "pose_error": 5.0, "self_l1": 0.03}
    assert validation.score(values, WEIGHTS) == pytest.approx(0.25)
    assert validation.formula(values, WEIGHTS) == "retrieval − 0.1 pose_error"
    assert validation.formula({"cosine_target": 0.1}, WEIGHTS) == "− cosine_target"


def test_a_score_of_nothing_is_refused():
    with raises_user_error("validation-score", "self_l1, sharpness"):
        validation.score({"self_l1": 0.03, "sharpness": 1.0}, WEIGHTS)


def test_the_default_score_puts_a_good_swap_above_the_cheap_ones():
    """What docs/experiments/celeba.md has of a trained stage, the goals of a longer one, and the two baselines."""
    weights = default_config().validation.score.to_dict()
    names = ("retrieval", "cosine_source", "cosine_target", "pose_error")
    cases = {
        "target": (0.0, 0.03, 1.0, 0.0),
        "eighth": (0.588, 0.43, 0.18, 6.7),
        "pasted": (1.0, 0.9, 0.1, 12.0),
        "goal": (0.8, 0.5, 0.12, 4.0),
        "paper": (0.93, 0.6, 0.05, 2.1),
    }
    scores = {case: validation.score(dict(zip(names, row)), weights) for case, row in cases.items()}
    assert scores["target"] < scores["eighth"] < scores["goal"] < scores["paper"]
    assert scores["pasted"] < scores["goal"]


def test_of_equal_scores_the_first_is_the_best():
    rows = [{"step": 2, "score": 1.0}, {"step": 4, "score": 3.0}, {"step": 6, "score": 3.0}]
    assert validation.best_step(rows) == 4
    assert validation.best_step([]) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six rendered people."""
    folder = tmp_path_factory.mktemp("validation")
    dataset.write_people(folder / "people", dataset.sample_people(3, 6), dataset.person_names(6), 4, 4, 16)
    return folder


@pytest.fixture(scope="module")
def finished(folder):
    """A run of six steps, validated every other; its own checkpoints are far apart."""
    config = config_of(folder)
    config.checkpoint_every = 100
    return loop.train(config, folder / "run")


def test_an_evaluator_refuses_a_method_before_the_first_step(folder, tmp_path, monkeypatch):
    def refuse(self, method):
        raise UserError(f"{type(method).__name__} cannot be measured.", "scripted-refusal")

    monkeypatch.setattr(scripted_evaluator.Scripted, "check", refuse, raising=False)
    with raises_user_error("scripted-refusal", "IdentityTraining"):
        loop.train(config_of(folder), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def config_of(folder):
    config = identity.default_config()
    config.network.widths, config.network.layers = (2,), (1,)
    config.network.size, config.data.size = (16, 16), 16
    config.data.root, config.data.cache, config.data.held_out = str(folder / "people"), str(folder / "records"), 0.5
    config.batch_size, config.steps, config.log_every, config.checkpoint_every, config.keep = 8, 6, 1, 2, 1
    config.validation.every, config.validation.pairs, config.validation.evaluator = 2, 1, EVALUATOR
    return config


def values_of(workdir):
    """The validations without their times."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in validation.rows_of(workdir)]


def losses_of(workdir):
    return [(row["step"], row["identity_loss"]) for row in metrics.read_lines(workdir) if "identity_loss" in row]


def leaves(state):
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(state)}


def checkpoints_of(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())


def test_a_run_leaves_rows_sheets_and_a_report(folder, finished):
    run = folder / "run"
    rows = values_of(run)
    assert [(row["step"], row["retrieval"], row["score"]) for row in rows] == [(2, 1, 1), (4, 3, 3), (6, 2, 2)]
    assert all(row.keys() == {"step", "retrieval", "size", "score"} for row in rows)
    assert len({row["size"] for row in rows}) == 3  # each measured the state of its step
    assert [step for step, _ in losses_of(run)] == [1, 2, 3, 4, 5, 6]
    assert sorted(path.name for path in (run / "validation").iterdir()) == [f"{step:07d}.png" for step in (2, 4, 6)]
    sheet = np.asarray(Image.open(run / "validation" / "0000004.png"))
    assert (sheet == 4).sum() >= 2 * 96 * 96 * 3
    page = (run / "report.html").read_text(encoding="utf-8")
    for word in ("score = retrieval:", "4 (best)", "Score, by which", "Training: identity_loss", "data:image/png"):
        assert word in page, word
    assert "nan" not in page


def test_the_best_state_is_kept_as_model_and_as_checkpoint(folder, finished):
    """Beside the newest one, though no checkpoint was due then."""
    run = folder / "run"
    assert checkpoints_of(run) == [4, 6]
    card = identity_folder.read(run / "best", "")
    assert card.network.config.embedding == 128
    sizes = {row["step"]: row["size"] for row in values_of(run)}
    found = sum(float(abs(np.asarray(leaf)).sum()) for leaf in jax.tree.leaves(card.variables))
    assert found == pytest.approx(sizes[4], rel=1e-6)


@pytest.mark.slow
def test_a_resumed_run_gives_the_same_rows_and_the_same_best(folder, finished, tmp_path):
    config, run = config_of(folder), tmp_path / "run"
    config.steps, config.keep = 5, 3
    loop.train(config, run)
    shutil.move(run / "checkpoints" / "5", tmp_path)
    shutil.move(run / "checkpoints" / "4", tmp_path)  # as if killed before this one was whole: its row is there
    config.steps, config.keep = 6, 1
    with log_lines() as lines:
        loop.train(config, run)
    assert "resuming from step 2" in lines
    assert values_of(run) == values_of(folder / "run")
    assert losses_of(run) == losses_of(folder / "run")
    assert checkpoints_of(run) == [4, 6]
    config.steps = 8
    with log_lines() as lines:
        loop.train(config, run)
    assert "resuming from step 6" in lines
    assert checkpoints_of(run) == [4, 8]  # that step 4 was the best is known from the rows
    assert any("the best is step 4" in line for line in lines)


def test_validation_changes_nothing_of_the_training(folder, finished, tmp_path):
    config = config_of(folder)
    config.validation.every = 0
    without = leaves(loop.train(config, tmp_path / "without").state)
    for name, value in leaves(finished.state).items():
        np.testing.assert_array_equal(value, without[name], err_msg=name)
    assert validation.rows_of(tmp_path / "without") == []
    assert not {"validation", "best"} & {path.name for path in (tmp_path / "without").iterdir()}
    page = (tmp_path / "without" / "report.html").read_text(encoding="utf-8")
    assert "Step 6 of 6 (100%)" in page
    assert "Training: identity_loss" in page
    assert "validation.every" in page  # a field of the experiment
    assert "Validation on held-out identities" not in page


def test_validation_may_begin_and_end_in_a_run_but_not_change(folder):
    config = config_of(folder)
    stored = flat(config.to_dict())
    default = default_config("identity")

    def changed(**fields):
        other = config_of(folder)
        other.validation.update(fields)
        return [name for name, *_ in experiment.differing(stored, other.to_dict(), default)]

    assert changed(every=3) == []
    assert changed(pairs=2) == ["validation.pairs"]
    assert changed(pairs=2, every=0) == []
    stored["validation.every"] = 0
    assert changed(pairs=2, recognition="another.onnx") == []


def test_the_report_shows_the_newest_sheet_that_can_be_read(tmp_path):
    for step, value in ((2, 10), (4, 20), (8, 40)):
        Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(tmp_path / f"{step:07d}.png")
    (found,) = report.sheets(tmp_path, 6, "step {}")
    assert (found.caption, found.picture[0, 0, 0]) == ("step 4", 20)
    (tmp_path / "0000004.png").write_bytes(b"cut short")
    assert report.sheets(tmp_path, 6, "step {}")[0].caption == "step 2"
    assert report.sheets(tmp_path / "none", 6, "") == []


def test_the_report_names_the_fields_that_differ_first(folder):
    table = report.experiment_table(config_of(folder))
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["batch_size"] == ["8", "128"]
    assert rows["seed"] == ["0", ""]
    assert table.folded
    assert list(rows).index("batch_size") < list(rows).index("seed")


@pytest.mark.parametrize(("field", "value"), [("every", -1), ("pairs", 0)])
def test_a_wrong_number_is_refused(folder, field, value):
    config = config_of(folder)
    config.validation[field] = value
    with raises_user_error("config-too-small", f"config.validation.{field}", value):
        check(config)


def test_what_the_evaluator_refuses_ends_the_start(folder, tmp_path):
    config = config_of(folder)
    config.validation.pairs = 6
    with raises_user_error("scripted-refusal"):
        loop.train(config, tmp_path / "run")
    config.validation.evaluator = "nowhere:build"
    with raises_user_error("config-cannot-be-imported", "config.validation.evaluator"):
        loop.train(config, tmp_path / "other")
