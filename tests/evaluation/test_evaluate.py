"""`simswap-jax evaluate`, on small models and made-up people."""

import json
import logging
import shutil
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from simswap_jax import FaceSwapper
from simswap_jax.cli import evaluate as command
from simswap_jax.errors import UserError
from simswap_jax.evaluation import gallery, runner
from simswap_jax.evaluation.candidates import GROUND_TRUTH, ModelCandidate
from simswap_jax.evaluation.evaluate import RECOGNISER, UNFINISHED, open_evaluators, open_setup
from simswap_jax.evaluation.gallery import embed_gallery, gallery_of
from simswap_jax.evaluation.geometry import crop_template
from simswap_jax.evaluation.judges.evaluators import Evaluators
from simswap_jax.evaluation.judges.networks import open_recogniser
from simswap_jax.evaluation.metrics.summary import PairIndex, identity_metrics, index_pairs
from simswap_jax.evaluation.protocols import pairs
from simswap_jax.evaluation.protocols.pairs import draw_pairs
from simswap_jax.evaluation.protocols.protocol import (
    EvaluationProtocol,
    GroundTruth,
    Pair,
    PairList,
    alignment_of,
    save_pairs,
)
from simswap_jax.evaluation.request import EvaluationRequest, check, fingerprint
from simswap_jax.io.images import read_picture
from simswap_jax.provenance.label_xmp import SOURCE_TYPE, read_provenance
from simswap_jax.weights import registry
from tests.support.errors import raises_user_error
from tests.support.onnx_networks import onnx_recogniser
from tests.support.small_model import faces, write_small_model


@pytest.fixture(autouse=True)
def _logged(caplog):
    caplog.set_level(logging.INFO)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_small_model(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Six people with three pictures each: a person's own face plus a little noise."""
    root = tmp_path_factory.mktemp("people")
    random = np.random.default_rng(0)
    for number, face in enumerate(faces(6, 32, seed=9)):
        (root / f"person{number}").mkdir()
        for picture in range(3):
            noisy = np.clip(face + random.integers(-12, 13, face.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / f"person{number}" / f"{picture}.png")
    return root


def evaluate(*words):
    return command.main([*map(str, words)])


def means(metrics, row):
    return {name: value["mean"] for name, value in metrics["rows"][row].items() if isinstance(value, dict)}


def metrics_in(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_the_whole_command(model, people, tmp_path, caplog, monkeypatch):
    recogniser = onnx_recogniser(tmp_path / "judge.onnx")
    out = tmp_path / "out"
    words = ["--model", f"ours={model}", "--data", people, "--judge", recogniser, "--features", recogniser]
    words += ["--far", 0.05]
    drawn = ["--held-out-fraction", 1, "--pairs", 12]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert evaluate(*words, *drawn, "--output", out) == 0
    [kept] = (tmp_path / "cache/simswap_jax/galleries").iterdir()
    assert sorted(path.name for path in kept.iterdir()) == ["gallery_0000000.npz", "job.json"]
    assert sorted(path.name for path in out.iterdir()) == [
        "index.html",
        "metrics.json",
        "pairs.json",
        "sheet.png",
        "table.md",
    ]
    metrics = metrics_in(out)
    assert list(metrics["rows"]) == ["ours", "target", "pasted", "shift", "hue", "soft", "witness"]
    protocol = metrics["protocol"]
    counts = [protocol[name] for name in ("pairs", "people", "gallery_people", "gallery_pictures")]
    assert counts == [12, 6, 6, 18]
    floor, ceiling, ours, soft = (means(metrics, row) for row in ("target", "witness", "ours", "soft"))
    assert floor["cosine_target"] == pytest.approx(1, abs=1e-5)
    assert floor["retrieval"] == floor["retrieval_picture"] == floor["nearer_source"] == floor["accepted"] == 0
    # These people are easily told apart.
    assert ceiling["retrieval"] == ceiling["retrieval_picture"] == ceiling["nearer_source"] == 1
    assert ceiling["cosine_source"] > floor["cosine_source"]
    assert means(metrics, "pasted")["cosine_source"] > floor["cosine_source"] + 0.05
    assert floor["sharpness"] == 1 > soft["sharpness"]
    assert ours["self_l1"] > 0
    assert set(ours) >= {"fid", "kid", "leak_hair", "leak_background", "leak_light", "self_psnr", "self_ssim"}
    for row in metrics["rows"].values():
        for value in (v for v in row.values() if isinstance(v, dict)):
            assert value["low"] <= value["mean"] <= value["high"]
    assert metrics["judge_is_training_network"] == []
    assert "ours on 12 swaps of 6 identities" in caplog.text
    assert "Whether a training saw these people is not known." in caplog.text  # its card does not say
    assert protocol["people_in_training"] == "not known"
    assert all(title in caplog.text for title in ("untouched target", "copy-paste baseline"))
    table = (out / "table.md").read_text()
    assert "| SimSwap (published) | 90.00 | 0.61 | 2.14 |" in table
    assert "published: arXiv 2605.00883" in table
    page = (out / "index.html").read_text()
    assert page.count("<svg") == 3  # with one model there is no trade-off to plot
    assert page.index('class="tile"') < page.index("<img") < page.index("<svg") < page.index("<table")
    for said in ("key in metrics.json", "How this was measured", "simswap-jax evaluate --model", "judge, SHA-256"):
        assert said in page
    lines = caplog.text.splitlines()
    rule = next(number for number, line in enumerate(lines) if line.startswith("───"))
    assert all(len(line) <= 100 for line in lines[rule - 1 : rule + 5])
    assert "://" not in page.replace("http://www.w3.org", "")
    assert read_provenance(out / "sheet.png").source_type == SOURCE_TYPE

    # The same pairs again, from the file: the same bytes; the gallery is not embedded again.
    monkeypatch.setattr(gallery, "embed_files", None)
    assert evaluate(*words, "--protocol", out / "pairs.json", "--output", tmp_path / "again") == 0
    assert (tmp_path / "again/metrics.json").read_bytes() == (out / "metrics.json").read_bytes()


def test_a_report_that_is_replaced_is_said_to_be_there(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(command, "evaluate", lambda *_: {})
    caplog.set_level("INFO")
    words = ["--data", tmp_path, "--output", tmp_path / "out"]
    evaluate(*words)
    assert "there already" not in caplog.text
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").touch()
    evaluate(*words)
    assert f"{tmp_path / 'out' / 'index.html'} is there already and will be replaced." in caplog.text


def test_a_killed_evaluation_is_resumed(people, tmp_path, monkeypatch, caplog):
    (tmp_path / "theirs").mkdir()
    for number, face in enumerate(faces(12, 32)):
        Image.fromarray(face).save(tmp_path / f"theirs/{number:05d}.png")
    words = ["--results", f"Theirs={tmp_path / 'theirs'}", "--data", people, "--far", 0.05]
    words += ["--judge", onnx_recogniser(tmp_path / "judge.onnx"), "--held-out-fraction", 1, "--pairs", 12]
    monkeypatch.setattr(runner, "PAIRS_A_CHUNK", 4)
    assert evaluate(*words, "--output", tmp_path / "whole") == 0

    calls, real = [], runner.measure_batch
    limit = 9

    def killed(evaluators, candidate, batch):
        if len(calls) == limit:
            raise KeyboardInterrupt
        calls.append((candidate.key, batch.indices[0]))
        return real(evaluators, candidate, batch)

    monkeypatch.setattr(runner, "measure_batch", killed)
    unfinished = tmp_path / "out" / UNFINISHED
    with pytest.raises(KeyboardInterrupt):
        evaluate(*words, "--output", tmp_path / "out")
    assert not (tmp_path / "out/metrics.json").exists()
    broken = sorted(unfinished.glob("results_target_*.npz"))[0]
    broken.write_bytes(broken.read_bytes()[:100])  # and one chunk is damaged
    limit = 1000
    assert evaluate(*words, "--output", tmp_path / "out") == 0
    assert "resuming the evaluation" in caplog.text
    assert len(calls) == len(set(calls)) + 1 == 3 * 7 + 1  # every chunk once, the damaged one twice
    assert (tmp_path / "out/metrics.json").read_bytes() == (tmp_path / "whole/metrics.json").read_bytes()
    assert not unfinished.exists()

    # Another evaluation does not take these chunks for its own.
    limit = len(calls) + 3
    with pytest.raises(KeyboardInterrupt):
        evaluate(*words, "--output", tmp_path / "out")
    limit = 1000
    count = len(calls)
    assert evaluate(*words, "--seed", 1, "--output", tmp_path / "out") == 0
    assert len(calls) == count + 3 * 7


def test_every_field_of_the_request_is_in_the_fingerprint(tmp_path):
    request = EvaluationRequest(tmp_path, tmp_path / "out", {"a": tmp_path / "m", "b": None}, splits=(tmp_path / "s",))
    described = fingerprint(request)
    assert set(described) == {field.name for field in fields(EvaluationRequest)}
    assert json.loads(json.dumps(described)) == described
    assert described["models"] == {"a": str(tmp_path / "m"), "b": None}
    assert fingerprint(replace(request, pairs=7)) != described


def test_candidates_may_be_called_as_the_chunks_are(people, tmp_path):
    for number, face in enumerate(faces(6, 32)):
        (tmp_path / "theirs").mkdir(exist_ok=True)
        Image.fromarray(face).save(tmp_path / f"theirs/{number:05d}.png")
    names = ["gallery", "real", "results", "people"]
    words = [word for name in names for word in ("--results", f"{name}={tmp_path / 'theirs'}")]
    words += ["--data", people, "--judge", onnx_recogniser(tmp_path / "judge.onnx"), "--far", 0.05]
    assert evaluate(*words, "--held-out-fraction", 1, "--pairs", 6, "--output", tmp_path / "out") == 0
    assert list(metrics_in(tmp_path / "out")["rows"])[:4] == names


def test_external_results_stand_in_the_same_table(model, people, tmp_path):
    """Its pictures are the targets themselves here, so its row must be the untouched target's."""
    recogniser = onnx_recogniser(tmp_path / "judge.onnx")
    words = ["--data", people, "--judge", recogniser, "--held-out-fraction", 1, "--pairs", 6, "--far", 0.05]
    words += ["--size", 32]
    exported = tmp_path / "pairs"
    theirs = ["--results", f"Theirs={exported / 'targets'}"]
    assert evaluate(*words, *theirs, "--export-pairs", exported, "--output", tmp_path / "out") == 0
    assert not (tmp_path / "out").exists()
    assert len(list((exported / "sources").iterdir())) == 6
    assert evaluate(*words, *theirs, "--model", f"ours={model}", "--output", tmp_path / "out") == 0
    metrics = metrics_in(tmp_path / "out")
    assert list(metrics["rows"])[:3] == ["ours", "Theirs", "target"]
    given, floor = means(metrics, "Theirs"), means(metrics, "target")
    assert {**given, "expression_error": 0} == {**floor, "expression_error": 0}

    (exported / "targets/00003.png").unlink()
    with raises_user_error("results-incomplete", "1 of the 6", "00003.png"):
        evaluate(*words, *theirs, "--output", tmp_path / "two")
    shutil.copy(exported / "targets/00002.png", exported / "targets/00003.png")
    shutil.copy(exported / "targets/00002.png", exported / "targets/00007.png")
    with raises_user_error("results-of-other-pairs", "00007.png", 6):
        evaluate(*words, *theirs, "--output", tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_a_clip_is_measured_beside_itself(model, people, tmp_path):
    clip = tmp_path / "clip"
    clip.mkdir()
    wide = faces(1, 96, seed=4)[0]
    for number in range(18):
        Image.fromarray(wide[20:84, number : number + 64]).save(clip / f"{number:02d}.png")
    source = next((people / "person1").iterdir())
    words = ["--model", model, "--data", people, "--judge", onnx_recogniser(tmp_path / "judge.onnx")]
    words += ["--held-out-fraction", 1, "--pairs", 6, "--far", 0.05, "--clip", clip, "--clip-source", source]
    assert evaluate(*words, "--output", tmp_path / "out") == 0
    assert evaluate(*words, "--strength", 0, "--output", tmp_path / "own") == 0
    metrics = metrics_in(tmp_path / "out")["clip"]
    assert metrics_in(tmp_path / "own")["clip"]["flicker"]["result"] != metrics["flicker"]["result"]
    assert metrics["frames"] == 18
    assert 0 < metrics["flicker"]["target"]["mean"] < metrics["flicker"]["result"]["mean"]  # random weights
    assert set(metrics) == {"frames", "flicker", "identity_jitter"}
    assert "Temporal stability over 18 frames" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize(("clip", "code"), [("none.mp4", "video-missing"), ("short", "clip-too-short")])
def test_a_clip_that_cannot_be_measured_is_refused_before_the_swaps_are(model, people, tmp_path, clip, code):
    (tmp_path / "short").mkdir()
    source = next((people / "person1").iterdir())
    shutil.copy(source, tmp_path / "short/00.png")
    words = ["--model", model, "--data", people, "--judge", model, "--held-out-fraction", 1, "--far", 0.05]
    words += ["--clip", tmp_path / clip, "--clip-source", source, "--output", tmp_path / "out"]
    with raises_user_error(code, clip):
        evaluate(*words)
    assert not (tmp_path / "out").exists()


def test_strength_goes_into_the_swaps_that_are_measured(model, people, tmp_path):
    swapper, evaluators = FaceSwapper.from_pretrained(model), Evaluators(open_recogniser(model))
    gallery, _ = embed_gallery(evaluators, gallery_pictures(people))
    batch = runner.EvalInputs(draw_pairs(gallery.files, gallery.names, 2), people, 32).batch(evaluators, [0, 1])
    beyond = ModelCandidate("ours", swapper, strength=1.5)
    expected = swapper.swap_faces(batch.targets, swapper.source_vectors(batch.sources), strength=1.5)
    np.testing.assert_array_equal(beyond.results(batch), expected)
    assert not np.array_equal(beyond.results(batch), ModelCandidate("ours", swapper).results(batch))
    own = ModelCandidate("ours", swapper).self_swaps(batch)
    np.testing.assert_allclose(np.array(beyond.self_swaps(batch), int), np.array(own, int), atol=1)
    with raises_user_error("strength-range", "2.5"):
        check(EvaluationRequest(people, tmp_path, strength=2.5))


def gallery_pictures(people):
    return {folder.name: sorted(folder.iterdir()) for folder in sorted(people.iterdir())}


def test_the_metrics_are_those_of_the_swaps_themselves(model, people, tmp_path):
    swapper, evaluators = FaceSwapper.from_pretrained(model), Evaluators(open_recogniser(model))
    gallery, broken = embed_gallery(evaluators, gallery_pictures(people))
    assert not broken
    drawn = draw_pairs(gallery.files, gallery.names, 4)
    batch = runner.EvalInputs(drawn, people, 32).batch(evaluators, [0, 1, 2, 3])
    measured = runner.measure_batch(evaluators, ModelCandidate("ours", swapper), batch)
    pair = drawn.pairs[3]
    source, target = read_picture(people / pair.source), read_picture(people / pair.target)
    result = swapper.swap_aligned(target, swapper.identity(source, aligned=True))
    np.testing.assert_allclose(measured["vectors"][3], evaluators.recogniser.embed([result])[0], atol=2e-3)
    itself = swapper.swap_aligned(target, swapper.identity(target, aligned=True))
    assert measured["self_l1"][3] == pytest.approx(np.abs(itself / 255.0 - target / 255.0).mean(), abs=1e-3)
    index = index_pairs(drawn, gallery, 0.1, exclude_source=True)
    metrics = identity_metrics(gallery, index, measured["vectors"])
    own = evaluators.recogniser.embed([source])[0]
    assert metrics["cosine_source"][3] == pytest.approx(float(measured["vectors"][3] @ own), abs=1e-5)


def test_a_swapper_that_gives_the_source_itself_is_perfect(people, tmp_path):
    """The metrics' own check: results that are another photo of the source must score like one."""
    evaluators = Evaluators(open_recogniser(onnx_recogniser(tmp_path / "judge.onnx")))
    gallery, _ = embed_gallery(evaluators, gallery_pictures(people))
    index = index_pairs(draw_pairs(gallery.files, gallery.names, 12), gallery, 0.05, exclude_source=True)
    metrics = identity_metrics(gallery, index, gallery.vectors[index.genuine])
    assert all(metrics[name].all() for name in ("retrieval", "retrieval_picture", "nearer_source", "accepted"))


def test_identity_is_not_searched_in_the_picture_that_a_result_is_made_of():
    """Of two pictures of the source's person the result is the one that the pair does not name."""
    pictures = [("ana", Path("0.png")), ("ana", Path("1.png")), ("bob", Path("0.png")), ("bob", Path("1.png"))]
    gallery = gallery_of(pictures, np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [0.8, 0.6]]))
    source, made_of, nobody = np.array([0]), np.array([1]), np.array([-1])
    index = PairIndex(source, np.array([2]), np.array([0]), nobody, nobody, 0.5, excluded=None)
    result = gallery.vectors[made_of]
    assert identity_metrics(gallery, index, result)["retrieval"].all()
    found = identity_metrics(gallery, index, result, made_of)
    assert not found["retrieval"].any()
    assert found["retrieval_picture"].all()  # where the protocol excludes no picture, the paper's
    assert not identity_metrics(gallery, replace(index, excluded=source), result, made_of)["retrieval_picture"].any()


def test_broken_pictures_are_left_out_and_named(model, people, tmp_path, caplog):
    root = tmp_path / "people"
    shutil.copytree(people, root)
    (root / "person0/0.png").write_text("no picture")
    for picture in (root / "person1").iterdir():
        picture.write_text("no picture")
    (root / "person2/9.png").symlink_to(tmp_path / "nothing.png")
    (root / "nobody").mkdir()
    words = ["--model", model, "--data", root, "--judge", model, "--held-out-fraction", 1, "--pairs", 5]
    assert evaluate(*words, "--far", 0.05, "--output", tmp_path / "out") == 0
    metrics = metrics_in(tmp_path / "out")
    assert (metrics["protocol"]["gallery_people"], metrics["protocol"]["gallery_pictures"]) == (5, 14)
    assert len(metrics["judge_is_training_network"]) == 1
    assert caplog.text.count("left out") == 5
    assert "it flatters the identity metrics" in caplog.text


def test_a_chunk_of_broken_pictures_only_is_left_out(people, tmp_path, monkeypatch):
    evaluators = Evaluators(open_recogniser(onnx_recogniser(tmp_path / "judge.onnx")))
    (tmp_path / "broken.png").write_text("no picture")
    pictures = {**gallery_pictures(people), "nobody": [tmp_path / "broken.png"]}
    monkeypatch.setattr(gallery, "PICTURES_A_CHUNK", 6)
    embedded, broken = embed_gallery(evaluators, pictures)
    assert (embedded.vectors.shape[0], embedded.vectors.dtype) == (18, np.float32)
    assert len(broken) == 1
    with raises_user_error("no-readable-picture", "broken.png"):
        embed_gallery(evaluators, {"nobody": pictures["nobody"] * 7})


@pytest.mark.parametrize(("alignment", "known"), [("ffhq", True), ("simswap", False)])
def test_without_landmarks_faces_lie_where_the_template_of_the_crops_has_them(people, tmp_path, alignment, known):
    judge = onnx_recogniser(tmp_path / "judge.onnx")
    given = {"results": {"theirs": tmp_path}, "recogniser": judge, "alignment": alignment, "size": 32}
    more = {"held_out_fraction": 1.0, "pairs": 6, "false_accept_rate": 0.05}
    setup = open_setup(EvaluationRequest(people, tmp_path / "out", **given, **more))
    batch = setup.inputs.batch(setup.evaluators, [0, 1])
    wanted = np.stack([crop_template("ffhq", 32) if known else np.full((5, 2), np.nan)] * 2)
    np.testing.assert_array_equal(batch.source_points, wanted)
    np.testing.assert_array_equal(batch.target_points, wanted)


def test_models_of_several_alignments_are_not_shown_the_same_crops(tmp_path):
    def model(key, alignment):
        return SimpleNamespace(key=key, swapper=SimpleNamespace(model=SimpleNamespace(alignment=alignment)))

    request = EvaluationRequest(tmp_path, tmp_path / "out")
    assert alignment_of(request, [model("one", "ffhq"), model("two", "ffhq")]) == "ffhq"
    assert alignment_of(request, []) == "simswap-frontal"
    with raises_user_error("models-of-several-alignments", "'one' as 'ffhq'", "'two' as 'simswap'"):
        alignment_of(request, [model("one", "ffhq"), model("two", "simswap")])


def test_counted_are_the_people_who_are_swapped(people, tmp_path):
    words = ["--data", people, "--judge", onnx_recogniser(tmp_path / "judge.onnx"), "--held-out-fraction", 1]
    words += ["--pairs", 2, "--size", 32, "--far", 0.05, "--results", f"theirs={tmp_path / 'pairs' / 'targets'}"]
    assert evaluate(*words, "--export-pairs", tmp_path / "pairs", "--output", tmp_path / "out") == 0
    assert evaluate(*words, "--output", tmp_path / "out") == 0
    protocol = metrics_in(tmp_path / "out")["protocol"]
    assert (protocol["pairs"], protocol["people"], protocol["gallery_people"]) == (2, 3, 6)  # a chain


def test_a_protocol_from_outside_the_package_is_found_by_name(people, tmp_path, monkeypatch):
    """It brings its pairs, its recogniser and its ground truth: here the source itself."""

    def prepare(request, models, size):
        data = pairs.prepare(request, models, size)
        inputs = runner.EvalInputs(data.pairs, data.root, size)

        def answers(indices, size):
            return np.stack([inputs.read(data.pairs.pairs[i].source) for i in indices])

        ladder = ("target", "truth")
        return replace(data, ground_truth=GroundTruth(answers, baselines=(GROUND_TRUTH,), ladder=ladder))

    def recogniser():
        return open_recogniser(onnx_recogniser(tmp_path / "judge.onnx"))

    module = ModuleType("somebodys_package")
    module.SOURCES = EvaluationProtocol("sources", prepare, recogniser=recogniser)
    monkeypatch.setitem(sys.modules, "somebodys_package", module)
    words = ["--protocol", "somebodys_package:SOURCES", "--data", people, "--held-out-fraction", 1, "--pairs", 6]
    words += ["--far", 0.05, "--size", 32, "--results", f"sources={tmp_path / 'pairs' / 'sources'}"]
    assert evaluate(*words, "--export-pairs", tmp_path / "pairs", "--output", tmp_path / "out") == 0
    assert evaluate(*words, "--output", tmp_path / "out") == 0
    metrics = metrics_in(tmp_path / "out")
    assert metrics["protocol"]["name"] == "sources"
    assert metrics["judges"]["pose"] is None
    assert means(metrics, "sources")["truth_l1"] == means(metrics, "truth")["truth_l1"] == 0
    assert metrics["agreement"]["within_pairs"]["identity"]["mean"] == 1


MISTAKES = {
    "no recogniser": (["--judge", "none.onnx"], "network-missing", "none.onnx"),
    "no network": (["--judge", "text.onnx"], "onnx-unreadable", "text.onnx"),
    "no data": (["--data", "none"], None, "none"),
    "too few": (["--held-out-fraction", "0.01"], "too-few-people", 6),
    "fraction": (["--held-out-fraction", "12"], "fraction-out-of-range", 12),
    "pairs": (["--pairs", "0"], "no-pairs", 0),
    "a seed": (["--seed", "-1"], "seed-below-zero", -1),
    "no pose": (["--pose", "none.onnx"], "network-missing", "none.onnx"),
    "no pairs file": (["--protocol", "none.json"], "pairs-unreadable", "none.json"),
    "foreign pairs": (["--protocol", "foreign.json"], "pair-not-in-data", "elsewhere/1.png"),
    "output": (["--output", "text.onnx"], "output-is-file", "text.onnx"),
    "no protocol": (["--protocol", "frames"], "protocol-unknown", "frames"),
    "no protocol there": (["--protocol", "json:frames"], "protocol-unknown", "json:frames"),
    "another thing": (["--protocol", "json:loads"], "protocol-of-another-type", "json:loads"),
    "no features": (["--features", "none.onnx"], "network-missing", "none.onnx"),
    "features": (["--features", "text.onnx"], "onnx-unreadable", "text.onnx"),
    "no landmarks": (["--landmarks", "none.onnx"], "network-missing", "none.onnx"),
    "landmarks": (["--landmarks", "text.onnx"], "onnx-unreadable", "text.onnx"),
    "empty gallery": (["--data", "empty"], None, "empty"),
    "nobody's pictures": (["--data", "bare"], None, "bare"),
    "one picture each": (["--data", "lonely"], "single-pictures", "lonely"),
    "rate": (["--far", "2"], "rate-out-of-range", 2),
    "too small a rate": (["--far", "0.0001"], "too-few-pictures-for-rate", 10000),
    "no results": (["--results", "Theirs=none"], "results-missing", "none"),
    "results of other pairs": (["--results", "Theirs=lonely"], "results-incomplete", 500),
    "a taken name": (["--model", "target=MODEL"], "row-name-taken", "target"),
    "a name taken in small letters": (["--model", "Target=MODEL"], "row-name-taken", "Target"),
    "a strange name": (["--model", "a b=MODEL"], "row-name-invalid", "a b"),
    "no labels": (["--protocol", "synthetic"], "labels-missing", "labels.npz"),
    "no videos": (["--protocol", "faceforensics"], "not-faceforensics", "original_sequences"),
    "no contract": (["--external", "theirs.onnx"], "external-not-named", "theirs.onnx"),
    "no such contract": (["--external", "theirs.onnx:gost_256"], "contract-unknown", "ghost_256"),
    "no such network": (["--external", "theirs.onnx:blendswap_256"], "network-missing", "theirs.onnx"),
    "no baseline": (["--baseline", "wrap"], "baseline-unknown", "wrap"),
    "no landmarks to warp by": (["--baseline", "warp"], "warp-without-landmarks", "--warp-landmarks"),
    "half a clip": (["--clip", "lonely"], "clip-incomplete", "--clip-source"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_one_sentence_and_leave_nothing(model, people, tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.onnx").write_text("no network")
    save_pairs("foreign.json", PairList(0, ("a",), (Pair("elsewhere/1.png", "b/2.png", None),)))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare/nobody").mkdir(parents=True)
    for number, face in enumerate(faces(3, 32)):
        (tmp_path / f"lonely/p{number}").mkdir(parents=True)
        Image.fromarray(face).save(tmp_path / f"lonely/p{number}/0.png")
    words, code, named = MISTAKES[mistake]
    words = [word.replace("MODEL", str(model)) for word in words]
    options = {"--model": model, "--data": people, "--judge": model, "--output": tmp_path / "out"}
    options |= {"--held-out-fraction": 1, "--far": 0.05}
    options[words[0]] = words[1]
    with pytest.raises(UserError) as caught:
        evaluate(*[word for pair in options.items() for word in pair])
    assert code in (None, caught.value.code)  # None: of another package's error
    assert str(named) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_without_a_judge_the_public_recogniser_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMSWAP_JAX_WEIGHTS", str(tmp_path))
    request = EvaluationRequest(tmp_path / "people", tmp_path / "out")
    with raises_user_error("public-weights-offline", RECOGNISER, "--judge", "opencv/opencv_zoo"):
        open_evaluators(request, pairs.PAIRS, "simswap-frontal")
    path = onnx_recogniser(tmp_path / RECOGNISER)
    with raises_user_error("public-weights-differ", RECOGNISER):
        open_evaluators(request, pairs.PAIRS, "simswap-frontal")
    entry = replace(registry.catalogue()[RECOGNISER], sha256=registry.file_sha256(path))
    monkeypatch.setattr(registry, "catalogue", lambda: {RECOGNISER: entry})
    assert open_evaluators(request, pairs.PAIRS, "simswap-frontal").recogniser.sha256 == entry.sha256


@pytest.mark.parametrize(
    ("words", "named"), [(["--alignment", "simswap-frontal"], "simswap-frontal"), (["--size", "112"], 112)]
)
def test_a_model_for_other_crops_is_refused_with_the_reason(model, people, tmp_path, words, named):
    recogniser = onnx_recogniser(tmp_path / "judge.onnx")
    words = ["--model", model, "--data", people, "--judge", recogniser, *words, "--output", tmp_path / "out"]
    with pytest.raises(UserError) as caught:
        evaluate(*words)
    assert str(named) in str(caught.value)
    assert not (tmp_path / "out").exists()
