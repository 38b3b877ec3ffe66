"""Key frames: few frames are seen whole, and the faces of all are found where they are."""

import numpy as np
import pytest

from simswap_jax.faces.detection import FaceDetector
from simswap_jax.io.images import read_picture
from simswap_jax.video import detect
from simswap_jax.video.key_frames import KEY_EVERY, MOST, SeenFrame, detect_faces, is_key, with_expected_faces
from tests.support.tilted import BACKGROUND, Upright, draw_face

SHAPE = (240, 400)


class Counting(Upright):
    """Says how often it saw a whole frame."""

    whole = 0

    def look(self, photo):
        self.whole += 1
        return super().look(photo)


def followed(detector, pictures):
    """The faces of every frame."""
    frames = [
        SeenFrame(None, one, np.float32(one[::8, ::8, 0]), detect_faces(detector, one) if is_key(i) else None)
        for i, one in enumerate(pictures)
    ]
    return [
        detect_faces(detector, one.picture, one.expected) if one.faces is None else one.faces
        for one in with_expected_faces(frame for frame in frames)
    ]


def frame(*faces, ground=BACKGROUND):
    """A frame with faces (x, y, size), and their landmarks."""
    picture = np.full((*SHAPE, 3), ground, np.uint8)
    return picture, [draw_face(picture, (x, y), size, 0.0) for x, y, size in faces]


def check(found, wanted):
    """All faces of all frames are there, to about two pixels."""
    for faces, truth in zip(found, wanted, strict=True):
        assert len(faces) == len(truth)
        for landmarks in truth:
            apart = min(np.abs(face.landmarks - landmarks).max() for face in faces)
            assert apart < 2.1


def test_faces_that_move_are_followed_and_every_eighth_frame_is_seen_whole():
    detector = Counting()
    pictures, wanted = zip(*(frame((80 + 3 * i, 100, 60 + i), (330 - i, 110 + i, 80)) for i in range(25)))
    check(followed(detector, pictures), wanted)
    assert detector.whole == 4
    assert detector.glances == 25  # one a frame, with both faces in it


@pytest.mark.parametrize("comes", [9, 12, 15])
def test_a_face_that_comes_between_key_frames_is_found_in_its_first_frame(comes):
    detector = Counting()
    there, later = (80, 100, 60), (300, 120, 80)
    pictures, wanted = zip(*(frame(*([there, later] if i >= comes else [there])) for i in range(25)))
    check(followed(detector, pictures), wanted)
    assert detector.whole == 4 + KEY_EVERY - 1


def test_a_face_that_is_hidden_for_a_moment_is_not_made_up():
    detector = Counting()
    pictures, wanted = zip(*(frame(*([] if i in (11, 12) else [(200, 100, 60)])) for i in range(17)))
    check(followed(detector, pictures), wanted)
    assert detector.whole == 3 + 2


def test_whole_frames_are_seen_where_the_scene_is_cut():
    detector = Counting()
    shots = [frame((200, 100, 60), ground=BACKGROUND if i < 12 else (110, 110, 110)) for i in range(17)]
    pictures, wanted = zip(*shots)
    check(followed(detector, pictures), wanted)
    assert detector.whole == 3 + KEY_EVERY - 1


def test_a_crowd_is_looked_at_in_whole_frames_only():
    detector = Counting()
    crowd = [(30 + 66 * column, 30 + 60 * row, 40) for row in range(2) for column in range(MOST // 2 + 1)]
    pictures, wanted = zip(*(frame(*crowd) for _ in range(9)))
    check(followed(detector, pictures), wanted)
    assert (detector.whole, detector.glances) == (9, 0)


def test_what_a_stopped_pass_keeps_ends_before_a_key_frame():
    assert detect.CHUNK % KEY_EVERY == 0


@pytest.mark.parametrize("length", [1, 2, 8, 9, 13])
def test_clips_of_any_length_keep_their_frames_in_order(length):
    pictures, wanted = zip(*(frame((80 + 5 * i, 100, 60)) for i in range(length)))
    check(followed(Counting(), pictures), wanted)


@pytest.mark.parametrize("name", ["multi_people.jpg", "two_004605.jpg"])
def test_real_faces_of_a_slow_pan_are_found_as_in_whole_frames(outside, name):

    photo = read_picture(outside(f"photos/{name}"))
    detector = FaceDetector(outside("face_detection_yunet.onnx"))
    shown = [
        np.ascontiguousarray(photo[2 * i : photo.shape[0] - 40 + 2 * i, 3 * i : photo.shape[1] - 24 + 3 * i])
        for i in range(9)
    ]
    for faces, picture in zip(followed(detector, shown), shown):
        whole = detector.look(picture)
        assert len(faces) == len(whole)
        for face in whole:
            nearest = min(faces, key=lambda other: np.abs(other.centre - face.centre).sum())
            apart = np.linalg.norm(nearest.landmarks - face.landmarks, axis=1).mean()
            assert apart < 0.1 * np.sqrt(face.area)  # measured: up to 0.08 (docs/experiments/video.md)
