"""What stands behind the page, without the page."""

import io
import json
import logging
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

pytest.importorskip("gradio", reason="gradio is not installed (extra `app`)")

from simswap_jax.app import studio as module
from simswap_jax.app.gate import COOKIE
from simswap_jax.app.layout import EVERYBODY
from simswap_jax.app.page import RUNNING, Answers, Order, Tab, describe_sources, face_of, order_of
from simswap_jax.app.sessions import Sessions, harmless
from simswap_jax.app.studio import Sources, Studio, Target, output_name, progress_lines
from simswap_jax.inference import photo as photos
from simswap_jax.inference.options import MarkOptions, SwapOptions
from simswap_jax.inference.photo import ChosenFace
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.io.animation import Still, is_animation, write_animation
from simswap_jax.io.images import encode_png, read_picture
from simswap_jax.provenance.label_xmp import read_provenance
from simswap_jax.provenance.options import LABEL, METADATA
from simswap_jax.weights import model_folder
from tests.support.clips import BLUE, GREEN, RED, Squares, read_clip, scene, two, write_clip
from tests.support.errors import raises_user_error
from tests.support.small_model import write_small_model


class Dark:
    """Tells dark people from light ones."""

    one_identity, _mean = FaceSwapper.one_identity, FaceSwapper._mean
    model = SimpleNamespace(network=SimpleNamespace(takes={"vector"}))

    def __init__(self):
        self.photos = SimpleNamespace(takes_photos=True, choose_face=self.choose_face)

    def choose_face(self, picture, role, number):
        assert (role, number) == ("source", 0)
        return ChosenFace(picture, 2, 2)

    def source_vectors(self, faces):
        return np.array([[1.0, 0.0] if face.mean() < 128 else [0.0, 1.0] for face in faces], np.float32)


def test_a_source_that_shows_somebody_else_is_left_out_and_named(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, grey in zip(paths, (10, 240, 20, 30)):
        cv2.imwrite(str(path), np.full((32, 32, 3), grey, np.uint8))
    sources = Sources(tuple(paths))
    found = Studio(Dark()).identity(sources)
    assert found.sentences[1] == "1.png shows 2 faces; number 2 from the left is taken."
    assert [face.mean() for face in found.faces] == [10, 240, 20, 30]
    np.testing.assert_allclose(found.vector, [1, 0])
    assert found.odd == [paths[1]]
    said = describe_sources(Tab(sources), found.odd)
    assert said == "Source: 3 pictures of one person, averaged. Left out, somebody else: 1.png."
    assert describe_sources(Tab(sources)) == "Source: 4 pictures of one person, averaged."


def test_many_source_pictures_are_refused_and_others_read_one_at_a_time(monkeypatch):
    steps, dark = [], Dark()

    def read(path):
        steps.append("read")
        return np.zeros((8, 8, 3), np.uint8)

    def choose_face(*arguments):
        steps.append("cut out")
        return Dark.choose_face(dark, *arguments)

    monkeypatch.setattr(module, "read", read)
    dark.photos.choose_face = choose_face
    with raises_user_error("too-many-source-pictures", "33", "32"):
        Studio(dark).identity(Sources((Path("a.png"),) * 33))
    assert steps == []
    Studio(dark).identity(Sources((Path("a.png"),) * 2))
    assert steps == ["read", "cut out"] * 2


def test_a_source_of_one_face_chooses_it_and_goes_when_it_is_taken_away(tmp_path):
    faces = (None, None)
    target = Target(tmp_path / "t.png", (8, 8), faces, frozenset({0}), tmp_path / "t.png")
    mine, theirs = Sources((tmp_path / "a.png",)), Sources((tmp_path / "b.png",), example=True)
    tab = Tab(mine, target).giving(1, theirs)
    assert tab.target.chosen == {0, 1}
    assert tab.given == {None: mine, 1: theirs}
    assert describe_sources(tab) == "Source: 1 picture. Face 2: an example face."
    assert [face_of(whom, tab) for whom in (EVERYBODY, "face 1", "face 2")] == [None, 0, 1]
    with raises_user_error("page-stale"):
        face_of("face 3", tab)
    assert tab.giving(1, Sources()).given == {None: mine}


def test_progress_of_its_own_thread_is_told_and_of_others_not():
    told, log = [], logging.getLogger("simswap_jax.video")
    with progress_lines(told.append):
        log.warning("12 of 24 frames")
        other = threading.Thread(target=log.warning, args=["of another visitor"])
        other.start()
        other.join()
    log.warning("afterwards")
    assert told == ["12 of 24 frames"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_small_model(tmp_path_factory.mktemp("model") / "rendered")
    return replace(model_folder.read(folder), alignment="simswap-frontal")


@pytest.fixture
def studio(model, monkeypatch):
    """Finds coloured squares, and paints over them with the source's colour."""
    monkeypatch.setattr(photos, "FaceDetector", Squares)
    monkeypatch.setattr(photos.registry, "find", lambda name, purpose: name)
    swapper = FaceSwapper(model)
    swapper._generate = lambda targets, vectors: (
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
    source, output = {None: Sources((tmp_path / "source.png",))}, tmp_path / "x.png"
    with raises_user_error("nobody-chosen"):
        studio.swap(source, replace(target, chosen=frozenset()), output, SwapOptions(), NO_MANIFEST)
    with raises_user_error("source-not-chosen"):
        studio.swap({}, target, output, SwapOptions(), NO_MANIFEST)
    told = []
    for chosen, wanted in ((target.clicked(40, 64).chosen | {0, 1}, [2, 2]), ({0}, [2, 1]), ({1}, [0, 2])):
        again = replace(target, chosen=frozenset(chosen))
        carried = studio.swap(source, again, output, SwapOptions(), NO_MANIFEST, lambda *step: told.append(step))
        assert colours(read_picture(output)) == wanted
    assert carried == (LABEL, METADATA)
    assert [role for role, _ in read_provenance(output).inputs] == ["source", "target"]
    assert [share for share, _ in told[:3]] == [0.05, 0.3, 0.85]
    (tmp_path / "other.png").write_bytes(encode_png(scene((GREEN, 40, 40))))
    both = replace(target, chosen=frozenset({0, 1}))
    studio.swap({**source, 0: Sources((tmp_path / "other.png",))}, both, output, SwapOptions(), NO_MANIFEST)
    assert colours(read_picture(output)) == [1, 2]
    assert [role for role, _ in read_provenance(output).inputs] == ["source", "source", "target"]


def test_who_was_clicked_is_followed_through_a_video(studio, tmp_path):
    (tmp_path / "source.png").write_bytes(encode_png(scene((BLUE, 40, 40))))
    target = studio.look(write_clip(tmp_path / "a.mp4", two(12)))
    assert (target.frame, len(target.faces)) == (0, 2)
    green = max((0, 1), key=lambda i: target.faces[i].face.box[0])
    output = tmp_path / "x.mp4"
    clicked = replace(target, chosen=frozenset([green]))
    given = {None: Sources((tmp_path / "source.png",))}
    assert studio.swap(given, clicked, output, SwapOptions(), NO_MANIFEST) == (LABEL, METADATA)
    assert [colours(frame) for frame in read_clip(output)[0]] == [[0, 2]] * 12


def test_an_animation_is_not_overwritten_by_its_first_frame(studio, tmp_path):
    pictures = [Still(picture, 100) for picture in two(2)]
    write_animation(tmp_path / "frame.png", pictures, "PNG", repeated=0)
    target = studio.look(tmp_path / "frame.png")
    assert is_animation(target.path)
    assert read_picture(target.still).shape == two(1)[0].shape


def test_a_face_is_found_however_late_it_comes(studio, tmp_path):
    empty, late = [scene()] * 300, two(40)
    target = studio.look(write_clip(tmp_path / "late.mp4", [*empty, *late]))
    assert target.frame >= 300
    assert len(target.faces) == 2
    with raises_user_error("no-face-in-upload", "empty.mp4"):
        studio.look(write_clip(tmp_path / "empty.mp4", empty[:30]))


def test_a_face_that_comes_late_for_two_seconds_is_found(studio, tmp_path):
    pictures = [*[scene()] * 312, *two(20), *[scene()] * 10]
    target = studio.look(write_clip(tmp_path / "late.mp4", pictures, times=count(0, 60), tone=False))
    assert 312 <= target.frame < 332


def test_results_are_named_after_their_target():
    assert output_name(Path("a/Ferien 1.HEIC"), "as the photo") == "Ferien 1_swapped.png"
    assert output_name(Path("x.JPG"), "as the photo") == "x_swapped.jpg"
    assert output_name(Path("x.tar.png"), "WebP") == "x.tar_swapped.webp"
    assert output_name(Path("clip.mov"), "PNG") == "clip_swapped.mp4"
    assert harmless(output_name(Path("y" * 80 + ".png"), "PNG")).endswith("y_swapped.png")


def test_the_page_offers_what_can_be_read_and_no_more(monkeypatch):
    here = set(module.picture_suffixes())
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif"} <= here
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(module.Image, "registered_extensions", lambda: {".png": "PNG", ".eps": "EPS"})
    assert module.picture_suffixes() == [".png"]
    assert module.video_suffixes() == []
    monkeypatch.setattr(module, "find_spec", lambda name: "there")
    assert module.picture_suffixes() == [".heic", ".heif", ".png"]
    assert {".mp4", ".mov", ".mkv"} <= set(module.video_suffixes())


def test_a_photo_may_be_as_large_as_for_the_command(monkeypatch):
    """No limit of the page's own: what `read_picture` takes is taken."""
    large = np.broadcast_to(np.uint8(0), (20_000, 20_000, 3))
    monkeypatch.setattr(module, "read_picture", lambda path: large)
    assert module.read(Path("large.png")) is large


class Browser:
    """Gradio's request, as far as it is looked at."""

    def __init__(self, token):
        self.cookies = {COOKIE: token}


@pytest.fixture
def answers(studio, tmp_path):
    (tmp_path / "page").mkdir()
    return Answers(studio, Sessions(tmp_path / "page"), [], [])


def display_p3():
    """The bytes of a Display P3 profile: Pillow's sRGB one with other primaries (D50, as they stand in profiles)."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    primaries = {b"rXYZ": (0.51512, 0.2412, -0.00105), b"gXYZ": (0.29198, 0.69225, 0.04189),
                 b"bXYZ": (0.1571, 0.06657, 0.78407)}  # fmt: skip
    for place in range(132, 132 + 12 * int.from_bytes(data[128:132], "big"), 12):
        if bytes(data[place : place + 4]) in primaries:
            at = int.from_bytes(data[place + 4 : place + 8], "big") + 8
            values = (round(65536 * value) for value in primaries[bytes(data[place : place + 4])])
            data[at : at + 12] = struct.pack(">3i", *values)
    return bytes(data)


def as_srgb(path):
    """A picture file's values as a browser shows them on an sRGB screen."""
    with Image.open(path) as image:
        profile = image.info.get("icc_profile")
        if profile:
            image = ImageCms.profileToProfile(image, io.BytesIO(profile), ImageCms.createProfile("sRGB"))
        return np.asarray(image.convert("RGB")).astype(int)


def test_a_display_p3_photo_looks_the_same_before_and_after_and_where_it_is_clicked(answers, tmp_path):
    (tmp_path / "source.png").write_bytes(encode_png(scene((BLUE, 40, 40))))
    photo = scene((RED, 16, 40))
    photo[:30] = (40, 190, 60)  # where nothing is swapped; quite another green in sRGB
    Image.fromarray(photo).save(tmp_path / "p3.png", icc_profile=display_p3())
    assert np.abs(as_srgb(tmp_path / "p3.png") - photo).max() > 15
    request = Browser(answers.sessions.begin())
    tab, framed, _ = answers.target(tmp_path / "p3.png", Tab(Sources((tmp_path / "source.png",))), request)
    order = Order(SwapOptions(), NO_MANIFEST, "PNG", True)
    result = answers.swap(tab, order, lambda *step: None, request)
    wanted = as_srgb(tmp_path / "p3.png")[5:20, 20:-20]
    for path in (framed, result.before, result.after):
        assert np.abs(as_srgb(path)[5:20, 20:-20] - wanted).max() <= 6, path


def test_what_came_of_a_swap_is_offered_to_its_own_browser_again(answers, tmp_path):
    (tmp_path / "source.png").write_bytes(encode_png(scene((BLUE, 40, 40))))
    (tmp_path / "My photo.png").write_bytes(encode_png(scene((RED, 16, 40))))
    request, other = Browser(answers.sessions.begin()), Browser(answers.sessions.begin())
    assert answers.returned(request) is None
    tab, *_ = answers.target(tmp_path / "My photo.png", Tab(Sources((tmp_path / "source.png",))), request)
    order, during = Order(SwapOptions(), NO_MANIFEST, "as the photo", True), []
    result = answers.swap(tab, order, lambda *step: during.append(answers.returned(request)), request)
    assert set(during) == {RUNNING}
    assert answers.returned(request) == result
    assert result.file.name == "My photo_swapped.png"
    assert answers.returned(other) is None
    assert answers.returned(Browser("forged")) is None
    with raises_user_error("nobody-chosen"):
        answers.swap(replace(tab, target=replace(tab.target, chosen=frozenset())), order, lambda *step: None, request)
    assert "No face is chosen" in answers.returned(request)


def test_values_that_the_page_does_not_offer_are_refused(answers, tmp_path):
    (tmp_path / "a.png").write_bytes(encode_png(scene((RED, 16, 40))))
    request = Browser(answers.sessions.begin())
    tab, *_ = answers.target(tmp_path / "a.png", Tab(), request)
    for place in (None, 1, "ab", [1], [1, 2, 3], ["1", "2"], {}):
        with raises_user_error("page-stale"):
            answers.click(place, tab, request)
    for number in (None, "0", -1, 0, 1.5):
        with raises_user_error("page-stale"):
            answers.source_example(number, EVERYBODY, tab)
    fine = {"strength": 1, "match_colour": False, "kept": [], "blending": "soft edge", "dropped": [], "wanted": "PNG",
            "agreed": True}  # fmt: skip
    assert order_of(**fine).agreed
    for wrong in ({"strength": "x"}, {"strength": None}, {"blending": "x"}, {"blending": []}, {"kept": None},
                  {"wanted": "EXE"}, {"dropped": 1}):  # fmt: skip
        with raises_user_error("page-stale"):
            order_of(**{**fine, **wrong})
    assert not order_of(**{**fine, "agreed": "yes"}).agreed


# In a process of its own: gradio leaves an event loop open.
BUILD = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from simswap_jax.app.page import build
from simswap_jax.app.sessions import Sessions
from simswap_jax.app.studio import Studio
swapper = SimpleNamespace(photos=SimpleNamespace(takes_photos=sys.argv[1] == "photos"))
page = build(Studio(swapper), Sessions(Path(sys.argv[2])), 5)
told = [(event.fn and event.fn.__name__, len(event.inputs), len(event.outputs)) for event in page.fns.values()]
print(json.dumps(told))
"""


@pytest.mark.slow
@pytest.mark.parametrize("takes", ["photos", "crops"])
def test_the_page_is_built_with_an_event_for_every_element(tmp_path, takes):
    said = subprocess.run([sys.executable, "-c", BUILD, takes, tmp_path], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout) == [
        *[["sources_changed", 4, 6]] * 3,
        ["face_changed", 3, 6],
        ["<lambda>", 0, 1],
        ["source_example", 2, 7],
        *[["target_changed", 2, 5]] * 2,
        ["target_example", 1, 6],
        ["photo_clicked", 1, 4],
        [None, 0, 0],
        ["swap_clicked", 8, 5],
        ["returned", 0, 6],
        ["returned", 0, 6],
    ]
