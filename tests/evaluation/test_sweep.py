"""The paper's ablation as one run. The trainings themselves are stood in for; `test_a_real_sweep` makes them."""

import json
import shutil
from types import SimpleNamespace

import pytest

from simswap_jax.cli import main as cli
from simswap_jax.contrib.rendered import demo
from simswap_jax.errors import UserError
from simswap_jax.evaluation import options as evaluation_options
from simswap_jax.evaluation import sweep
from simswap_jax.training import ablations
from simswap_jax.training.config import default_config
from tests.support.small_model import write_small_model


def test_the_ablations_are_the_papers():
    base = default_config()
    names = ablations.names(ablations.feature_maps(base))
    assert len(names) == len(set(names)) == 13
    made = {name: ablations.ablated(base, name).losses for name in names}
    assert made["nFM"].feature_matching == 0
    assert made["oFM"].feature_matching_first == 0
    assert made["oFM_fm5"].feature_matching == 5
    assert made["oFM_id20"].identity == made["wFM_id20"].identity == 20
    assert made["wFM_id20"].feature_matching_first == base.losses.feature_matching_first == 3
    assert [made[f"wFM_{m}"].feature_matching_first for m in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert [made[f"not_wFM_{m}"].feature_matching_end for m in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert base.losses == default_config().losses  # copies
    with pytest.raises(UserError, match="choose one of oFM, nFM"):
        ablations.ablated(base, "wFM_5")


def test_words_are_divided_between_sweep_and_experiment():
    ours, theirs = sweep.divided(["--workdir", "w", "--config", "a.py", "--config.steps=3", "--variants", "oFM"])
    assert ours == ["--workdir", "w", "--variants", "oFM"]
    assert theirs == ["--config", "a.py", "--config.steps=3"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--variants", "oFM,xFM"], "there is no variant 'xFM'; choose among oFM, nFM"),
        (["--variants", ","], "--variants names none"),
        (["--config", "ml_collections_configs/celeba_64.py"], "--judge is missing"),
    ],
)
def test_mistakes_get_one_sentence(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sweep, "demo_experiment", lambda workdir, options: demo.simswap_config(workdir, workdir, workdir)
    )
    assert cli.main(["sweep", "--workdir", str(tmp_path / "w"), *words]) == 2
    assert says in capsys.readouterr().err


def test_at_the_demos_size_feature_matching_weighs_something(tmp_path, monkeypatch):
    (tmp_path / "people").mkdir()
    ended = SimpleNamespace(finished=True, model=tmp_path / "model")
    monkeypatch.setattr(sweep, "train", lambda config, workdir, say: ended)
    config = sweep.demo_experiment(tmp_path, sweep.parser().parse_args(["--workdir", str(tmp_path)]))
    demos = demo.simswap_config(tmp_path, tmp_path, tmp_path).losses.feature_matching
    assert config.losses.feature_matching == 2.0 > 10 * demos
    assert ablations.ablated(config, "oFM_fm5").losses.feature_matching == 1.0
    assert (config.start, config.steps) == (str(tmp_path / "first"), sweep.STEPS)


@pytest.fixture
def trainings(monkeypatch):
    """Every training writes the same small model at once; the list of what was trained, and how."""
    made = []

    def stand_in(config, workdir, say=print):
        made.append((workdir.name, config.losses.to_dict(), config.steps))
        write_small_model(workdir / "model", card={"step": config.steps, "held_out": config.data.held_out})
        return SimpleNamespace(finished="nFM" not in workdir.name or len(made) > 2, model=workdir / "model")

    monkeypatch.setattr(sweep, "train", stand_in)
    monkeypatch.setattr(demo, "EACH", 4)
    monkeypatch.setattr(demo, "SIZE", 32)
    monkeypatch.setattr(demo, "HELD_OUT", 0.5)
    monkeypatch.setattr(
        sweep, "demo_experiment", lambda workdir, options: experiment(workdir, options, sweep.synthetic)
    )
    return made


def experiment(workdir, options, synthetic):
    people = workdir / "people"
    if not people.exists():
        who = synthetic.sample_people(1, options.people)
        synthetic.write_people(people, who, synthetic.person_names(options.people), demo.EACH, 2, demo.SIZE)
    config = demo.simswap_config(people, workdir, workdir)
    config.steps = 9
    return config


def test_a_sweep_trains_each_variant_once_and_ends_in_one_table(trainings, tmp_path, monkeypatch, capsys):
    words = ["sweep", "--workdir", str(tmp_path), "--people", "12", "--pairs", "8", "--variants", "nFM,oFM"]
    assert cli.main(words) == 3  # the second training was stopped
    assert [name for name, _, _ in trainings] == ["oFM", "nFM"]
    shutil.rmtree(tmp_path / "variants/nFM/model")  # as if it had not come to its end
    assert cli.main(words) == 0
    assert [name for name, _, _ in trainings] == ["oFM", "nFM", "nFM"]
    assert trainings[0][1]["feature_matching_first"] == 0
    assert trainings[1][1]["feature_matching"] == 0
    told = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    assert [row for row in told["rows"] if row in ("oFM", "nFM")] == ["oFM", "nFM"]
    assert told["protocol"]["name"] == "synthetic"
    page = (tmp_path / "evaluation/index.html").read_text()
    assert "ID retrieval against reconstruction L1" in page
    assert "SimSwap (published)" in capsys.readouterr().out
    # More steps: both are trained on.
    monkeypatch.setattr(sweep.evaluation, "evaluate", lambda options: {})
    assert cli.main([*words, "--steps", "10"]) == 0
    assert [name for name, _, _ in trainings[3:]] == ["oFM", "nFM"]


def test_the_words_for_evaluate_are_its_own(tmp_path):
    options = sweep.parser().parse_args(["--workdir", str(tmp_path), "--judge", "j.onnx", "--landmarks", "l.onnx"])
    config = default_config()
    config.data.root = "people"
    words = sweep.to_evaluate(options, config, {"oFM": tmp_path / "m"}, rendered=False)
    read = evaluation_options.parser().parse_args(words)
    assert (read.judge, str(read.landmarks), read.protocol, read.pairs) == ("j.onnx", "l.onnx", "pairs", 336)
    assert evaluation_options.named(read.model, "models") == {"oFM": tmp_path / "m"}


@pytest.mark.slow
def test_a_real_sweep(tmp_path):
    """Three variants at the demo's size with a few steps each, from rendering to the table."""
    words = ["sweep", "--workdir", str(tmp_path), "--people", "24", "--identity-steps", "4", "--steps", "4"]
    assert cli.main([*words, "--variants", "oFM,nFM,wFM_2", "--pairs", "12"]) == 0
    told = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    assert {"oFM", "nFM", "wFM_2", "truth", "target"} <= set(told["rows"])
