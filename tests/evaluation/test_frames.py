"""Videos and folders of frames."""

import numpy as np
import pytest

from simswap_jax.evaluation import frames
from tests.support.errors import raises_user_error


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
    read = list(frames.frames_of(path))
    assert [frame.shape for frame in read] == [(48, 64, 3)] * 5
    np.testing.assert_allclose([frame.mean() for frame in read], levels, atol=6)
    assert frames.frame_count(path) == 5
    picked = frames.some_frames(path, [1, 3])
    np.testing.assert_allclose([picked[1].mean(), picked[3].mean()], [90, 190], atol=6)


def test_what_is_no_clip_gets_a_sentence(tmp_path):
    with raises_user_error("video-missing", "none.mp4"):
        list(frames.frames_of(tmp_path / "none.mp4"))
    pytest.importorskip("av")
    (tmp_path / "text.mp4").write_text("no video")
    with raises_user_error("frames-unreadable", "text.mp4"):
        list(frames.frames_of(tmp_path / "text.mp4"))
