"""Tilted faces of videos: results lie in the direction of each face, and what cannot be told is left out and said."""

from dataclasses import replace

import numpy as np
import pytest

from simswap_jax.inference import photo as photos
from simswap_jax.video.encode import Segment
from tests.support.clips import read_clip, write_clip
from tests.support.errors import raises_user_error
from tests.support.tilted import BACKGROUND, BROW, SKIN, Upright, direction, draw_face
from tests.video.test_pipeline import Stopped, colours_at, swap

SIZE, MIDDLE = 60, (128, 64)
TURN, AFTER, LYING = 30, 11, -100.0  # frames before a cut and after it; degrees from then on
LEFT, RIGHT, DOUBTFUL = (50, 64), (200, 64), 120.0
FRAMES = 34


class Unsure(Upright):
    """About as sure of faces in every direction, but by a hair surer of upright ones: only tilted ones are doubtful."""

    def _find(self, photo):
        return [replace(face, score=0.9 + 0.02 * (face.score - 0.95)) for face in super()._find(photo)]


def frame_of(*faces, ground=BACKGROUND):
    """A frame with faces (centre, tilt)."""
    photo = np.full((128, 256, 3), ground, np.uint8)
    for centre, tilt in faces:
        draw_face(photo, centre, SIZE, tilt)
    return photo


def halves(centre, tilt):
    """Points of a face, x and y: in its upper half, where the brow is, and in its lower one."""
    return [tuple(np.rint(np.array(centre) + SIZE * up * direction(tilt)).astype(int)) for up in (0.25, -0.1)]


AS_IT_WAS, SWAPPED = [2, 0], [0, 2]  # the main colours there: the brow is blue, and `marked` draws it where the chin is


@pytest.fixture
def marked(swapper, monkeypatch):
    """A swapper whose results show which half of a crop is the upper one; the detector is to be set."""

    def generate(targets, _vectors):
        drawn = np.full_like(targets, BROW)
        drawn[:, : targets.shape[1] // 2] = SKIN
        return drawn

    swapper._generate = generate

    def found_by(detector, **options):
        monkeypatch.setattr(photos, "FaceDetector", lambda _path: detector(**options))
        return swapper

    return found_by


@pytest.mark.parametrize("blind", [181.0, 50.0])
def test_results_lie_in_the_direction_of_a_face_that_turns_also_after_a_cut(marked, tmp_path, blind):
    tilts = [*np.linspace(0, 180, TURN), *[LYING] * AFTER]
    frames = [
        frame_of((MIDDLE, tilt), ground=BACKGROUND if i < TURN else (110, 110, 110)) for i, tilt in enumerate(tilts)
    ]
    source = write_clip(tmp_path / "a.mp4", frames, tone=False)
    result = swap(marked(Upright, blind=blind), source, tmp_path / "b.mp4")
    places = [halves(MIDDLE, tilt) for tilt in tilts]
    assert colours_at(source, places) == [AS_IT_WAS] * len(tilts)
    assert colours_at(tmp_path / "b.mp4", places) == [SWAPPED] * len(tilts)
    assert result.faces == len(tilts)


def test_a_video_of_doubtful_faces_only_is_refused_and_says_why(marked, tmp_path, caplog):
    source = write_clip(tmp_path / "a.mp4", [frame_of((MIDDLE, DOUBTFUL))] * 5, tone=False)
    with raises_user_error("no-face"):
        swap(marked(Upright, unsure=True), source, tmp_path / "b.mp4")
    assert left_out(caplog) == [5]
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def left_out(caplog):
    """The counts that the log names; it is emptied."""
    said = [record.args[0] for record in caplog.records if "left out" in record.msg]
    caplog.clear()
    return said


def stop_after(count, function):
    """The function, which is stopped when it is called once more than ``count`` times."""
    calls = []

    def counted(*arguments):
        calls.append(0)
        if len(calls) > count:
            raise Stopped
        return function(*arguments)

    return counted


@pytest.mark.parametrize(
    ("stopped", "name", "calls"), [(Upright, "look", 3), (Segment, "finish", 2)], ids=["looking", "drawing"]
)
def test_a_doubtful_face_is_left_out_and_said_also_by_a_run_that_resumes(
    marked, tmp_path, monkeypatch, caplog, stopped, name, calls
):
    source = write_clip(tmp_path / "a.mp4", [frame_of((LEFT, 0.0), (RIGHT, DOUBTFUL))] * FRAMES, tone=False)
    swapper = marked(Unsure)
    result = swap(swapper, source, tmp_path / "whole.mp4")
    assert result.faces == FRAMES
    assert left_out(caplog) == [FRAMES]
    places = [[*halves(LEFT, 0.0), *halves(RIGHT, DOUBTFUL)]] * FRAMES
    assert colours_at(tmp_path / "whole.mp4", places) == [[*SWAPPED, *AS_IT_WAS]] * FRAMES
    before, after = (read_clip(path)[0][:, :, 140:].astype(int) for path in (source, tmp_path / "whole.mp4"))
    assert np.abs(after - before).mean() < 2

    with monkeypatch.context() as patch:
        patch.setattr(stopped, name, stop_after(calls, getattr(stopped, name)))
        with pytest.raises(Stopped):
            swap(swapper, source, tmp_path / "b.mp4")
    kept = (tmp_path / ".b.mp4.parts" / "faces.jsonl").read_text().splitlines()
    assert kept
    assert any('"end": true' in line for line in kept) == (stopped is Segment)
    caplog.clear()
    assert swap(swapper, source, tmp_path / "b.mp4").faces == FRAMES
    assert left_out(caplog) == [FRAMES]
    for one, other in zip(read_clip(tmp_path / "b.mp4"), read_clip(tmp_path / "whole.mp4")):
        np.testing.assert_array_equal(one, other)


def test_a_run_that_resumes_between_moving_faces_gives_the_same_video(marked, tmp_path, monkeypatch):
    source = write_clip(tmp_path / "a.mp4", [frame_of(((60 + 4 * i, 64), 0.0)) for i in range(FRAMES)], tone=False)
    swapper = marked(Upright)
    swap(swapper, source, tmp_path / "whole.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(Upright, "look", stop_after(3, Upright.look))
        with pytest.raises(Stopped):
            swap(swapper, source, tmp_path / "b.mp4")
    assert (tmp_path / ".b.mp4.parts" / "faces.jsonl").read_text()
    swap(swapper, source, tmp_path / "b.mp4")
    for one, other in zip(read_clip(tmp_path / "b.mp4"), read_clip(tmp_path / "whole.mp4")):
        np.testing.assert_array_equal(one, other)
