"""What the demo leaves: the metrics under their names, the page, and a sheet that says it is synthetic."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest

from simswap_jax.cli import demo as command
from simswap_jax.contrib.rendered import demo, demo_report
from simswap_jax.io.images import read_picture
from simswap_jax.provenance.label_xmp import read_provenance
from simswap_jax.provenance.watermark import THRESHOLD, detect
from tests.support.errors import raises_user_error

METRICS = {
    "retrieval": 0.5,
    "nearer_source": 0.9,
    "cosine_source": 0.4,
    "cosine_target": 0.1,
    "retrieval_of_target": 0.0,
    "retrieval_of_source": 1.0,
    "cosine_between": 0.0,
    "psnr_result": 16.0,
    "psnr_target": 13.0,
    "psnr_colour_shift": 12.0,
    "pose_r2": 0.7,
    **dict.fromkeys(("skin", "brows", "mouth", "hair"), 0.75),
    **dict.fromkeys(("skin_of_target", "brows_of_target", "mouth_of_target", "hair_of_target"), 0.125),
    "pairs": 336,
    "people": 112,
    "seconds": 450.0,
}


def test_a_demo_leaves_metrics_a_page_and_a_marked_sheet(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    sheet = np.random.default_rng(0).integers(0, 256, (256, 320, 3), np.uint8)
    for name in ("simswap", "identity"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("")
    config = demo.simswap_config(tmp_path, tmp_path, tmp_path)
    demo_report.write_report(tmp_path, METRICS, sheet, demo_report.differences(config, 500, "600 rendered people"))
    assert json.loads((tmp_path / "metrics.json").read_text()) == METRICS
    assert read_provenance(tmp_path / "sheet.png") is not None
    assert detect(read_picture(tmp_path / "sheet.png")) > THRESHOLD
    page = (tmp_path / "index.html").read_text()
    assert "336 swaps of 112 held-out synthetic identities" in page
    assert "attribute transferred from the source: brows" in page
    assert "600 rendered people" in page
    assert "50% (top-1 of 112, chance 0.9%)" in caplog.text


@pytest.mark.parametrize("finished", [True, False])
def test_the_second_stage_begins_with_the_first_and_waits_for_its_end(tmp_path, monkeypatch, finished):
    trained = []

    def stand_in(config, workdir):
        trained.append((workdir.name, config.init_from, config.generator.composition_mask, config.steps))
        return SimpleNamespace(finished=finished or workdir.name == "second", model=workdir / "model")

    monkeypatch.setattr(demo, "train", stand_in)
    config = demo.simswap_config(tmp_path, tmp_path, tmp_path)
    first, second = tmp_path / "first", tmp_path / "second"
    assert demo.train_in_two(config, first, second).finished == finished
    expected = [("first", "", False, 300), ("second", str(first), True, 500)]
    assert trained == expected[: 1 + finished]


def test_the_command_finds_the_demo_and_says_whether_it_came_to_its_end(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(demo, "run", lambda workdir: asked.append(workdir) or len(asked) > 1)
    assert [command.main(["--workdir", str(tmp_path)]) for _ in range(2)] == [3, 0]
    assert asked == [tmp_path] * 2


def test_a_workdir_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with raises_user_error("workdir-unwritable", tmp_path / "file"):
        demo.run(tmp_path / "file")
