"""The paper's ablation as one run. The trainings themselves are stood in for; `test_a_real_sweep` makes them."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from simswap_jax.cli import sweep as command
from simswap_jax.contrib.rendered import dataset, demo
from simswap_jax.errors import UserError
from simswap_jax.evaluation import sweep
from simswap_jax.evaluation.sweep import SweepRequest
from simswap_jax.training.config import default_config
from tests.support.errors import raises_user_error
from tests.support.small_model import write_small_model


def test_the_ablations_are_the_papers():
    base = default_config()
    names = sweep.names(sweep.feature_maps(base))
    assert len(names) == len(set(names)) == 13
    made = {name: sweep.ablated(base, name).losses for name in names}
    assert made["nFM"].feature_matching == 0
    assert made["oFM"].feature_matching_first == 0
    assert made["oFM_fm5"].feature_matching == 5
    assert made["oFM_id20"].identity == made["wFM_id20"].identity == 20
    assert made["wFM_id20"].feature_matching_first == base.losses.feature_matching_first == 3
    assert [made[f"wFM_{m}"].feature_matching_first for m in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert [made[f"not_wFM_{m}"].feature_matching_end for m in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert base.losses == default_config().losses  # copies
    with pytest.raises(UserError) as caught:
        sweep.ablated(base, "wFM_5")
    assert "wFM_5" in str(caught.value)


def test_words_are_divided_between_sweep_and_experiment():
    ours, theirs = command.divided(["--workdir", "w", "--config", "a.py", "--config.steps=3", "--variants", "oFM"])
    assert ours == ["--workdir", "w", "--variants", "oFM"]
    assert theirs == ["--config", "a.py", "--config.steps=3"]


def test_variants_are_read_and_put_in_the_papers_order(tmp_path):
    options = command.parser().parse_args(["--workdir", str(tmp_path), "--variants", "nFM, oFM,"])
    request = command.request_of(options, None)
    assert request.variants == ("nFM", "oFM")
    assert sweep.chosen(request.variants, ["oFM", "nFM", "wFM_1"]) == ["oFM", "nFM"]
    assert sweep.chosen(None, ["oFM", "nFM"]) == ["oFM", "nFM"]


HOLDS_OUT = default_config()
HOLDS_OUT.data.held_out = 0.12


@pytest.mark.parametrize(
    ("request_", "code", "named"),
    [
        ({"variants": ("oFM", "xFM")}, "variant-unknown", "xFM"),
        ({"variants": ()}, "no-variants", "oFM"),
        ({"config": HOLDS_OUT}, "public-weights-offline", "--judge"),
        ({"config": HOLDS_OUT, "recogniser": "j.onnx"}, "public-weights-missing", "j.onnx"),
        ({"config": default_config()}, "sweep-holds-nobody-out", "config.data.held_out"),
        ({"config": HOLDS_OUT, "variants": ("xFM",)}, "variant-unknown", "xFM"),
        ({"pairs": 0}, "no-pairs", "--pairs"),
        ({"people": -3}, "people-few", "--people"),
        ({"identity_steps": 0}, "identity-steps", 0),
        ({"steps": 0}, "sweep-steps", 0),
        ({"pose": "none.onnx"}, "public-weights-missing", "none.onnx"),
    ],
)
def test_mistakes_get_one_sentence(request_, code, named, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "sweep_experiment", lambda *words: pytest.fail("something is made"))
    with raises_user_error(code, named):
        sweep.sweep(SweepRequest(tmp_path / "w", **request_))


def test_at_the_demos_size_feature_matching_weighs_something(tmp_path, monkeypatch):
    (tmp_path / "people").mkdir()
    ended = SimpleNamespace(finished=True, model=tmp_path / "model")
    monkeypatch.setattr(demo, "train", lambda config, workdir: ended)
    monkeypatch.setattr(demo, "use_cpu_cores", lambda batch: None)
    config, protocol = sweep.experiment(SweepRequest(tmp_path))
    assert protocol == "synthetic"
    assert sweep.feature_maps(config) == sweep.SMALL_MAPS
    demos = demo.simswap_config(tmp_path, tmp_path, tmp_path).losses.feature_matching
    assert config.losses.feature_matching == 2.0 > 10 * demos
    assert sweep.ablated(config, "oFM_fm5").losses.feature_matching == 1.0
    assert (config.init_from, config.steps) == (str(tmp_path / "first"), demo.SWEEP_STEPS)


@pytest.fixture
def trainings(monkeypatch):
    """Every training writes the same small model at once; the list of what was trained, and how."""
    made = []

    def stand_in(config, workdir):
        made.append((workdir.name, config.losses.to_dict(), config.steps))
        write_small_model(workdir / "model", card={"step": config.steps, "held_out": config.data.held_out})
        (workdir / "config.json").write_text(config.to_json())
        return SimpleNamespace(finished="nFM" not in workdir.name or len(made) > 2, model=workdir / "model")

    monkeypatch.setattr(sweep, "train", stand_in)
    monkeypatch.setattr(demo, "EACH", 4)
    monkeypatch.setattr(demo, "SIZE", 32)
    monkeypatch.setattr(demo, "HELD_OUT", 0.5)
    monkeypatch.setattr(demo, "sweep_experiment", experiment)
    return made


def experiment(workdir, people_count, identity_steps, steps):
    people = workdir / "people"
    if not people.exists():
        who = dataset.sample_people(1, people_count)
        dataset.write_people(people, who, dataset.person_names(people_count), demo.EACH, 2, demo.SIZE)
    config = demo.simswap_config(people, workdir, workdir)
    config.steps = 9
    return config, "synthetic"


def test_a_training_counts_as_made_only_if_it_is_this_experiments(trainings, tmp_path):
    config = sweep.ablated(default_config(), "oFM")
    config.steps = 9
    folder = tmp_path / "oFM"
    assert sweep.train_each({folder: config})
    assert sweep.train_each({folder: config})
    assert len(trainings) == 1
    with raises_user_error("workdir-of-another-experiment", "losses.feature_matching"):
        sweep.train_each({folder: sweep.ablated(config, "nFM")})
    config.steps = 8
    with raises_user_error("trained-for-more-steps", folder, "9 steps", 8):
        sweep.train_each({folder: config})
    config.steps = 10
    assert sweep.train_each({folder: config})
    (folder / "config.json").unlink()  # nobody knows whose model that is
    assert sweep.train_each({folder: config})
    assert [steps for _, _, steps in trainings] == [9, 10, 10]


def test_the_data_of_a_sweep_may_lie_in_the_home(trainings, tmp_path, monkeypatch):
    config = default_config()
    config.data.root = "~/faces"
    asked = []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sweep, "experiment", lambda request: (config, "pairs"))
    monkeypatch.setattr(sweep, "evaluate", asked.append)
    assert sweep.sweep(SweepRequest(tmp_path / "w", variants=("oFM",)))
    assert asked[0].data == tmp_path / "faces"


def test_variants_of_other_steps_or_people_do_not_join_a_workdir(trainings, tmp_path, monkeypatch):
    config = demo.simswap_config(tmp_path, tmp_path, tmp_path)
    monkeypatch.setattr(sweep, "experiment", lambda request: (config, "synthetic"))
    monkeypatch.setattr(sweep, "evaluate", lambda request: {})
    asked = SweepRequest(tmp_path / "w", variants=("oFM",), steps=4, people=24)
    assert sweep.sweep(asked)
    with raises_user_error("workdir-of-another-request", "ablation: steps was 4 and is now 8"):
        sweep.sweep(replace(asked, variants=("oFM", "nFM"), steps=8))
    with raises_user_error("workdir-of-another-request", "people was 24 and is now 600"):
        sweep.sweep(replace(asked, people=600))
    assert sweep.sweep(replace(asked, variants=("oFM", "wFM_1"), pairs=8))  # more variants, evaluated by other pairs
    assert [name for name, _, _ in trainings] == ["oFM", "wFM_1"]


def test_variants_of_an_experiment_of_ones_own_are_trained_on(trainings, tmp_path, monkeypatch):
    config = default_config()
    config.data.root, config.data.held_out = str(tmp_path), 0.12
    (tmp_path / "j.onnx").write_bytes(b"a recogniser")
    monkeypatch.setattr(sweep, "evaluate", lambda request: {})
    asked = SweepRequest(tmp_path / "w", config, ("oFM",), steps=4, recogniser=str(tmp_path / "j.onnx"))
    assert sweep.sweep(asked)
    assert sweep.sweep(replace(asked, steps=8))
    assert [(name, steps) for name, _, steps in trainings] == [("oFM", 4), ("oFM", 8)]


@pytest.mark.slow
def test_a_sweep_trains_each_variant_once_and_ends_in_one_table(trainings, tmp_path):
    words = ["--workdir", str(tmp_path), "--people", "12", "--pairs", "8", "--variants", "nFM,oFM"]
    assert command.main(words) == 3  # the second training was stopped
    assert [name for name, _, _ in trainings] == ["oFM", "nFM"]
    shutil.rmtree(tmp_path / "variants/nFM/model")  # as if it had not come to its end
    assert command.main(words) == 0
    assert [name for name, _, _ in trainings] == ["oFM", "nFM", "nFM"]
    assert trainings[0][1]["feature_matching_first"] == 0
    assert trainings[1][1]["feature_matching"] == 0
    metrics = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    assert [row for row in metrics["rows"] if row in ("oFM", "nFM")] == ["oFM", "nFM"]
    assert metrics["protocol"]["name"] == "synthetic"
    page = (tmp_path / "evaluation/index.html").read_text()
    assert "ID retrieval against reconstruction L1" in page
    assert "SimSwap (published)" in (tmp_path / "evaluation/table.md").read_text()


def test_the_evaluation_gets_the_sweeps_networks(tmp_path):
    request = SweepRequest(tmp_path, recogniser="j.onnx", landmarks=tmp_path / "l.onnx")
    asked = sweep.evaluation_of(request, tmp_path / "people", "pairs", {"oFM": tmp_path / "m"})
    assert (asked.recogniser, asked.landmarks, asked.protocol, asked.pairs) == (
        "j.onnx",
        tmp_path / "l.onnx",
        "pairs",
        336,
    )
    assert asked.models == {"oFM": tmp_path / "m"}
    assert asked.output == tmp_path / "evaluation"
    assert sweep.evaluation_of(replace(request, pairs=7), tmp_path, "pairs", {}).pairs == 7


@pytest.mark.slow
def test_a_real_sweep(tmp_path):
    """Three variants at the demo's size with a few steps each, from rendering to the table."""
    words = ["--workdir", str(tmp_path), "--people", "24", "--identity-steps", "4", "--steps", "4"]
    assert command.main([*words, "--variants", "oFM,nFM,wFM_2", "--pairs", "12"]) == 0
    metrics = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    assert {"oFM", "nFM", "wFM_2", "truth", "target"} <= set(metrics["rows"])
