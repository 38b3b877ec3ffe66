"""`simswap-jax evaluate` and its judges, on small models and made-up people."""

import json
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from small_model import faces, write_small_model

from simswap_jax import FaceSwapper, cli
from simswap_jax.data.pictures import read_picture
from simswap_jax.errors import UserError
from simswap_jax.evaluation import command, judges, protocol, trial
from simswap_jax.interop import identity_folder, model_folder
from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.swapping.provenance import SOURCE_TYPE, read_marks


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


def test_the_whole_verb(model, people, tmp_path, capsys):
    judge = onnx_judge(tmp_path / "judge.onnx")
    words = ["--model", model, "--data", people, "--judge", judge, "--held-out-fraction", 1, "--pairs", 12]
    assert evaluate(*words, "--output", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "index.html",
        "metrics.json",
        "pairs.json",
        "sheet.png",
    ]
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (metrics["pairs"], metrics["people"]) == (12, 6)
    assert (metrics["gallery_people"], metrics["gallery_pictures"]) == (6, 18)
    assert metrics["floor_cosine_target"] == pytest.approx(1)
    assert metrics["floor_retrieval"] == metrics["floor_nearer_source"] == 0
    assert metrics["ceiling_retrieval"] == metrics["ceiling_nearer_source"] == 1  # these people are easily told apart
    assert metrics["ceiling_cosine_source"] > metrics["floor_cosine_source"]
    assert metrics["self_l1"] > 0
    low, high = metrics["cosine_source_interval"]
    assert low <= metrics["cosine_source"] <= high
    assert not metrics["judge_is_training_network"]
    said = capsys.readouterr().out
    assert "Of 12 faces of held-out people" in said
    assert "untouched target (floor)" in said
    assert read_marks(tmp_path / "out/sheet.png").source_type == SOURCE_TYPE

    # The same pairs again, from the file.
    again = [*words[:6], "--protocol", tmp_path / "out/pairs.json", "--output", tmp_path / "again"]
    assert evaluate(*again) == 0
    repeated = json.loads((tmp_path / "again/metrics.json").read_text())
    assert {**repeated, "seconds": 0} == {**metrics, "seconds": 0}


def test_the_measures_are_those_of_the_swaps_themselves(model, people):
    swapper, judge = FaceSwapper.from_pretrained(model), judges.open_recogniser(model)
    album, broken = trial.judge_everybody(judge, {f.name: sorted(f.iterdir()) for f in sorted(people.iterdir())}, None)
    assert not broken
    plan = protocol.draw(album.files, album.names, 4)
    swaps = trial.swap_pairs(swapper, judge, None, plan, people, examples=2)
    pair = plan.pairs[3]
    source, target = read_picture(people / pair.source), read_picture(people / pair.target)
    result = swapper.swap_aligned(target, swapper.identity(source, aligned=True))
    np.testing.assert_allclose(swaps.vectors[3], judge.embed([result])[0], atol=2e-3)
    copy = swapper.swap_aligned(target, swapper.identity(target, aligned=True))
    assert swaps.measures["self_l1"][3] == pytest.approx(np.abs(copy / 255.0 - target / 255.0).mean(), abs=1e-3)
    assert [len(row) for row in swaps.examples] == [3, 3]
    verdict = trial.verdicts(album, plan, swaps)["result"]
    own = judge.embed([source])[0]
    assert verdict.cosine_source[3] == pytest.approx(float(swaps.vectors[3] @ own), abs=1e-5)


def test_a_swapper_that_gives_the_source_itself_is_perfect(people, tmp_path):
    """The measures' own check: results that are another photo of the source must score like one."""
    judge = judges.open_recogniser(onnx_judge(tmp_path / "judge.onnx"))
    album, _ = trial.judge_everybody(judge, {f.name: sorted(f.iterdir()) for f in sorted(people.iterdir())}, None)
    plan = protocol.draw(album.files, album.names, 12)
    vectors = album.vectors[album.rows([pair.witness for pair in plan.pairs])]
    verdict = trial.verdicts(album, plan, trial.Swaps(vectors, {}, []))["result"]
    assert verdict.retrieval.all()
    assert verdict.nearer_source.all()


def test_broken_pictures_are_left_out_and_named(model, people, tmp_path, capsys):
    root = tmp_path / "people"
    shutil.copytree(people, root)
    (root / "person0/0.png").write_text("no picture")
    for picture in (root / "person1").iterdir():
        picture.write_text("no picture")
    (root / "nobody").mkdir()
    words = ["--model", model, "--data", root, "--judge", model, "--held-out-fraction", 1, "--pairs", 5]
    assert evaluate(*words, "--output", tmp_path / "out") == 0
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (metrics["gallery_people"], metrics["gallery_pictures"]) == (5, 14)
    assert metrics["judge_is_training_network"]
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
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_one_sentence_and_leave_nothing(model, people, tmp_path, capsys, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.onnx").write_text("no network")
    protocol.save("foreign.json", protocol.Protocol(0, ("a",), (protocol.Pair("elsewhere/1.png", "b/2.png", None),)))
    words, expected = MISTAKES[mistake]
    options = {"--model": model, "--data": people, "--judge": model, "--output": tmp_path / "out"}
    options["--held-out-fraction"] = 1
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
    assert command.fraction_to_judge(None, 0.3) == 0.3
    assert command.fraction_to_judge(None, 0.0) == 0.12
    assert command.fraction_to_judge(0.1, 0.3) == 0.1
    with pytest.raises(UserError, match=r"held out 0.12"):
        command.fraction_to_judge(0.5, 0.12)


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
