"""Landmark and feature networks named by a path, and videos."""

import numpy as np
import pytest

from simswap_jax.errors import UserError
from simswap_jax.evaluation import baselines, clip
from simswap_jax.evaluation.judges.features import open_features
from simswap_jax.evaluation.judges.landmarks import YuNetLandmarks, open_landmarks
from simswap_jax.evaluation.judges.recognition import HeadPose
from simswap_jax.evaluation.metrics import expression
from simswap_jax.evaluation.protocols import faceforensics
from simswap_jax.io.images import read_picture
from tests.support.small_model import faces


def network(path, nodes, output, size=4, batch="n", constants=()):
    """An ONNX file of ``image`` [n, 3, size, size] → ``out``."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(*words[:-1], **words[-1]) for words in nodes],
        "network",
        [helper.make_tensor_value_info("image", kind, [batch, 3, size, size])],
        [helper.make_tensor_value_info("out", kind, output)],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def flat(path, scale=1.0, batch="n"):
    """Its points are the picture's own values: 24 pairs from 4×4 pixels, times ``scale``."""
    nodes = [("Flatten", ["image"], ["rows"], {"axis": 1}), ("Mul", ["rows", "scale"], ["out"], {})]
    return network(path, nodes, [batch, 48], batch=batch, constants=[("scale", np.float32(scale))])


@pytest.mark.parametrize("batch", ["n", 2])
def test_a_landmark_network_sees_unit_rgb_and_answers_fractions_or_pixels(tmp_path, batch):
    pictures = faces(3, 4)
    wanted = (pictures.transpose(0, 3, 1, 2).reshape(3, 24, 2) / 255.0).astype(np.float64)
    judge = open_landmarks(flat(tmp_path / "fractions.onnx", batch=batch))
    assert judge.points == 24
    np.testing.assert_allclose(judge.find(list(pictures)), wanted, atol=1e-6)
    pixels = open_landmarks(flat(tmp_path / "pixels.onnx", scale=100.0))
    np.testing.assert_allclose(pixels.find(list(pictures)), (wanted * 100 + 0.5) / 4, atol=1e-4)


def test_a_network_without_landmarks_is_refused(tmp_path):
    path = network(tmp_path / "few.onnx", [("ReduceMean", ["image"], ["out"], {"axes": [2, 3]})], ["n", 3, 1, 1])
    with pytest.raises(UserError, match="no output of landmarks"):
        open_landmarks(path)


@pytest.mark.parametrize(("values", "centre", "spread"), [("255", 0, 1), ("unit", 0, 255), ("symmetric", 127.5, 127.5)])
def test_a_feature_network_gets_the_values_it_wants_and_maps_are_averaged(tmp_path, values, centre, spread):
    path = network(tmp_path / "maps.onnx", [("Identity", ["image"], ["out"], {})], ["n", 3, 4, 4])
    pictures = faces(5, 4)
    wanted = ((pictures.astype(np.float64) - centre) / spread).mean(axis=(1, 2))
    np.testing.assert_allclose(open_features(path, values).features(list(pictures)), wanted, rtol=1e-4, atol=1e-5)
    assert open_features(path, values).sha256.endswith(values)


def test_yunet_finds_the_landmarks_of_crops_of_any_size(outside):
    judge = open_landmarks(outside("face_detection_yunet.onnx"))
    assert isinstance(judge, YuNetLandmarks)
    rows = [row.split(",") for row in outside("celeba_192_landmarks.csv").read_text().splitlines()[1:400:20]]
    truth = np.array([row[1:] for row in rows], float).reshape(-1, 5, 2) / 192
    pictures = [read_picture(outside("celeba_192") / row[0]) for row in rows]
    found = judge.find(pictures)
    small = judge.find([baselines.softened(picture)[::2, ::2] for picture in pictures])
    eyes = np.linalg.norm(truth[:, 1] - truth[:, 0], axis=1)
    assert np.isfinite(found).all()
    assert (np.linalg.norm(found - truth, axis=2).mean(axis=1) / eyes).mean() < 0.15
    assert (np.linalg.norm(found - small, axis=2).mean(axis=1) / eyes).mean() < 0.06
    assert np.isnan(judge.find([np.zeros((64, 64, 3), np.uint8)])).all()


def test_expression_of_real_people_moves_less_by_a_shift_than_by_another_picture(outside):
    judge, pose = open_landmarks(outside("face_detection_yunet.onnx")), HeadPose(outside("headpose_fsanet.onnx"))
    people = sorted(outside("celeba_192").iterdir())[:4]
    files = [file for person in people for file in sorted(person.glob("*.jpg"))[:8]]
    names = [file.parent.name for file in files]
    pictures = [read_picture(file) for file in files]
    points, angles = judge.find(pictures), pose.angles(pictures)
    shapes = expression.fit(points, names, angles)
    left = expression.expressions(shapes, points, names, angles)
    moved = [baselines.shifted(picture) for picture in pictures]
    shifted = expression.expressions(shapes, judge.find(moved), names, pose.angles(moved))
    shift = np.nanmean(expression.expression_error(shapes, shifted, left))
    other = np.nanmean(expression.expression_error(shapes, np.roll(left, 1, axis=0), left))
    assert 0 < shift < 0.6 * other


def test_a_video_gives_its_frames(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "clip.mp4"
    levels = [40, 90, 140, 190, 240]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in levels:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = list(clip.frames_of(path))
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 5
    np.testing.assert_allclose([frame.mean() for frame in frames], levels, atol=6)
    assert faceforensics.frame_count(path) == 5
    picked = faceforensics.picked(path, [1, 3])
    np.testing.assert_allclose([picked[1].mean(), picked[3].mean()], [90, 190], atol=6)


def test_what_is_no_clip_gets_a_sentence(tmp_path):
    with pytest.raises(UserError, match="there is no video or folder"):
        list(clip.frames_of(tmp_path / "none.mp4"))
    pytest.importorskip("av")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UserError, match="is not a video that can be read"):
        list(clip.frames_of(tmp_path / "text.mp4"))
