"""Networks of other people's: what they may do, and one sentence for what they may not."""

import os
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest

from simswap_jax.evaluation.judges.networks import OnnxFeatures, OnnxPose, OnnxRecogniser
from simswap_jax.weights import onnx_session, onnx_trial
from simswap_jax.weights.onnx_session import OnnxSession, check_yunet
from tests.support.errors import raises_user_error
from tests.support.onnx_fuzz import model, small_yunet
from tests.support.onnx_networks import onnx_recogniser
from tests.support.small_model import faces

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
node, FLOAT = onnx.helper.make_node, onnx.TensorProto.FLOAT
FLAT = [node("Flatten", ["image"], ["out"])]


def counting(steps):
    """A network that counts to ``steps``, a name or a number."""
    scalar = onnx.helper.make_tensor_value_info
    body = onnx.helper.make_graph(
        [node("Identity", ["going"], ["on"]), node("Add", ["x", "x"], ["y"])],
        "body",
        [scalar("i", onnx.TensorProto.INT64, []), scalar("going", onnx.TensorProto.BOOL, []), scalar("x", FLOAT, None)],
        [scalar("on", onnx.TensorProto.BOOL, []), scalar("y", FLOAT, None)],
    )
    start = [node("Loop", ["steps", "yes", "image"], ["last"], body=body), node("Flatten", ["last"], ["out"])]
    constants = [("yes", np.bool_(True))]
    if isinstance(steps, int):
        return model(start, ["out"], [*constants, ("steps", np.int64(steps))])
    brightest = [node("ReduceMax", ["image"], ["most"], keepdims=0), node("Mul", ["most", "factor"], ["many"])]
    brightest.append(node("Cast", ["many"], ["steps"], to=onnx.TensorProto.INT64))
    return model([*brightest, *start], ["out"], [*constants, ("factor", np.float32(2.0**50))])


def elsewhere():
    """A network whose weights lie in another file, which is there and holds them."""
    made = onnx.load_model_from_string(
        model([node("Add", ["image", "w"], ["out"])], ["out"], [("w", np.ones(8, "f4"))])
    )
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return made.SerializeToString()


def of_type(kind):
    """A network of an input of another type."""
    made = onnx.load_model_from_string(model([node("Identity", ["image"], ["out"])], ["out"]))
    made.graph.input[0].type.tensor_type.elem_type = kind
    made.graph.output[0].type.tensor_type.elem_type = kind
    return made.SerializeToString()


def cast(kind):
    """A network that answers another type."""
    made = onnx.load_model_from_string(model([*FLAT, node("Cast", ["out"], ["last"], to=kind)], ["last"]))
    made.graph.output[0].type.tensor_type.elem_type = kind
    return made.SerializeToString()


def huge():
    """A constant of 16 GB from a file of 300 bytes."""
    nodes = [node("ConstantOfShape", ["size"], ["zeros"]), node("ReduceSum", ["zeros"], ["zero"], keepdims=0)]
    return model(
        [*nodes, node("Add", ["image", "zero"], ["a"]), node("Flatten", ["a"], ["out"])],
        ["out"],
        [("size", np.array([2**32]))],
    )


def renamed():
    """A network whose fault names a node that would write to the terminal."""
    return model(
        [node("Reshape", ["image", "shape"], ["out"], name="\x1b[2Jred\n")], ["out"], [("shape", np.array([7]))]
    )


FAULTS = {
    "no file": (None, "network-missing"),
    "empty": (b"", "onnx-unreadable"),
    "text": (b"no network", "onnx-unreadable"),
    "cut short": (model(FLAT, ["out"])[:-9], "onnx-unreadable"),
    "no pixels": (model(FLAT, ["out"], shape=("n", 3, 0, 0)), "onnx-input-unsupported"),
    "no pictures": (model(FLAT, ["out"], shape=(0, 3, 8, 8)), "onnx-input-unsupported"),
    "2^40 pixels": (model(FLAT, ["out"], shape=("n", 3, 2**40, 8)), "onnx-input-unsupported"),
    "20,000 pixels": (model(FLAT, ["out"], shape=("n", 3, 20000, 20000)), "onnx-input-unsupported"),
    "too many pictures": (model(FLAT, ["out"], shape=(2**30, 3, 8, 8)), "onnx-input-unsupported"),
    "grey": (model(FLAT, ["out"], shape=("n", 1, 8, 8)), "onnx-input-unsupported"),
    "whole numbers in": (of_type(onnx.TensorProto.INT64), "onnx-input-unsupported"),
    "texts in": (of_type(onnx.TensorProto.STRING), "onnx-input-unsupported"),
    "a number out": (model([node("ReduceSum", ["image"], ["out"], keepdims=0)], ["out"]), "onnx-output-unsupported"),
    "maps out": (model([node("Identity", ["image"], ["out"])], ["out"]), "onnx-output-unsupported"),
    "one row for all": (
        model([node("ReduceMean", ["image"], ["m"], axes=[0]), node("Flatten", ["m"], ["out"])], ["out"]),
        "onnx-output-unsupported",
    ),
    "texts out": (cast(onnx.TensorProto.STRING), "onnx-output-unsupported"),
    "whole numbers out": (cast(onnx.TensorProto.INT64), "onnx-output-unsupported"),
    "not finite": (model([node("Log", ["image"], ["a"]), node("Flatten", ["a"], ["out"])], ["out"]), "onnx-not-finite"),
    "fails when run": (renamed(), "onnx-run-failed"),
    "2^60 steps": (counting(2**60), "onnx-too-slow"),
    "a constant of 16 GB": (huge(), "onnx-too-large"),
    "weights elsewhere": (elsewhere(), "onnx-external-data"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_one_sentence_and_nothing_else(tmp_path, fault, capfd):
    content, code = FAULTS[fault]
    path = tmp_path / "theirs.onnx"
    (tmp_path / "weights.bin").write_bytes(bytes(32))
    if content is not None:
        path.write_bytes(content)
    with raises_user_error(code, path) as caught:
        OnnxRecogniser(path).embed([np.zeros((8, 8, 3), np.uint8)])
    assert str(caught.value).isprintable()
    assert capfd.readouterr() == ("", "")


def test_a_fifo_is_no_network(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    with raises_user_error("network-missing", "pipe.onnx"):
        OnnxRecogniser(tmp_path / "pipe.onnx")


def test_a_file_beyond_all_networks_is_not_read(tmp_path):
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(onnx_session.MOST_BYTES + 1)
    with raises_user_error("onnx-too-large", "large.onnx"):
        OnnxRecogniser(tmp_path / "large.onnx")


@pytest.mark.parametrize(
    ("opened", "shape"), [(OnnxPose, (1, 3, 64, 64)), (lambda path: OnnxFeatures(path, "255"), ("n", 3, 8, 8))]
)
def test_each_role_wants_its_own_answer(tmp_path, opened, shape):
    nodes = [node("Reshape", ["image", "shape"], ["out"])]
    content = model(nodes, ["out"], [("shape", np.array([0, -1, 2]))], shape)
    (tmp_path / "pairs.onnx").write_bytes(content)
    with raises_user_error("onnx-output-unsupported", "pairs.onnx"):
        opened(tmp_path / "pairs.onnx")


def test_what_only_hangs_on_some_pictures_is_stopped(tmp_path, monkeypatch):
    """It counts to the brightest value × 2^50: here the trial seems to have seen black only."""
    monkeypatch.setattr(onnx_session, "RUN_SECONDS", 0.2)
    (tmp_path / "x.onnx").write_bytes(counting("brightest"))
    with raises_user_error("onnx-too-slow"):
        OnnxRecogniser(tmp_path / "x.onnx")
    black = {"inputs": [{"name": "image", "type": "tensor(float)", "shape": ["n", 3, 8, 8]}], "shape": [2, 3, 8, 8]}
    monkeypatch.setattr(
        onnx_session, "try_apart", lambda job: black | {"outputs": [{"type": "float32", "shape": [2, 192]}]}
    )
    session = OnnxSession(tmp_path / "x.onnx", "a recogniser", batch=31)
    before = set(threading.enumerate())  # of other tests, too; some of those end meanwhile
    np.testing.assert_array_equal(session.answer(np.zeros((2, 3, 8, 8), np.float32), [0])[0], 0)
    with raises_user_error("onnx-too-slow", "x.onnx"):
        session.answer(np.ones((2, 3, 8, 8), np.float32), [0])
    assert set(threading.enumerate()) <= before


def test_an_answer_that_changes_its_shape_is_refused(tmp_path):
    nodes = [node("NonZero", ["image"], ["where"]), node("Cast", ["where"], ["out"], to=FLOAT)]
    (tmp_path / "x.onnx").write_bytes(model(nodes, ["out"]))
    session = OnnxSession(tmp_path / "x.onnx", "a recogniser")
    with raises_user_error("onnx-run-failed", "x.onnx", "[4, 0]"):
        session.answer(np.zeros((2, 3, 8, 8), np.float32), [0])


def test_a_file_is_tried_once_and_again_when_it_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trials, real = [], onnx_session.try_apart
    monkeypatch.setattr(onnx_session, "try_apart", lambda job: trials.append(job) or real(job))
    path = onnx_recogniser(tmp_path / "judge.onnx")
    wanted = OnnxRecogniser(path).embed(faces(3, 8))
    np.testing.assert_array_equal(OnnxRecogniser(path).embed(faces(3, 8)), wanted)
    assert len(trials) == 1
    for kept in (tmp_path / "cache/simswap_jax/trials").iterdir():
        kept.write_text("[]")
    OnnxRecogniser(path)
    assert len(trials) == 2
    path.write_bytes(b"no network")
    for _ in range(2):
        with raises_user_error("onnx-unreadable"):
            OnnxRecogniser(path)
    assert len(trials) == 3


@pytest.mark.parametrize("place", ["relative", "a file"])
def test_without_a_cache_it_is_tried_each_time(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", place if place == "relative" else str(tmp_path / place))
    assert OnnxRecogniser(onnx_recogniser(tmp_path / "judge.onnx")).embed(faces(3, 8)).shape == (3, 192)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a file", "judge.onnx"]


def test_a_process_that_dies_is_a_sentence_and_is_not_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(onnx_trial, "__file__", str(tmp_path / "trial.py"))
    (tmp_path / "trial.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    path = onnx_recogniser(tmp_path / "judge.onnx")
    with raises_user_error("onnx-run-failed", "judge.onnx", "-11"):
        OnnxRecogniser(path)
    assert not (tmp_path / "cache").exists()


def test_yunet_is_tried_too(tmp_path):
    (tmp_path / "yunet.onnx").write_bytes(small_yunet())
    check_yunet(tmp_path / "yunet.onnx")
    (tmp_path / "other.onnx").write_bytes(model(FLAT, ["out"]))
    with raises_user_error("not-yunet", "other.onnx"):
        check_yunet(tmp_path / "other.onnx")
    (tmp_path / "far.onnx").write_bytes(elsewhere())
    with raises_user_error("onnx-external-data", "far.onnx"):
        check_yunet(tmp_path / "far.onnx")


def test_the_known_yunet_needs_no_trial(outside, monkeypatch):
    monkeypatch.setattr(onnx_session, "tried", None)
    check_yunet(outside("face_detection_yunet.onnx"))


def test_the_trial_imports_nothing_of_the_project(tmp_path):
    """So it starts fast."""
    path = onnx_recogniser(tmp_path / "judge.onnx")
    program = (
        f'import sys, runpy; sys.argv = [\'trial\', \'{{"path": "{path}", "engine": "onnxruntime", '
        f'"side": 8, "batch": 2}}\']; runpy.run_path({onnx_trial.__file__!r}, run_name=\'__main__\'); '
        "print([name for name in ('simswap_jax', 'jax', 'cv2', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_detector_that_fails_on_a_picture_is_one_sentence(outside, monkeypatch):
    detector = onnx_session.yunet(outside("face_detection_yunet.onnx"))

    class Failing:
        def setInputSize(self, size):  # as OpenCV calls it
            pass

        def detect(self, picture):
            raise cv2.error("shapes do not fit")

    monkeypatch.setattr(detector, "_network", Failing())
    with raises_user_error("detector-fails", "60×40"):
        detector.detect(np.zeros((40, 60, 3), np.uint8))
