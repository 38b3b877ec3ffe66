"""`simswap-jax evaluate` and its judges, on small models and made-up people."""

import json
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from simswap_jax import FaceSwapper
from simswap_jax.cli import main as cli
from simswap_jax.contrib.rendered import dataset
from simswap_jax.errors import UserError
from simswap_jax.evaluation import options, runner
from simswap_jax.evaluation.candidates import ModelRow
from simswap_jax.evaluation.judges import recognition as judges
from simswap_jax.evaluation.judges.predictions import Judges
from simswap_jax.evaluation.metrics.summary import of_identity, placed
from simswap_jax.evaluation.protocols import pairs as protocol
from simswap_jax.evaluation.work import FOLDER
from simswap_jax.io.images import read_picture
from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.provenance.label_xmp import SOURCE_TYPE, read_provenance
from simswap_jax.weights import identity_folder, model_folder
from tests.support.small_model import faces, write_small_model


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
    return cli.main(["evaluate", *map(str, words)])


def onnx_judge(path, size=8, batch="n"):
    """A judge that compares the shrunken pixels themselves."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["embedding"], axis=1)],
        "judge",
        [helper.make_tensor_value_info("image", kind, [batch, 3, size, size])],
        [helper.make_tensor_value_info("embedding", kind, [batch, 3 * size * size])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def means(told, row):
    return {name: value["mean"] for name, value in told["rows"][row].items() if isinstance(value, dict)}


def told_by(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_the_whole_verb(model, people, tmp_path, capsys):
    judge = onnx_judge(tmp_path / "judge.onnx")
    out = tmp_path / "out"
    words = ["--model", f"ours={model}", "--data", people, "--judge", judge, "--features", judge, "--far", 0.05]
    drawn = ["--held-out-fraction", 1, "--pairs", 12]
    assert evaluate(*words, *drawn, "--output", out) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "index.html",
        "metrics.json",
        "pairs.json",
        "sheet.png",
        "table.md",
    ]
    told = told_by(out)
    assert list(told["rows"]) == ["ours", "target", "pasted", "shift", "hue", "soft", "witness"]
    plan = told["protocol"]
    assert (plan["pairs"], plan["people"], plan["gallery_people"], plan["gallery_pictures"]) == (12, 6, 6, 18)
    floor, ceiling, ours, soft = (means(told, row) for row in ("target", "witness", "ours", "soft"))
    assert floor["cosine_target"] == pytest.approx(1, abs=1e-5)
    assert floor["retrieval"] == floor["retrieval_picture"] == floor["nearer_source"] == floor["accepted"] == 0
    # These people are easily told apart.
    assert ceiling["retrieval"] == ceiling["retrieval_picture"] == ceiling["nearer_source"] == 1
    assert ceiling["cosine_source"] > floor["cosine_source"]
    assert means(told, "pasted")["cosine_source"] > floor["cosine_source"] + 0.05
    assert floor["sharpness"] == 1 > soft["sharpness"]
    assert ours["self_l1"] > 0
    assert set(ours) >= {"fid", "kid", "leak_hair", "leak_background", "leak_light", "self_psnr", "self_ssim"}
    for row in told["rows"].values():
        for value in (v for v in row.values() if isinstance(v, dict)):
            assert value["low"] <= value["mean"] <= value["high"]
    assert told["judge_is_training_network"] == []
    said = capsys.readouterr().out
    assert "Of 12 faces re-drawn with another's identity by ours" in said
    assert "untouched target (floor)" in said
    table = (out / "table.md").read_text()
    assert "| SimSwap (published) | 90.00 | 0.61 | 2.14 |" in table
    assert "theirs: arXiv 2605.00883" in table
    page = (out / "index.html").read_text()
    assert page.count("<svg") == 4
    assert "://" not in page.replace("http://www.w3.org", "")
    assert read_provenance(out / "sheet.png").source_type == SOURCE_TYPE

    # The same pairs again, from the file: the same bytes.
    assert evaluate(*words, "--protocol", out / "pairs.json", "--output", tmp_path / "again") == 0
    assert (tmp_path / "again/metrics.json").read_bytes() == (out / "metrics.json").read_bytes()


def test_a_killed_evaluation_goes_on(people, tmp_path, monkeypatch, capsys):
    judge = onnx_judge(tmp_path / "judge.onnx")
    (tmp_path / "theirs").mkdir()
    for number, face in enumerate(faces(12, 32)):
        Image.fromarray(face).save(tmp_path / f"theirs/{number:05d}.png")
    words = [
        "--results",
        f"Theirs={tmp_path / 'theirs'}",
        "--data",
        people,
        "--judge",
        judge,
        "--held-out-fraction",
        1,
        "--pairs",
        12,
    ]
    words += ["--far", 0.05]
    monkeypatch.setattr(runner, "CHUNK", 4)
    assert evaluate(*words, "--output", tmp_path / "whole") == 0

    calls, real = [], runner.judged
    limit = 9

    def killed(judges, row, chunk):
        if len(calls) == limit:
            raise KeyboardInterrupt
        calls.append((row.key, chunk.numbers[0]))
        return real(judges, row, chunk)

    monkeypatch.setattr(runner, "judged", killed)
    assert evaluate(*words, "--output", tmp_path / "out") == 130
    assert not (tmp_path / "out/metrics.json").exists()
    broken = sorted((tmp_path / "out" / FOLDER).glob("target_*.npz"))[0]
    broken.write_bytes(broken.read_bytes()[:100])  # and one piece is damaged
    limit = 1000
    capsys.readouterr()
    assert evaluate(*words, "--output", tmp_path / "out") == 0
    assert "going on with the evaluation" in capsys.readouterr().err
    assert len(calls) == len(set(calls)) + 1 == 3 * 7 + 1  # every piece once, the damaged one twice
    assert (tmp_path / "out/metrics.json").read_bytes() == (tmp_path / "whole/metrics.json").read_bytes()
    assert not (tmp_path / "out" / FOLDER).exists()

    # Another evaluation does not take these leavings for its own.
    limit = len(calls) + 3
    assert evaluate(*words, "--output", tmp_path / "out") == 130
    limit = 1000
    count = len(calls)
    assert evaluate(*words, "--seed", 1, "--output", tmp_path / "out") == 0
    assert len(calls) == count + 3 * 7


def test_results_of_another_program_stand_in_the_same_table(model, people, tmp_path, capsys):
    """Its pictures are the targets themselves here, so its row must be the floor's."""
    judge = onnx_judge(tmp_path / "judge.onnx")
    words = ["--data", people, "--judge", judge, "--held-out-fraction", 1, "--pairs", 6, "--far", 0.05, "--size", 32]
    exported = tmp_path / "pairs"
    theirs = ["--results", f"Theirs={exported / 'targets'}"]
    assert evaluate(*words, *theirs, "--export-pairs", exported, "--output", tmp_path / "out") == 0
    assert not (tmp_path / "out").exists()
    assert len(list((exported / "sources").iterdir())) == 6
    assert evaluate(*words, *theirs, "--model", f"ours={model}", "--output", tmp_path / "out") == 0
    told = told_by(tmp_path / "out")
    assert list(told["rows"])[:3] == ["ours", "Theirs", "target"]
    given, floor = means(told, "Theirs"), means(told, "target")
    assert {**given, "expression_error": 0} == {**floor, "expression_error": 0}
    capsys.readouterr()

    (exported / "targets/00003.png").unlink()
    assert evaluate(*words, *theirs, "--output", tmp_path / "two") == 2
    assert "has no picture for 1 of the 6 pairs (the first: 00003.png)" in capsys.readouterr().err
    shutil.copy(exported / "targets/00002.png", exported / "targets/00003.png")
    shutil.copy(exported / "targets/00002.png", exported / "targets/00007.png")
    assert evaluate(*words, *theirs, "--output", tmp_path / "two") == 2
    assert "00007.png, which belongs to none of the 6 pairs" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    root = tmp_path_factory.mktemp("rendered") / "people"
    dataset.write_people(root, dataset.sample_people(1, 8), dataset.person_names(8), 6, 2, 32)
    return root


def test_rendered_people_are_judged_against_the_true_answer(model, rendered, tmp_path, capsys):
    """The measures' order agrees with the error against the true render."""
    words = ["--protocol", "synthetic", "--model", model, "--data", rendered, "--held-out-fraction", 1]
    assert evaluate(*words, "--pairs", 24, "--far", 0.01, "--output", tmp_path / "out") == 0
    told = told_by(tmp_path / "out")
    rows = {row: means(told, row) for row in told["rows"]}
    assert rows["truth"]["truth_l1"] == 0
    ladder = [rows[key]["truth_l1"] for key in ("target", "mix_0.25", "mix_0.5", "mix_0.75", "truth")]
    assert ladder == sorted(ladder, reverse=True)
    closer = [rows[key]["cosine_source"] for key in ("target", "mix_0.25", "mix_0.5", "mix_0.75", "truth")]
    assert closer == sorted(closer)
    assert rows["truth"]["retrieval"] > 0.8 > 0.2 > rows["target"]["retrieval"]
    assert rows["truth"]["pose_error"] < rows["pasted"]["pose_error"]
    within = {name: value["mean"] for name, value in told["agreement"]["within_pairs"].items()}
    assert within["identity"] > 0.8
    assert within["pose"] > 0.8
    assert within["sharpness"] == pytest.approx(1, abs=0.05)
    assert told["agreement"]["over_rows"]["cosine_source"] > 0.5
    assert told["judges"]["identity"]["name"] == "identity"
    assert "rank correlation" in capsys.readouterr().out


def test_a_clip_is_measured_beside_itself(model, people, tmp_path, capsys):
    judge = onnx_judge(tmp_path / "judge.onnx")
    clip = tmp_path / "clip"
    clip.mkdir()
    wide = faces(1, 96, seed=4)[0]
    for number in range(6):
        Image.fromarray(wide[20:84, 2 * number : 2 * number + 64]).save(clip / f"{number}.png")
    source = next((people / "person1").iterdir())
    words = ["--model", model, "--data", people, "--judge", judge, "--held-out-fraction", 1, "--pairs", 6]
    words += ["--far", 0.05, "--clip", clip, "--clip-source", source]
    assert evaluate(*words, "--output", tmp_path / "out") == 0
    told = told_by(tmp_path / "out")["clip"]
    assert told["frames"] == 6
    assert 0 < told["flicker"]["target"]["mean"] < told["flicker"]["result"]["mean"]  # random weights draw anything
    assert set(told) == {"frames", "flicker", "identity_jitter"}
    assert "Temporal stability over 6 frames" in capsys.readouterr().out


def test_the_measures_are_those_of_the_swaps_themselves(model, people):
    swapper, judges_ = FaceSwapper.from_pretrained(model), Judges(judges.open_recogniser(model))
    album, broken = runner.judge_everybody(
        judges_, {f.name: sorted(f.iterdir()) for f in sorted(people.iterdir())}, None
    )
    assert not broken
    plan = protocol.draw(album.files, album.names, 4)
    scene = runner.Scene(plan, people, 32)
    chunk = runner.read_chunk(scene, judges_, [0, 1, 2, 3])
    seen = runner.judged(judges_, ModelRow("ours", swapper), chunk)
    pair = plan.pairs[3]
    source, target = read_picture(people / pair.source), read_picture(people / pair.target)
    result = swapper.swap_aligned(target, swapper.identity(source, aligned=True))
    np.testing.assert_allclose(seen["vectors"][3], judges_.recogniser.embed([result])[0], atol=2e-3)
    copy = swapper.swap_aligned(target, swapper.identity(target, aligned=True))
    assert seen["self_l1"][3] == pytest.approx(np.abs(copy / 255.0 - target / 255.0).mean(), abs=1e-3)
    pairs = placed(plan, album, 0.1, bar_source=True)
    verdict = of_identity(album, pairs, seen["vectors"])
    own = judges_.recogniser.embed([source])[0]
    assert verdict["cosine_source"][3] == pytest.approx(float(seen["vectors"][3] @ own), abs=1e-5)


def test_a_swapper_that_gives_the_source_itself_is_perfect(people, tmp_path):
    """The measures' own check: results that are another photo of the source must score like one."""
    judge = Judges(judges.open_recogniser(onnx_judge(tmp_path / "judge.onnx")))
    album, _ = runner.judge_everybody(judge, {f.name: sorted(f.iterdir()) for f in sorted(people.iterdir())}, None)
    plan = protocol.draw(album.files, album.names, 12)
    pairs = placed(plan, album, 0.05, bar_source=True)
    verdict = of_identity(album, pairs, album.vectors[pairs.witness])
    assert all(verdict[name].all() for name in ("retrieval", "retrieval_picture", "nearer_source", "accepted"))


def test_broken_pictures_are_left_out_and_named(model, people, tmp_path, capsys):
    root = tmp_path / "people"
    shutil.copytree(people, root)
    (root / "person0/0.png").write_text("no picture")
    for picture in (root / "person1").iterdir():
        picture.write_text("no picture")
    (root / "nobody").mkdir()
    words = ["--model", model, "--data", root, "--judge", model, "--held-out-fraction", 1, "--pairs", 5]
    assert evaluate(*words, "--far", 0.05, "--output", tmp_path / "out") == 0
    told = told_by(tmp_path / "out")
    assert (told["protocol"]["gallery_people"], told["protocol"]["gallery_pictures"]) == (5, 14)
    assert len(told["judge_is_training_network"]) == 1
    said = capsys.readouterr()
    assert said.err.count("left out") == 4
    assert "the numbers flatter it" in said.out


def test_judges_agree_with_the_networks_they_hold(model, tmp_path):
    read = model_folder.read(model)
    pictures = faces(3, 16)
    network = IdentityNetwork(read.identity)
    wanted = jax.jit(network.embed)(read.identity_variables, jnp.asarray(pictures / 255.0, jnp.float32))
    np.testing.assert_allclose(judges.open_recogniser(model).embed(list(pictures)), np.asarray(wanted), atol=1e-5)
    identity_folder.write(tmp_path / "judge", read.identity, read.identity_variables, {})
    from_folder = judges.open_recogniser(tmp_path / "judge")
    np.testing.assert_allclose(from_folder.embed(list(pictures)), np.asarray(wanted), atol=1e-5)
    assert from_folder.name == "judge"
    assert len(from_folder.sha256) == 64


@pytest.mark.parametrize("batch", ["n", 2])
def test_an_onnx_judge_sees_rgb_planes_of_its_own_size(tmp_path, batch):
    judge = judges.open_recogniser(onnx_judge(tmp_path / "judge.onnx", batch=batch))
    pictures = faces(3, 8)
    flat = pictures.transpose(0, 3, 1, 2).reshape(3, -1).astype(np.float32)
    wanted = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    np.testing.assert_allclose(judge.embed(list(pictures)), wanted, atol=1e-6)
    doubled = pictures.repeat(2, axis=1).repeat(2, axis=2)  # area-averaged back to the same
    np.testing.assert_allclose(judge.embed(list(doubled)), wanted, atol=1e-6)


def test_judging_with_onnx_needs_its_extra(tmp_path, monkeypatch):
    path = onnx_judge(tmp_path / "judge.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"simswap-jax\[onnx\]"):
        judges.open_recogniser(path)


MISTAKES = {
    "no judge": (["--judge", "none.onnx"], "there is no judge"),
    "no network": (["--judge", "text.onnx"], "is not a network"),
    "no data": (["--data", "none"], "There is no folder"),
    "too few": (["--held-out-fraction", "0.01"], "raise --held-out-fraction"),
    "fraction": (["--held-out-fraction", "12"], "lies between 0 and 1"),
    "pairs": (["--pairs", "0"], "--pairs is 0"),
    "no pose": (["--pose", "none.onnx"], "there is no network"),
    "no protocol": (["--protocol", "none.json"], "cannot be read"),
    "foreign protocol": (["--protocol", "foreign.json"], "names elsewhere/1.png"),
    "output": (["--output", "text.onnx"], "is a file"),
    "no protocol name": (["--protocol", "frames"], "there is no protocol 'frames'"),
    "no features": (["--features", "none.onnx"], "there is no feature network"),
    "features": (["--features", "text.onnx"], "is not a network"),
    "no landmarks": (["--landmarks", "none.onnx"], "there is no landmark network"),
    "landmarks": (["--landmarks", "text.onnx"], "is not a network"),
    "empty gallery": (["--data", "empty"], "is empty"),
    "nobody's pictures": (["--data", "bare"], "There is no picture file"),
    "one picture each": (["--data", "lonely"], "bring at least two of each"),
    "rate": (["--far", "2"], "lies between 0 and 1"),
    "too small a rate": (["--far", "0.0001"], "needs 10000 pairs of pictures of different people"),
    "no results": (["--results", "Theirs=none"], "there is no folder of results"),
    "results of other pairs": (["--results", "Theirs=lonely"], "has no picture for 500 of the 500 pairs"),
    "a taken name": (["--model", "target=MODEL"], "already a row called 'target'"),
    "no labels": (["--protocol", "synthetic"], "labels.npz is missing"),
    "no videos": (["--protocol", "faceforensics"], "is not laid out as FaceForensics++"),
    "half a clip": (["--clip", "lonely"], "go together"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_one_sentence_and_leave_nothing(model, people, tmp_path, capsys, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.onnx").write_text("no network")
    protocol.save("foreign.json", protocol.Protocol(0, ("a",), (protocol.Pair("elsewhere/1.png", "b/2.png", None),)))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare/nobody").mkdir(parents=True)
    for number, face in enumerate(faces(3, 32)):
        (tmp_path / f"lonely/p{number}").mkdir(parents=True)
        Image.fromarray(face).save(tmp_path / f"lonely/p{number}/0.png")
    words, expected = MISTAKES[mistake]
    words = [word.replace("MODEL", str(model)) for word in words]
    options = {"--model": model, "--data": people, "--judge": model, "--output": tmp_path / "out"}
    options |= {"--held-out-fraction": 1, "--far": 0.05}
    options[words[0]] = words[1]
    assert evaluate(*[word for pair in options.items() for word in pair]) == 2
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert expected in sentence
    assert sentence.startswith("simswap-jax: ")
    assert not (tmp_path / "out").exists()


def test_the_outside_judge_tells_real_people_apart(outside):
    """The figures that came with the recogniser: same person 0.48 in the mean, different people 0.03."""
    judge = judges.open_recogniser(outside("mobileface_v2.onnx"))
    folders = sorted(outside("celeba_192").iterdir())[:8]
    pictures = [read_picture(path) for folder in folders for path in sorted(folder.glob("*.jpg"))[:4]]
    person = np.repeat(np.arange(8), 4)
    cosines = judge.embed(pictures) @ judge.embed(pictures).T
    same = (person[:, None] == person) & ~np.eye(32, dtype=bool)
    assert cosines[same].mean() > 0.35
    assert abs(cosines[person[:, None] != person].mean()) < 0.1


def test_head_pose_is_shown_blue_green_red_planes():
    red = np.zeros((10, 10, 3), np.uint8)
    red[..., 0] = 255
    shown = judges._bgr_input(red)
    assert shown.shape == (1, 3, 64, 64)
    assert shown.dtype == np.float32
    np.testing.assert_allclose(shown[0, :, 5, 5], [-127.5 / 128, -127.5 / 128, 127.5 / 128])


def test_head_pose_follows_the_landmarks_and_the_mirror(outside):
    pose = judges.HeadPose(outside("headpose_fsanet.onnx"))
    rows = outside("celeba_192_landmarks.csv").read_text().splitlines()[1:400:10]
    names = [row.split(",")[0] for row in rows]
    points = np.array([[float(number) for number in row.split(",")[1:]] for row in rows])
    pictures = [read_picture(outside("celeba_192") / name) for name in names]
    angles = pose.angles(pictures)
    mirrored = pose.angles([np.ascontiguousarray(picture[:, ::-1]) for picture in pictures])
    nose = points[:, 4] - (points[:, 0] + points[:, 2]) / 2
    assert np.corrcoef(angles[:, 0], nose)[0, 1] < -0.85
    assert np.abs(angles[:, 0] + mirrored[:, 0]).mean() < 4
    assert np.abs(angles[:, 1] - mirrored[:, 1]).mean() < 4


def test_people_the_model_has_seen_are_not_judged():
    assert options.fraction_to_judge(None, 0.3) == 0.3
    assert options.fraction_to_judge(None, 0.0) == 0.12
    assert options.fraction_to_judge(0.1, 0.3) == 0.1
    with pytest.raises(UserError, match=r"held out 0.12"):
        options.fraction_to_judge(0.5, 0.12)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--alignment", "simswap-frontal"], "was trained on faces aligned as 'rendered', not 'simswap-frontal'"),
        (["--size", "112"], "was trained on crops of 32 pixels, not 112"),
    ],
)
def test_a_model_for_other_crops_is_refused_with_the_reason(model, people, tmp_path, capsys, words, says):
    judge = onnx_judge(tmp_path / "judge.onnx")
    words = ["--model", model, "--data", people, "--judge", judge, *words, "--output", tmp_path / "out"]
    assert evaluate(*words) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
