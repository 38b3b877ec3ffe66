"""Methods compared by one command: what is asked, how budgets are shared, what is resumed, and what the page says."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from simswap_jax.cli import compare as command
from simswap_jax.contrib.rendered.comparison import simswap_stages, sizes
from simswap_jax.evaluation import budget, compare
from simswap_jax.evaluation.budget import Pace, steps_within, trained_seconds, with_fields
from simswap_jax.evaluation.compare import CompareRequest, Setting, Stage
from simswap_jax.evaluation.entrants import BASELINES, ENTRANTS, title_of, what_it_takes
from simswap_jax.evaluation.report.comparison import Comparison, Method, write_comparison
from simswap_jax.training.config import check, default_config
from tests.support.errors import raises_user_error

ESTIMATE = {"mean": 0.5, "low": 0.4, "high": 0.6}


def request_of(workdir, *words):
    ours, fields = command.divided(["--workdir", str(workdir), *words])
    return command.request_of(command.parser().parse_args(ours), fields)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Seven people, of whom the later ones have more pictures."""
    root = tmp_path_factory.mktemp("faces")
    for number in range(7):
        (root / f"person{number}").mkdir()
        for picture in range(2 + number):
            Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(root / f"person{number}/{picture}.png")
    return root


# ---- What is asked ----


def test_by_default_every_method_and_the_warps_are_compared(tmp_path):
    request = request_of(tmp_path)
    assert list(request.experiments) == list(ENTRANTS)
    assert len(request.experiments) + len(request.baselines) >= 6
    assert [config.method for config in request.experiments.values()][:3] == ["simswap", "faceshifter", "deepfakes"]
    assert request.baselines == BASELINES
    assert [title_of(name) for name in BASELINES][::3] == ["similarity warp", "spline warp, nearest pose"]
    taken = [what_it_takes(config) for config in request.experiments.values()]
    assert taken[:3] == ["identity vector", "identity vector", "trained person"]
    assert compare.brings_no_data(request)
    assert (request.minutes, request.steps) == (60, None)
    assert request_of(tmp_path, "--steps", "9").minutes is None


def test_methods_are_named_with_experiments_of_ones_own_and_rows_without_training(tmp_path):
    request = request_of(tmp_path, "--methods", "warp_tps, deepfakes,mine=faceshifter:small-112,", "--minutes", "5")
    assert list(request.experiments) == ["deepfakes", "mine"]
    assert request.experiments["mine"].data.size == 112
    assert request.baselines == ("warp_tps",)
    assert request.minutes == 5


def test_a_field_goes_to_every_experiment_that_has_it(tmp_path):
    fields = ["--config.data.root=faces", "--config.identity.weights=net.onnx", "--config.batch_size=12"]
    request = request_of(tmp_path, "--judge", "judge.onnx", *fields)
    assert {config.data.root for config in request.experiments.values()} == {"faces"}
    assert {config.batch_size for config in request.experiments.values()} == {12}
    assert request.experiments["simswap"].identity.weights == "net.onnx"
    assert "identity" not in request.experiments["deepfakes"]
    assert not compare.brings_no_data(request)


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--methods", "simswap,nonesuch"], "compare-method-unknown", "nonesuch"),
        (["--methods", "deepfakes,deepfakes"], "compare-method-twice", "deepfakes"),
        (["--methods", "a=nonesuch"], "experiment-unknown", "nonesuch"),
        (["--config.batch_size=8"], "compare-fields-without-data", "batch_size"),
        (["--config", "celeba_64"], "compare-config", "--methods"),
        (["--config.data.root=faces", "--config.nonesuch=1"], "compare-field-unknown", "nonesuch"),
    ],
)
def test_mistakes_of_the_command_line_get_one_sentence(tmp_path, words, code, named):
    with raises_user_error(code, named):
        request_of(tmp_path, *words)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"minutes": 1.0, "steps": 2}, "compare-minutes-and-steps"),
        ({"minutes": 0.0}, "compare-minutes"),
        ({"minutes": float("nan")}, "compare-minutes"),
        ({"steps": 1}, "compare-steps"),
        ({"known_people": 1}, "compare-known-people"),
        ({"experiments": {}}, "compare-nothing"),
        ({"pairs": 0}, "no-pairs"),
        ({"people": -3}, "people-few"),
        ({"identity_steps": 0}, "identity-steps"),
        (
            {"experiments": {root: with_fields(default_config(), {"data.root": root}) for root in "ab"}},
            "compare-several-roots",
        ),
        (
            {
                "experiments": {
                    name: with_fields(default_config(), {"data.root": "faces", "data.alignment": name})
                    for name in ("simswap", "ffhq")
                }
            },
            "compare-several-alignments",
        ),
        ({"pose": Path("not there.onnx")}, "public-weights-missing"),
        ({"experiments": {"a": with_fields(default_config(), {"data.root": "faces"})}}, "public-weights-offline"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(tmp_path, changed, code):
    request = CompareRequest(tmp_path / "w", {"simswap": default_config()})
    with raises_user_error(code):
        compare.compare(replace(request, **changed))
    assert not (tmp_path / "w").exists()


def test_a_workdir_of_another_comparison_is_refused(tmp_path):
    request = request_of(tmp_path, "--methods", "deepfakes", "--steps", "4")
    state = compare.open_state(request)
    assert compare.open_state(request) == state
    with raises_user_error("workdir-of-another-request", "comparison: steps was 4 and is now 5"):
        compare.open_state(replace(request, steps=5))
    with raises_user_error("workdir-of-another-request", "experiments.deepfakes"):
        compare.open_state(replace(request, experiments={}))
    (tmp_path / compare.STATE).write_text("{")
    with raises_user_error("workdir-state-damaged"):
        compare.open_state(request)


# ---- Who is swapped, and how much is trained ----


def test_a_folder_is_held_out_alike_for_all_and_deepfakes_draws_who_has_most_pictures(faces, tmp_path):
    fields = [f"--config.data.root={faces}", "--known-people", "3", "--config.data.held_out=0.2"]
    request = request_of(tmp_path, "--judge", "judge.onnx", *fields)
    setting = compare.folder_of_people(request)
    assert len(setting.known) == 3
    away = set(compare.held_out([f"person{i}" for i in range(7)], 0.2))
    assert setting.known == tuple([f"person{i}" for i in range(6, -1, -1) if f"person{i}" not in away][:3])
    configs = {name: compare.stages_of(request, setting, name)[0].config for name in request.experiments}
    assert {(config.data.held_out, config.data.held_out_pictures) for config in configs.values()} == {(0.2, 0.2)}
    assert tuple(configs["deepfakes"].generator.people) == setting.known
    assert configs["deepfakes"].batch_size % 3 == 0
    for config in configs.values():
        check(config)
    with raises_user_error("compare-too-few-people", "--known-people is 9"):
        compare.folder_of_people(replace(request, known_people=9))


def test_one_root_is_everybodys(faces, tmp_path):
    request = request_of(tmp_path, f"--config.data.root={faces}", "--judge", "judge.onnx")
    names = list(request.experiments)
    without = with_fields(request.experiments[names[0]], {"data.root": ""})
    setting = compare.folder_of_people(replace(request, experiments={**request.experiments, names[0]: without}))
    assert setting.data == faces


def test_rendered_people_get_the_demos_simswap_in_two_stages_and_fewer_where_there_are_few_minutes(tmp_path):
    fields = {"data.root": "people", "data.held_out": 0.18, compare.SHARE: 0.2, "identity.weights": "net"}
    stages = simswap_stages(Setting(tmp_path, fields, ()))
    assert [stage.config.generator.composition_mask for stage in stages] == [False, True]
    assert sum(stage.share for stage in stages) == pytest.approx(1.0)
    for stage in stages:
        check(stage.config)
        assert (stage.config.data.held_out_pictures, stage.config.identity.weights) == (0.2, "net")
    assert (
        sizes(CompareRequest(tmp_path, {}, minutes=60.0)) == sizes(CompareRequest(tmp_path, {}, steps=9)) == (300, 400)
    )
    assert sizes(CompareRequest(tmp_path, {}, minutes=30.0)) == (150, 200)
    assert sizes(CompareRequest(tmp_path, {}, minutes=1.0)) == (60, 60)
    assert sizes(CompareRequest(tmp_path, {}, people=20, identity_steps=4)) == (20, 4)


def test_too_few_held_out_pictures_are_refused_before_anything_is_trained(faces):
    setting = Setting(faces, {compare.SHARE: 0.4}, ("person5", "person6"))
    compare.check_known(setting)
    for changed in ({"known": ("person5",)}, {"fields": {compare.SHARE: 0.01}}):
        with raises_user_error("compare-too-few-pictures", "config.data.held_out_pictures"):
            compare.check_known(replace(setting, **changed))


def test_warps_without_landmarks_or_pose_stand_with_their_reason(tmp_path):
    request = CompareRequest(tmp_path, {}, ("warp_tps", "warp_tps_nearest"))
    setting = Setting(tmp_path, {}, ())
    assert list(compare.impossible(request, setting)) == ["warp_tps", "warp_tps_nearest"]
    found = compare.impossible(replace(request, warp_landmarks=Path("l.onnx")), setting)
    assert list(found) == ["warp_tps_nearest"]
    assert "--pose" in found["warp_tps_nearest"]
    assert compare.impossible(request, replace(setting, knows_landmarks=True)) == {}
    asked = compare.evaluation_of(replace(request, warp_landmarks=Path("l.onnx")), setting, "known")
    assert (asked.baselines, asked.protocol) == (("warp_tps",), "known")


def test_stages_share_the_steps_and_each_starts_from_the_one_before(tmp_path):
    stages = [Stage(default_config(), 0.25), Stage(default_config(), 0.75)]
    first, last = runs = compare.runs_of(tmp_path, "simswap", stages, 100)
    assert [runs[first].steps, runs[last].steps] == [25, 75]
    assert (first.name, last.name) == ("simswap_1", "simswap")
    assert (runs[first].init_from, runs[last].init_from) == ("", str(first))


def test_minutes_are_shared_as_equal_seconds(caplog):
    paces = {"fast": Pace(10.0, 0.1), "slow": Pace(50.0, 0.5)}
    once = {"fast": 1, "slow": 1}
    steps = steps_within(10.0, 90.0, paces, once)
    assert steps == {"fast": 1830, "slow": 366}  # 183 s each: (600 · 0.8 − 90 − 24 to start again) / 2
    assert not caplog.records
    assert steps_within(10.0, 90.0, paces, {"fast": 1, "slow": 3})["slow"] == 326
    assert steps_within(10.0, 900.0, paces, once) == {"fast": 750, "slow": 150}  # a quarter of the minutes at least
    assert "longer than 10 minutes" in caplog.text
    assert steps_within(0.1, 9.0, paces, once) == dict.fromkeys(paces, budget.LEAST_STEPS)


def test_steps_are_decided_once_and_paces_are_kept(tmp_path, monkeypatch):
    request = request_of(tmp_path, "--methods", "deepfakes,simswap", "--minutes", "10")
    stages = {name: [Stage(config)] for name, config in request.experiments.items()}
    timer, measured = compare.StageTimer(tmp_path / "seconds.json"), []

    def stopped_at_the_second(config, folder):
        measured.append(config.method)
        return None if len(measured) == 2 else Pace(0.0, 0.5)

    monkeypatch.setattr(compare, "measured_pace", stopped_at_the_second)
    assert compare.steps_of(request, stages, timer, compare.open_state(request)) is None
    steps = compare.steps_of(request, stages, timer, compare.open_state(request))
    assert measured == ["deepfakes", "simswap", "simswap"]
    assert set(steps) == {"deepfakes", "simswap"}
    assert 470 <= steps["simswap"] == steps["deepfakes"] <= 480
    assert compare.steps_of(request, stages, timer, compare.open_state(request)) == steps
    assert len(measured) == 3
    equal = replace(request, minutes=None, steps=7, workdir=tmp_path / "equal")
    equal.workdir.mkdir()
    assert compare.steps_of(equal, stages, timer, compare.open_state(equal)) == {"deepfakes": 7, "simswap": 7}


def test_the_pace_is_the_mean_of_all_steps_but_the_first_which_compiles(tmp_path, monkeypatch):
    folder, rows = tmp_path / "pace", [{"step": 1}, {"step": 2, "steps_per_second": 0.5}]
    rows.append({"step": budget.PROBE, "steps_per_second": 2.0})

    def stand_in(config, workdir):
        assert (config.steps, config.init_from, config.sample_every) == (budget.PROBE, "", 0)
        workdir.mkdir()
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return SimpleNamespace(finished=True)

    monkeypatch.setattr(budget, "train", stand_in)
    pace = budget.measured_pace(with_fields(default_config(), {"init_from": "before"}), folder)
    assert pace.step == pytest.approx((2.0 + (budget.PROBE - 2) / 2.0) / (budget.PROBE - 1))
    assert pace.startup >= 0.0
    assert not folder.exists()
    monkeypatch.setattr(budget, "train", lambda config, workdir: SimpleNamespace(finished=False))
    assert budget.measured_pace(default_config(), folder) is None


def test_the_log_says_what_is_left_of_the_minutes():
    assert budget.left_of(10.0, 90.0) == "; about 8:30 left of 10 minutes"
    assert budget.left_of(1.5, 600.0) == "; about 0:00 left of 1.5 minutes"
    assert budget.left_of(None, 90.0) == ""


def test_seconds_of_a_training_are_those_of_its_steps():
    rows = [{"step": 1}, {"step": 11, "steps_per_second": 2.0}, {"step": 15, "steps_per_second": 1.0}]
    assert trained_seconds(rows) == 9.0
    assert trained_seconds([]) == 0.0


# ---- The page ----


def metrics_file(folder, rows, left_out):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "sheet.png")
    values = {row: {"title": row, "sha256": "", "cosine_source": ESTIMATE, "pose_error": ESTIMATE} for row in rows}
    bins = {"cosine_source": [ESTIMATE, None, ESTIMATE]}
    metrics = {
        "rows": values,
        "protocol": {"pairs": 12, "people": 5},
        "judge_is_training_network": ["simswap"],
        "left_out": left_out,
        "by_yaw": {"pairs": [6, 0, 6], "degrees": [4.0, None, 30.0], "rows": dict.fromkeys(rows, bins)},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def test_the_page_has_sentences_budgets_both_tables_and_reasons(tmp_path):
    folders = [tmp_path / "unseen", tmp_path / "known"]
    for folder in folders:
        folder.mkdir()
    unseen = metrics_file(folders[0], ["simswap", "warp_tps", "target", "witness"], {"deepfakes": "knows only four"})
    known = metrics_file(folders[1], ["simswap", "deepfakes", "target"], {})
    methods = {
        "simswap": Method("SimSwap", "vector", 710_000, 0.34, 8, 1000, 300.0, "width"),
        "deepfakes": Method("DeepFakes, small", "person", 2_000_000, 0.4, 32, 900, 301.0),
        "warp_tps": Method("spline", "picture"),
        "warp_tps_nearest": Method("spline, nearest pose", "picture"),
    }
    impossible = {"warp_tps_nearest": "needs head pose"}
    write_comparison(tmp_path, Comparison(methods, unseen, known, impossible, answers_known=True))
    page, table = (tmp_path / "index.html").read_text(), (tmp_path / "table.md").read_text()
    assert "| SimSwap | vector | 0.71 | 0.34 | 1,000 | 8 | 300 | width |" in table
    assert "| DeepFakes, small | – | – |" in table
    reasons = (
        "Not here: DeepFakes, small, which knows only four. Not here: spline, nearest pose, which needs head pose."
    )
    assert reasons in table
    assert table.count("| spline, nearest pose | – | – |") == 2
    assert "DeepFakes refuses people it was not trained on" in page
    assert "cosine to source against pose error" in page
    assert "The recogniser is the network that simswap was trained with" in page
    assert "The recogniser is the network that simswap was trained with" in table
    assert "<details><summary>For orientation, published numbers" in page
    sentences = json.loads((tmp_path / "comparison.json").read_text())["expectations"]
    [refuses] = [one for one in sentences if "refuses" in one["claim"]]
    assert refuses["outcome"] == "shown"


# ---- All of it ----

WORDS = ["--people", "16", "--identity-steps", "2", "--steps", "4", "--pairs", "8", "--known-people", "2"]
TINY = """
from simswap_jax.contrib.rendered import comparison
comparison.EACH, comparison.KNOWN_EACH = 6, 24
"""


def small_experiment(path, name):
    """An experiment file: the test form of one that ships, at the size of rendered people."""
    path.write_text(
        f"from simswap_jax.experiments import {name}\n\n\n"
        "def get_config():\n"
        f"    config = {name}.get_test_config()\n"
        "    config.data.size, config.generator.bottom = 64, 16\n"
        "    return config\n"
    )
    return path


def started(workdir, words):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    program = f"import sys\n{TINY}\nfrom simswap_jax.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    arguments = [sys.executable, "-c", program, "compare", "--workdir", str(workdir), *words]
    with (workdir.parent / "log.txt").open("a") as log:
        return subprocess.Popen(arguments, env=environment, stdout=log, stderr=log, start_new_session=True)


@pytest.mark.slow
def test_two_methods_on_a_handful_of_rendered_people_killed_and_resumed(tmp_path):
    faceshifter = small_experiment(tmp_path / "small_faceshifter.py", "faceshifter")
    deepfakes = small_experiment(tmp_path / "small_deepfakes.py", "deepfakes")
    methods = f"faceshifter={faceshifter},deepfakes={deepfakes},warp_similarity"
    words = [*WORDS, "--methods", methods]
    workdir = tmp_path / "compare"
    process = started(workdir, words)
    trained = workdir / "methods/faceshifter/model/config.json"
    while not trained.exists() and process.poll() is None:
        time.sleep(0.2)
    assert process.poll() is None, (tmp_path / "log.txt").read_text()
    os.killpg(process.pid, signal.SIGKILL)  # between two methods, or in the second
    process.wait()
    assert not (workdir / "index.html").exists()
    before = trained.stat().st_mtime_ns
    assert started(workdir, words).wait() == 0, (tmp_path / "log.txt").read_text()
    assert trained.stat().st_mtime_ns == before  # not trained again
    unseen = json.loads((workdir / "evaluation/synthetic/metrics.json").read_text())
    known = json.loads((workdir / "evaluation/synthetic_known/metrics.json").read_text())
    assert {"faceshifter", "warp_similarity", "target", "truth"} <= set(unseen["rows"])
    assert "kept_mouth" in unseen["rows"]["faceshifter"]
    assert list(unseen["left_out"]) == ["deepfakes"]
    assert {"faceshifter", "deepfakes", "warp_similarity"} <= set(known["rows"])
    assert "self_psnr" in known["rows"]["deepfakes"]
    assert known["protocol"]["people"] == 2
    assert "DeepFakes refuses people" in (workdir / "index.html").read_text()
