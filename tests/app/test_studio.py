"""What stands behind the page, without the page."""

import json
import logging
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("gradio", reason="gradio is not installed (extra `app`)")

from simswap_jax.app.page import Tab, describe_sources
from simswap_jax.app.studio import Studio, progress_lines
from simswap_jax.inference import photo as photos
from simswap_jax.inference.options import MarkOptions, SwapOptions
from simswap_jax.inference.photo import ChosenFace
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.io.images import encode_png, read_picture
from simswap_jax.provenance.label_xmp import read_provenance
from simswap_jax.provenance.options import LABEL, METADATA
from simswap_jax.weights import model_folder
from tests.support.clips import BLUE, GREEN, RED, Squares, read_clip, scene, two, write_clip
from tests.support.errors import raises_user_error
from tests.support.small_model import write_small_model


class Dark:
    """Tells dark people from light ones."""

    one_identity = FaceSwapper.one_identity

    def __init__(self):
        self.photos = SimpleNamespace(takes_photos=True, choose_face=self.choose_face)

    def choose_face(self, picture, role, number):
        assert (role, number) == ("source", 0)
        return ChosenFace(picture, 2, 2)

    def identity_vectors(self, faces):
        return np.array([[1.0, 0.0] if face.mean() < 128 else [0.0, 1.0] for face in faces], np.float32)


def test_a_source_that_shows_somebody_else_is_left_out_and_named(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, grey in zip(paths, (10, 240, 20, 30)):
        cv2.imwrite(str(path), np.full((32, 32, 3), grey, np.uint8))
    vector, odd, several = Studio(Dark()).identity(paths)
    assert several[1] == "1.png shows 2 faces; number 2 from the left is taken."
    np.testing.assert_allclose(vector, [1, 0])
    assert odd == [paths[1]]
    said = describe_sources(Tab(tuple(paths)), odd)
    assert said == "Source: 3 pictures of one person, averaged. Left out, somebody else: 1.png."
    assert describe_sources(Tab(tuple(paths))) == "Source: 4 pictures of one person, averaged."


def test_progress_of_its_own_thread_is_told_and_of_others_not():
    told, log = [], logging.getLogger("simswap_jax.video")
    with progress_lines(told.append):
        log.warning("12 of 24 frames")
        other = threading.Thread(target=log.warning, args=["of another visitor"])
        other.start()
        other.join()
    log.warning("afterwards")
    assert told == ["12 of 24 frames"]


@pytest.fixture
def studio(tmp_path, monkeypatch):
    """Finds coloured squares, and paints over them with the source's colour."""
    model = replace(model_folder.read(write_small_model(tmp_path / "rendered")), alignment="simswap-frontal")
    monkeypatch.setattr(photos, "FaceDetector", Squares)
    monkeypatch.setattr(photos.registry, "find", lambda name, purpose: name)
    swapper = FaceSwapper(model)
    swapper._redraw = lambda variables, targets, vectors: (
        0 * targets + np.uint8(255) * np.round(vectors[:, None, None, :3]).astype(np.uint8)
    )
    swapper._embed = lambda variables, pictures: np.pad(np.float32(pictures.mean(axis=(1, 2))) - 60, [(0, 0), (0, 13)])
    return Studio(swapper)


NO_MANIFEST = MarkOptions(c2pa=False, watermark=False)


def colours(picture):
    """The main colour of the two squares: 0 red, 1 green, 2 blue."""
    return [int(np.argmax(picture[place])) for place in ((64, 40), (56, 144))]


def test_the_faces_that_were_clicked_are_swapped_in_a_photo(studio, tmp_path):
    (tmp_path / "source.png").write_bytes(encode_png(scene((BLUE, 40, 40))))
    (tmp_path / "target.png").write_bytes(encode_png(scene((RED, 16, 40), (GREEN, 120, 32))))
    target = studio.look(tmp_path / "target.png")
    assert (len(target.faces), len(target.chosen)) == (2, 1)
    source, output = [tmp_path / "source.png"], tmp_path / "x.png"
    with raises_user_error("nobody-chosen"):
        studio.swap(source, replace(target, chosen=frozenset()), output, SwapOptions(), NO_MANIFEST)
    with raises_user_error("source-not-chosen"):
        studio.swap([], target, output, SwapOptions(), NO_MANIFEST)
    told = []
    for chosen, wanted in ((target.clicked(40, 64).chosen | {0, 1}, [2, 2]), ({0}, [2, 1]), ({1}, [0, 2])):
        again = replace(target, chosen=frozenset(chosen))
        carried = studio.swap(source, again, output, SwapOptions(), NO_MANIFEST, lambda *step: told.append(step))
        assert colours(read_picture(output)) == wanted
    assert carried == (LABEL, METADATA)
    assert [role for role, _ in read_provenance(output).inputs] == ["source", "target"]
    assert [share for share, _ in told[:3]] == [0.05, 0.3, 0.85]


def test_who_was_clicked_is_followed_through_a_video(studio, tmp_path):
    (tmp_path / "source.png").write_bytes(encode_png(scene((BLUE, 40, 40))))
    target = studio.look(write_clip(tmp_path / "a.mp4", two(12)))
    assert (target.frame, len(target.faces)) == (0, 2)
    green = max((0, 1), key=lambda i: target.faces[i].face.box[0])
    output = tmp_path / "x.mp4"
    clicked = replace(target, chosen=frozenset([green]))
    assert studio.swap([tmp_path / "source.png"], clicked, output, SwapOptions(), NO_MANIFEST) == (LABEL, METADATA)
    assert [colours(frame) for frame in read_clip(output)[0]] == [[0, 2]] * 12


# In a process of its own: gradio leaves an event loop open.
BUILD = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from simswap_jax.app.page import build
from simswap_jax.app.gate import Sessions
from simswap_jax.app.studio import Studio
swapper = SimpleNamespace(photos=SimpleNamespace(takes_photos=sys.argv[1] == "photos"))
page = build(Studio(swapper), Sessions(Path(sys.argv[2])), 5)
print(json.dumps([(event.fn.__name__, len(event.inputs), len(event.outputs)) for event in page.fns.values()]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("takes", ["photos", "crops"])
def test_the_page_is_built_with_an_event_for_every_element(tmp_path, takes):
    said = subprocess.run([sys.executable, "-c", BUILD, takes, tmp_path], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout) == [
        ["sources_changed", 2, 2],
        ["source_example", 1, 3],
        ["target_changed", 2, 3],
        ["target_changed", 2, 3],
        ["target_example", 1, 4],
        ["photo_clicked", 1, 3],
        ["swap_clicked", 8, 4],
    ]
