"""The paper's protocol on a small copy of FaceForensics++'s layout."""

import json
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from simswap_jax.evaluation.protocols import faceforensics
from simswap_jax.evaluation.protocols.protocol import Pair, PairList
from simswap_jax.evaluation.request import EvaluationRequest
from simswap_jax.io.images import read_picture
from tests.evaluation.test_evaluate import evaluate, means, metrics_in
from tests.support.errors import raises_user_error
from tests.support.onnx_networks import onnx_recogniser


def test_videos_are_found_in_every_usual_place_and_the_best_quality_wins(tmp_path):
    for place in ("c40/videos/000.mp4", "c23/videos/000.mp4", "c23/videos/001.mp4", "c23/videos/note.txt"):
        (tmp_path / "a" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / place).touch()
    found = faceforensics.videos_of(tmp_path / "a")
    assert list(found) == ["000", "001"]
    assert found["000"].parts[-3:] == ("c23", "videos", "000.mp4")
    (tmp_path / "b/images/7").mkdir(parents=True)
    assert list(faceforensics.videos_of(tmp_path / "b")) == ["7"]
    with raises_user_error("no-videos", tmp_path):
        faceforensics.videos_of(tmp_path)


def test_pairs_are_meant_both_ways(tmp_path):
    one, two = tmp_path / "train.json", tmp_path / "test.json"
    one.write_text('[["000", "003"]]')
    two.write_text('[["003", "000"], ["1", "2"]]')
    assert faceforensics.pairs_of([one, two], tmp_path) == [("000", "003"), ("003", "000"), ("1", "2"), ("2", "1")]
    one.write_text('[["000", "003", "004"]]')
    for files, code in (
        ([], "splits-missing"),
        ([one], "splits-invalid"),
        ([tmp_path / "x"], "splits-unreadable"),
    ):
        with raises_user_error(code):
            faceforensics.pairs_of(files, tmp_path)


def test_every_target_frame_gets_a_source_frame_and_a_genuine_pair():
    places = {
        f"{video}/{index:04d}.png": [] for video, count in (("a", 3), ("b", 2), ("c", 1)) for index in range(count)
    }
    drawn = faceforensics.frame_pairs([("a", "b"), ("b", "c")], places)
    assert [pair.target for pair in drawn.pairs] == [
        "a/0000.png",
        "a/0001.png",
        "a/0002.png",
        "b/0000.png",
        "b/0001.png",
    ]
    assert [pair.source for pair in drawn.pairs[:3]] == ["b/0000.png", "b/0001.png", "b/0000.png"]
    assert all(pair.genuine != pair.source for pair in drawn.pairs)
    assert drawn.pairs[3].genuine is None  # c has one frame


def test_the_data_sets_own_methods_are_rows(tmp_path):
    """Deepfakes, FaceSwap and FaceShifter, each cut where the target was."""
    pairs = PairList(0, ("000", "003"), (Pair("003/0000.png", "000/0002.png", None),))
    batch = SimpleNamespace(indices=[0])
    for number, name in enumerate(("Deepfakes", "FaceSwap", "FaceShifter")):
        folder = tmp_path / "manipulated_sequences" / name
        video = folder / "c23/images/000_003"
        video.mkdir(parents=True)
        for frame in range(3):
            picture = np.full((12, 16, 3), 10 * frame, np.uint8)
            picture[2:10, 5:13] = 100 + 10 * number + frame
            Image.fromarray(picture).save(video / f"{frame:04d}.png")
        places = {"000/0002.png": [1.0, 0.0, -5.0, 0.0, 1.0, -2.0]}
        row = faceforensics.ExternalVideos(name, folder, pairs=pairs, places=places, size=8)
        assert row.title == name
        np.testing.assert_array_equal(row.results(batch)[0], np.full((8, 8, 3), 102 + 10 * number))


@pytest.fixture
def whole_frames(monkeypatch):
    """Every frame is one face."""

    def found(detector, frame, template, size):
        matrix = np.array([[1.0, 0, 0], [0, 1, 0]])
        made = SimpleNamespace(matrix=matrix)
        return [SimpleNamespace(face=SimpleNamespace(area=1.0), crop=lambda frame: frame, alignment=made)]

    monkeypatch.setattr(faceforensics, "find_faces", found)


def frames(folder, count):
    """A video of grey frames, as a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame in range(count):
        Image.fromarray(np.full((8, 8, 3), frame, np.uint8)).save(folder / f"{frame:04d}.png")
    return folder


def test_frames_are_those_that_the_target_and_all_results_of_it_have(tmp_path, monkeypatch, whole_frames):
    """Results may be shorter than their target."""
    root = tmp_path / "ff"
    monkeypatch.setattr(faceforensics.registry, "find", lambda *words: frames(tmp_path / "detector", 1) / "0000.png")
    monkeypatch.setattr(faceforensics.onnx_session, "yunet", lambda path: None)
    for name, count in {"000": 9, "003": 5}.items():
        frames(root / "original_sequences/youtube/c23/images" / name, count)
    methods = {name: root / "manipulated_sequences" / name for name in ("Deepfakes", "FaceSwap")}
    for number, folder in enumerate(methods.values()):
        for name in ("000_003", "003_000"):
            frames(folder / "c23/images" / name, 5 - 2 * number)
    splits = root / "test.json"
    splits.write_text('[["000", "003"]]')
    request = EvaluationRequest(root, tmp_path / "out", results=methods, splits=(splits,), frames=2)

    def targets(request):
        data = faceforensics.prepare(request, [], 8)
        rows = [data.read_external(name, folder) for name, folder in request.results.items()]
        batch = SimpleNamespace(indices=range(len(data.pairs.pairs)))
        told = [pair.target for pair in data.pairs.pairs]
        for row in rows:
            assert [int(face[4, 4, 0]) for face in row.results(batch)] == [int(name[-5]) for name in told]
        return told

    assert targets(request) == ["000/0000.png", "000/0002.png", "003/0000.png", "003/0002.png"]
    (methods["FaceSwap"] / "c23/images/003_000/0001.png").unlink()
    with raises_user_error("frames-left-out", "003_000"):
        targets(request)
    one_method = replace(request, results={"Deepfakes": methods["Deepfakes"]})
    assert targets(one_method) == ["000/0000.png", "000/0004.png", "003/0000.png", "003/0004.png"]


def test_crops_are_cut_anew_from_another_file_and_with_another_detector(tmp_path, whole_frames):
    cutter = faceforensics.Cutter(None, "one", "simswap", 8, 1)

    def grey(cutter, quality):
        faceforensics.cut_video(tmp_path / quality / "000", tmp_path / "crops/000", cutter)
        return int(read_picture(tmp_path / "crops/000/0000.png")[0, 0, 0])

    def write(quality, value):
        (tmp_path / quality / "000").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(tmp_path / quality / "000/0000.png")

    write("c40", 40)
    write("c23", 23)
    assert [grey(cutter, quality) for quality in ("c40", "c23", "c40")] == [40, 23, 40]
    write("c40", 41)
    assert grey(cutter, "c40") == 41
    places = tmp_path / "crops/000" / faceforensics.PLACES
    before = places.read_bytes()
    assert grey(cutter, "c40") == 41
    assert places.read_bytes() == before
    grey(replace(cutter, detector_sha256="two"), "c40")
    assert places.read_bytes() != before


@pytest.fixture
def root(outside, tmp_path, monkeypatch):
    """Three people as three videos of five frames, and a method that gives the targets back."""
    monkeypatch.setenv("SIMSWAP_JAX_WEIGHTS", str(outside("face_detection_yunet.onnx").parent))
    originals = tmp_path / "ff/original_sequences/youtube/c23/images"
    copies = tmp_path / "ff/manipulated_sequences/Copy/c23/images"
    for number, person in enumerate(sorted(outside("celeba_192").iterdir())[:3]):
        for frame, file in enumerate(sorted(person.glob("*.jpg"))[:5]):
            face = cv2.resize(read_picture(file), (140, 140), interpolation=cv2.INTER_AREA)
            picture = np.full((200, 260, 3), 90, np.uint8)
            picture[30:170, 40 + 5 * frame : 180 + 5 * frame] = face
            others = [copies / f"{number:03d}_{other:03d}" for other in range(3) if other != number]
            for folder in (originals / f"{number:03d}", *others):
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(folder / f"{frame:04d}.png")
    (tmp_path / "ff/splits").mkdir()
    (tmp_path / "ff/splits/test.json").write_text(json.dumps([["000", "001"], ["002", "000"]]))
    return tmp_path / "ff"


def test_the_papers_protocol(root, tmp_path):
    judge = onnx_recogniser(tmp_path / "judge.onnx")
    method = root / "manipulated_sequences/Copy"
    words = ["--protocol", "faceforensics", "--data", root, "--judge", judge, "--results", f"Copy={method}"]
    words += ["--frames", 3, "--far", 0.05, "--size", 64, "--output", tmp_path / "out"]
    assert evaluate(*words) == 0
    metrics = metrics_in(tmp_path / "out")
    protocol = metrics["protocol"]
    assert (protocol["name"], protocol["pairs"], protocol["gallery_people"], protocol["gallery_pictures"]) == (
        "faceforensics",
        12,
        3,
        9,
    )
    given, floor = means(metrics, "Copy"), means(metrics, "target")
    assert given == pytest.approx(floor, abs=1e-6)  # cut at the same places
    assert floor["cosine_target"] == pytest.approx(1, abs=1e-6)
    assert floor["retrieval_picture"] == 0
    assert sorted(path.name for path in (tmp_path / "out/crops/000").glob("*.png")) == [
        "0000.png",
        "0002.png",
        "0004.png",
    ]
    before = (tmp_path / "out/metrics.json").read_bytes()
    crops = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/crops").rglob("*.png")}
    assert evaluate(*words) == 0
    assert (tmp_path / "out/metrics.json").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in crops} == crops  # cut once

    # Crops of other frames lie there then, and are none of this evaluation's.
    assert evaluate(*words, "--frames", 2, "--far", 0.2) == 0
    assert metrics_in(tmp_path / "out")["protocol"]["gallery_pictures"] == 6
    splits = (root / "splits/test.json").read_text()
    (root / "splits/test.json").write_text('[["000", "001"]]')
    assert evaluate(*words, "--far", 0.2) == 0
    assert metrics_in(tmp_path / "out")["protocol"]["gallery_people"] == 2
    (root / "splits/test.json").write_text(splits)

    next((method / "c23/images/000_001").iterdir()).parent.rename(method / "c23/images/elsewhere")
    with raises_user_error("videos-incomplete", method, "1 of the 4", "000_001"):
        evaluate(*words)
    (root / "splits/test.json").write_text('[["000", "007"]]')
    with raises_user_error("videos-incomplete", "1 of the 2", "007"):
        evaluate(*words)
