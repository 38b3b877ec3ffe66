"""Faces of whole photos: who is found, who is meant, back in place; the verb without --aligned; sentences."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simswap_jax import FaceSwapper
from simswap_jax.cli import swap as verb
from simswap_jax.errors import UserError
from simswap_jax.faces.alignment import TEMPLATES, align
from simswap_jax.faces.blending import place, resolve_overlaps, soft_mask
from simswap_jax.faces.detection import Face, FaceDetector
from simswap_jax.inference import batch
from simswap_jax.inference import photo as photos
from simswap_jax.inference.options import BLENDS, THRESHOLD, FaceSelection, SwapOptions
from simswap_jax.inference.selection import PhotoCandidate, match_people
from simswap_jax.io.images import read_picture
from simswap_jax.provenance.label_xmp import read_provenance
from simswap_jax.weights import model_folder, torch_weights
from tests.support.command_line import with_usual
from tests.support.errors import raises_user_error
from tests.support.small_model import FACE_SIZE, faces, write_small_model

ALIGNMENT = "simswap-frontal"


class Detector:
    """Finds a face wherever a square of a photo's height is not black; scores fall to the right."""

    def __init__(self, _path=None):
        pass

    def detect(self, photo):
        side = photo.shape[0]
        found = []
        for number, left in enumerate(range(0, photo.shape[1] - side + 1, side)):
            if photo[:, left : left + side].max() > 40:
                landmarks = TEMPLATES[ALIGNMENT][0] * side + (left, 0)
                found.append(Face((left, 0.0, side - 1 + number, side), landmarks, 0.9 - 0.1 * number))
        return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    here = tmp_path_factory.mktemp("model")
    model = model_folder.read(write_small_model(here / "rendered"))
    return model_folder.write(here / "photos", replace(model, alignment=ALIGNMENT), include_identity=True)


@pytest.fixture
def swapper(folder, monkeypatch):
    """A model whose generator inverts colours, and whose identity network gives the mean colour."""
    monkeypatch.setattr(photos, "FaceDetector", Detector)
    monkeypatch.setattr(photos.registry, "find", lambda name, purpose: name)
    made = FaceSwapper.from_pretrained(folder)
    made._generate = lambda targets, vectors: 255 - targets
    made._embed = lambda variables, pictures: colour(pictures.mean(axis=(1, 2)))
    return made


def colour(values):
    """A vector [16] for a mean colour: far apart for red, green and blue."""
    return np.pad(np.asarray(values, np.float32), [(0, 0), (0, 13)])


RED, GREEN, BLUE = np.eye(16, dtype=np.float32)[:3]


def group(*colours, side=64):
    """A photo with a face of each colour, from left to right."""
    return np.concatenate([np.full((side, side, 3), value, np.uint8) for value in colours], axis=1)


THREE = group((200, 30, 30), (30, 200, 30), (30, 30, 200))


def changed(photo, result):
    """Which of the faces, from left to right, a swap changed."""
    nose = [(42, 64 * number + 32) for number in range(photo.shape[1] // 64)]
    return [bool((result[y, x] != photo[y, x]).any()) for y, x in nose]


@pytest.mark.parametrize(
    ("who", "wanted"),
    [
        ("all", [True, True, True]),
        ("best", [True, False, False]),
        ("largest", [False, False, True]),
        (GREEN, [False, True, False]),
        (BLUE, [False, False, True]),
    ],
)
def test_the_faces_that_are_meant_are_swapped(swapper, who, wanted):
    before = THREE.copy()
    result = swapper.swap(THREE, np.ones(16, np.float32), who)
    assert result.shape == THREE.shape
    assert changed(THREE, result) == wanted
    np.testing.assert_array_equal(THREE, before)  # the photo itself is left alone


def test_a_map_gives_everybody_their_own_source(swapper):
    given = []
    swapper._generate = lambda targets, vectors: given.extend(zip(targets, vectors)) or targets
    swapper.swap(THREE, None, [(BLUE, RED), (RED, GREEN)])
    seen = {int(face.mean(axis=(0, 1)).argmax()): int(vector.argmax()) for face, vector in given}
    assert seen == {2: 0, 0: 1}


def test_a_mapping_selects_like_pairs_do(swapper):
    given = []
    swapper._generate = lambda targets, vectors: given.extend(vectors) or targets
    swapper.swap(THREE, None, {tuple(BLUE.tolist()): RED})
    assert [int(vector.argmax()) for vector in given] == [0]
    selection = FaceSelection.of([(BLUE, RED)])
    assert FaceSelection.of(selection) is selection
    assert (selection.which, selection.has_sources) == ("named", True)
    assert not FaceSelection.of(BLUE).has_sources


def test_options_are_taken_and_single_fields_changed(swapper):
    options = SwapOptions(faces=FaceSelection("all"), keep=["mouth"])
    assert changed(THREE, swapper.swap(THREE, RED, options=options)) == [True, True, True]
    assert changed(THREE, swapper.swap(THREE, RED, "best", options=options)) == [True, False, False]
    np.testing.assert_array_equal(
        swapper.swap(THREE, RED, "all", keep=["mouth"]), swapper.swap(THREE, RED, options=options)
    )


def match(cosines, threshold):
    """Which face each person is, by cosines [people, faces] as they are."""
    face = Face((0, 0, 9, 9), TEMPLATES[ALIGNMENT][0], 0.9)
    candidates = [PhotoCandidate((face,), column) for column in np.transpose(cosines)]
    given = match_people(candidates, np.eye(len(cosines)), threshold)
    return [face for _, face in sorted((person, face) for face, person in given.items())]


def test_people_are_matched_one_to_one_the_most_alike_first():
    assert match([[0.9, 0.8], [0.95, 0.1]], 0.3) == [1, 0]
    with raises_user_error("person-taken", "person 2"):
        match([[0.9], [0.8]], 0.3)
    with raises_user_error("person-not-found", "person 2 of 2", "0.10"):
        match([[0.9], [0.1]], 0.3)
    with raises_user_error("person-not-found", "0.20"):
        match([[0.2, 0.1]], 0.3)
    with raises_user_error("threshold-range", 3):
        SwapOptions(threshold=3)


def test_the_identity_of_a_photo_is_that_of_its_largest_face(swapper):
    vector = swapper.identity(THREE)
    assert vector.argmax() == 2
    np.testing.assert_allclose(vector, swapper.identity(swapper.photos.choose_face(THREE).picture, aligned=True))
    assert swapper.identity([THREE, THREE[:, :128]])[:3].argmin() == 0


def test_a_source_of_somebody_else_is_named_and_left_out(swapper, caplog):
    same = [group((200, 30 + 5 * i, 30)) for i in range(3)]
    vector, cosines = swapper.one_identity([*same, group((0, 0, 220))])
    np.testing.assert_allclose(vector, swapper.identity(same, aligned=True), atol=1e-6)
    assert (cosines > 0.9).tolist() == [True, True, True, False]
    paths = [Path(f"{i}.png") for i in range(4)]
    batch.source_vector(swapper, paths, [*same, group((0, 0, 220))])
    (said,) = caplog.messages
    assert "left out: 3.png shows somebody else than the other sources (cosine 0." in said
    both, unknown = swapper.one_identity([same[0], group((0, 0, 220))])  # of two nobody knows which
    np.testing.assert_allclose(both, swapper.identity([same[0], group((0, 0, 220))], aligned=True), atol=1e-6)
    assert np.isnan(unknown).all()


def test_colours_can_be_matched(swapper):
    plain = swapper.swap(THREE, RED, "all")
    matched = swapper.swap(THREE, RED, "all", match_colour=True)
    gap = [np.abs(result.astype(int) - THREE).mean() for result in (plain, matched)]
    assert gap[1] < 0.3 * gap[0]


@pytest.mark.parametrize("blend", BLENDS)
def test_what_is_kept_of_the_target_stays(swapper, blend):
    texture = np.random.default_rng(0).integers(90, 160, THREE.shape, np.uint8)
    landmarks = TEMPLATES[ALIGNMENT][0] * 64
    mouth = tuple(np.round(landmarks[3:].mean(axis=0)[::-1]).astype(int))
    brow = (8, 32)
    for keep, stays in (((), []), (("mouth",), [mouth]), (("hair",), [brow]), (("mouth", "hair"), [mouth, brow])):
        result = swapper.swap(texture, RED, "best", keep=keep, blend=blend)
        difference = np.abs(result.astype(int) - texture).max(axis=2)
        assert difference[round(landmarks[2, 1]), round(landmarks[2, 0])] > 10 or blend == "poisson"
        assert difference[:64, :64].max() > 10
        assert all(difference[place] <= 2 for place in stays)
    if blend == "feather":
        assert difference[mouth] <= 2 < np.abs(swapper.swap(texture, RED, "best").astype(int) - texture).max(2)[mouth]


def test_face_parsing_says_what_is_face_where_its_weights_are(swapper, monkeypatch):
    asked = []

    def parse(photo, alignment, keep):
        asked.append(tuple(keep))
        if "front" in keep:
            return None  # not understood: the landmarks' ellipse
        mask = np.zeros((alignment.size, alignment.size), np.float32)
        mask[20:24, 10:22] = 1.0
        return mask

    monkeypatch.undo()
    monkeypatch.setenv("SIMSWAP_JAX_WEIGHTS", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "nowhere")
    with pytest.raises(UserError, match=photos.PARSING):
        swapper.photos.parser(required=True)
    monkeypatch.setattr(photos, "FaceDetector", Detector)
    monkeypatch.setattr(photos.registry, "find", lambda name, purpose: name)
    swapper.photos._parser = parse
    result = swapper.swap(THREE, RED, "best")
    assert result[44, 32].tolist() != THREE[44, 32].tolist()
    assert (result[20, 32] == THREE[20, 32]).all()
    assert (swapper.swap(THREE, RED, "best", keep=["front"])[20, 32] != THREE[20, 32]).any()
    assert set(asked) == {(), ("front",)}


MISTAKES = {
    "keep": (THREE, RED, {"keep": ["nose"]}, "keep-unknown"),
    "blend": (THREE, RED, {"blend": "glue"}, "blend-unknown"),
    "no face": (group((0, 0, 0)), RED, {}, "no-face"),
    "one pixel": (np.zeros((1, 1, 3), np.uint8), RED, {}, "no-face"),
    "no pixel": (np.zeros((0, 5, 3), np.uint8), RED, {}, "picture-empty"),
    "tiny": (group((90, 90, 90), side=9), RED, {}, "no-usable-face"),
    "float": (THREE / 255.0, RED, {}, "picture-not-uint8-rgb"),
    "which": (THREE, RED, {"faces": "left"}, "selection-unknown"),
    "stranger": (THREE, RED, {"faces": np.eye(16, dtype=np.float32)[9]}, "person-not-found"),
    "no source": (THREE, None, {}, "source-missing"),
    "two sources": (THREE, RED, {"faces": [(RED, BLUE)]}, "source-given-twice"),
    "nobody": (THREE, None, {"faces": []}, "selection-without-people"),
    "short": (THREE, RED[:4], {}, "vector-size"),
    "short person": (THREE, RED, {"faces": RED[:4]}, "vector-size"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_a_sentence(swapper, mistake):
    photo, vector, options, code = MISTAKES[mistake]
    with raises_user_error(code):
        swapper.swap(photo, vector, **options)


def test_a_profile_is_refused_by_a_frontal_template_and_taken_by_the_five():
    profile = Face((0, 0, 90, 90), TEMPLATES["simswap"][0] * 100, 0.9)
    assert "turned too far" in photos.unusable(profile, align(profile.landmarks, "simswap-frontal", 112))
    assert photos.unusable(profile, align(profile.landmarks, "simswap", 112)) == ""


def test_a_missing_detector_and_a_model_of_rendered_faces_get_a_sentence(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMSWAP_JAX_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = FaceSwapper.from_pretrained(folder)
    with pytest.raises(UserError, match=photos.DETECTOR):
        made.identity(THREE)
    (tmp_path / "mine.onnx").write_text("no network")
    with raises_user_error("detector-unusable", "mine.onnx"):
        FaceSwapper(made.model, tmp_path / "mine.onnx").identity(THREE)
    with raises_user_error("model-takes-crops-only", "rendered"):
        FaceSwapper(replace(made.model, alignment="rendered")).swap(THREE, RED)


@pytest.fixture
def run(folder, tmp_path, monkeypatch, caplog):
    """The verb on photos of a folder, with the detector of these tests."""
    monkeypatch.setattr(photos, "FaceDetector", Detector)
    monkeypatch.setattr(photos.onnx_session, "check_yunet", lambda path: None)
    monkeypatch.setattr(photos.registry, "find", lambda name, purpose: name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "many").mkdir()
    for number, picture in enumerate(faces(3, 2 * FACE_SIZE)):
        Image.fromarray(picture).save(f"{number}.png")
        Image.fromarray(np.concatenate([picture, picture[:, ::-1]], axis=1)).save(f"many/{number}.png")
    caplog.set_level("INFO")
    return lambda *words: verb.main(["--model", str(folder), *words])


def test_the_verb_swaps_a_photo_with_its_marks(run, caplog):
    words = ["--source", "0.png", "2.png", "--target", "many/1.png", "--faces", "all", "--no-visible-label"]
    assert run(*words, "--output", "x.png") == 0
    target, result = read_picture("many/1.png"), read_picture("x.png")
    assert result.shape == target.shape
    difference = np.abs(result.astype(int) - target).max(axis=2)
    assert difference[42, 32] > 10
    assert difference[42, 96] > 10
    assert [role for role, _ in read_provenance("x.png").inputs] == ["source", "source", "target"]
    assert "Swapped all faces into x.png" in caplog.text


def test_a_broken_photo_of_a_folder_is_named_and_the_rest_done(run, tmp_path, caplog):
    Image.new("RGB", (70, 70)).save("many/black.png")
    (tmp_path / "many/text.jpg").write_text("no picture")
    assert run("--source", "0.png", "--target", "many", "--output", "out") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png"]
    assert "3 of 5 photos" in caplog.text
    assert "left out: many/black.png: " in caplog.text
    assert "left out: many/text.jpg " in caplog.text


def test_fifty_photos_of_which_three_are_broken(run, tmp_path, caplog):
    fifty = tmp_path / "fifty"
    fifty.mkdir()
    for number, picture in enumerate(faces(47, FACE_SIZE)):
        Image.fromarray(picture).save(fifty / f"{number:02d}.png")
    (fifty / "text.jpg").write_text("no picture")
    (fifty / "empty.png").write_bytes(b"")
    (fifty / "torn.png").write_bytes((fifty / "00.png").read_bytes()[:300])
    assert run("--source", "0.png", "--target", "fifty", "--output", "out", "--no-c2pa-manifest") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{i:02d}.png" for i in range(47)]
    assert "in 47 of 50 photos" in caplog.text
    named = [line for line in caplog.messages if "left out:" in line]
    assert [any(name in line for line in named) for name in ("text.jpg", "empty.png", "torn.png")] == [True] * 3
    assert len(named) == 3


def large_png(path, side):
    """A PNG that says it has side × side pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0")
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


BAD = {
    "1x1": lambda path: Image.new("RGB", (1, 1)).save(path),
    "625 megapixels": lambda path: large_png(path, 25_000),
    "cut off": lambda path: path.write_bytes(Path("1.png").read_bytes()[:400]),
    "text": lambda path: path.write_text("no picture"),
    "empty": lambda path: path.write_bytes(b""),
    "tiny face": lambda path: Image.new("RGB", (8, 8), "white").save(path),
}
NAMED = {
    "1x1": "1×1",
    "625 megapixels": "536 megapixels",
    "cut off": "ends too early",
    "text": "not a picture",
    "empty": "empty",
    "tiny face": "too small",
}


@pytest.mark.parametrize("role", ["source", "target"])
@pytest.mark.parametrize("kind", BAD)
def test_bad_photos_get_one_sentence_and_leave_no_output(run, tmp_path, kind, role):
    BAD[kind](tmp_path / "bad.png")
    files = {"source": "1.png", "target": "2.png", role: "bad.png"}
    with pytest.raises(UserError, match=NAMED[kind]) as caught:
        run("--source", files["source"], "--target", files["target"], "--output", "x.png")
    assert "bad.png" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.png").exists()


def test_an_output_that_cannot_be_written_gets_one_sentence(run, tmp_path):
    (tmp_path / "file").write_text("")
    with raises_user_error("cannot-write", "file/x.png"):
        run("--source", "1.png", "--target", "2.png", "--output", "file/x.png")


def test_only_a_profile_gets_one_sentence(swapper):
    class Sideways(Detector):
        def detect(self, photo):
            return [Face((0, 0, 60, 60), TEMPLATES["simswap"][0] * 64, 0.9)]

    swapper.photos.__dict__["_detector"] = Sideways()
    with raises_user_error("no-usable-face", "the only face", "turned too far away"):
        swapper.swap(THREE, RED)


def test_of_several_faces_of_a_source_another_can_be_chosen(swapper, caplog):
    caplog.set_level("INFO")
    assert swapper.identity(THREE).argmax() == 2
    assert "3 faces; number 3 from the left" in caplog.text
    caplog.clear()
    assert swapper.identity(group((30, 200, 30))).argmax() == 1
    assert not caplog.text
    for number, wanted in ((1, 0), (2, 1), (3, 2)):
        assert swapper.identity(THREE, face=number).argmax() == wanted
    both = swapper.identity([THREE, group((200, 30, 30))], face=(2, 1))
    assert sorted(np.argsort(both)[-2:]) == [0, 1]
    with raises_user_error("source-face-missing", "3 faces", "number 4"):
        swapper.identity(THREE, face=4)
    with raises_user_error("source-face-numbers", "2 source photos", "1, 2, 3"):
        swapper.identity([THREE, THREE], face=(1, 2, 3))


def test_the_verb_takes_the_source_face_that_is_named(run, tmp_path, caplog):
    caplog.set_level("INFO")
    Image.fromarray(THREE).save(tmp_path / "three.png")
    run("--source", "three.png", "--target", "2.png", "--output", "x.png", "--source-face", "1")
    assert "three.png shows 3 faces; number 1 from the left is taken." in caplog.text
    with raises_user_error("source-face-missing", "three.png"):
        run("--source", "three.png", "--target", "2.png", "--output", "y.png", "--source-face", "4")
    assert not (tmp_path / "y.png").exists()


def test_a_face_whose_direction_cannot_be_told_is_left_out_and_said(swapper, caplog):
    class Doubtful(Detector):
        def detect(self, photo):
            first, *others = super().detect(photo)
            return [replace(first, direction_known=False), *others]

    caplog.set_level("INFO")
    swapper.photos.__dict__["_detector"] = Doubtful()
    assert changed(THREE, swapper.swap(THREE, RED, "all")) == [False, True, True]
    assert "left out of the target photo: a face that lies at an angle" in caplog.text
    with raises_user_error("no-usable-face", "direction cannot be determined"):
        swapper.swap(group((200, 30, 30)), RED)


def test_results_have_no_colour_where_the_photo_has_none(swapper):
    swapper._generate = lambda targets, vectors: np.clip(targets * (0.9, 0.6, 0.4) + 20, 0, 255).astype("uint8")
    photo = np.repeat(np.random.default_rng(0).integers(90, 220, (64, 64, 1), np.uint8), 3, axis=2)
    for options in (SwapOptions(), SwapOptions(match_colour=True), SwapOptions(blend="poisson")):
        result = swapper.swap(photo, RED, options=options)
        assert (result != photo).any()
        assert (result == result[:, :, :1]).all()


REFUSED = {
    "no parsing": (["--keep", "front", "--detector", "0.png"], "parsing-missing"),
    "no face in the source": (["--source", "black.png"], "no-face", "black.png"),
    "no face in the target": (["--target", "black.png"], "no-face", "black.png"),
    "output is the target": (["--output", "0.png"], "output-is-input", "0.png"),
    "output is the person": (["--person", "2.png", "--output", "2.png"], "output-is-input", "2.png"),
    "a person who is not there": (["--person", "none.png"], "picture-missing", "none.png"),
    "too few sources": (["--person", "0.png", "2.png"], "people-and-sources", "2 people", "1 sources"),
    "both": (["--person", "0.png", "--faces", "all"], "faces-and-person"),
    "threshold alone": (["--threshold", "0.5"], "threshold-without-person"),
    "not in the photo": (["--person", "2.png", "--threshold", "1"], "person-not-found"),
    "aligned": (["--aligned", "--faces", "all"], "photo-arguments", "--faces", "--aligned"),
    "grid": (["--grid", "--match-colour"], "photo-arguments", "--match-colour", "--grid"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_the_verb_refuses_with_one_sentence_and_leaves_nothing(run, tmp_path, mistake):
    Image.new("RGB", (70, 70)).save("black.png")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    words, code, *named = REFUSED[mistake]
    with raises_user_error(code, *named) as caught:
        run(*with_usual(words, source="1.png", target="0.png", output="x.png"))
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_a_photo_keeps_its_detail_where_nothing_is_changed_and_its_face_beyond_the_mask():
    """A face of 200 pixels in a crop of 64: an unchanged crop changes nothing; the mask is smaller than the face."""
    photo = np.random.default_rng(0).integers(80, 170, (240, 240, 3)).astype(np.uint8)
    fit = align(TEMPLATES[ALIGNMENT][0] * 200 + 20, ALIGNMENT, 64)
    one = photos.FoundFace(Face((60, 60, 120, 120), fit.landmarks, 1.0), fit)
    np.testing.assert_array_equal(photos.put_back(photo, [one], {0: one.crop(photo)}), photo)
    mask, whole = photos.face_mask(photo, fit), soft_mask(fit.landmarks, 64)
    assert (mask <= whole).all()
    assert (mask > 0).sum() < 0.85 * (whole > 0).sum()
    assert all(mask[round(y), round(x)] == 1.0 for x, y in fit.landmarks[:3])


@pytest.mark.parametrize(("blend", "most"), [("feather", 1), ("poisson", 0)])
def test_the_order_of_faces_that_overlap_does_not_count(blend, most):
    photo, found, drawn = overlapping()
    one, other = (
        photos.put_back(photo, found, {i: drawn[i] for i in order}, SwapOptions(blend=blend))
        for order in ((0, 1), (1, 0))
    )
    assert np.abs(one.astype(int) - other).max() <= most  # levels: what rounding leaves


def test_nothing_of_the_photo_stays_between_two_swapped_faces():
    photo, found, drawn = overlapping()
    places = resolve_overlaps(
        [place(photo.shape, one.alignment, photos.face_mask(photo, one.alignment)) for one in found]
    )
    masks = np.zeros((2, *photo.shape[:2]))
    for mask, one in zip(masks, places):
        mask[one.window] = one.mask
    seam = (masks.min(axis=0) > 0.3) & (masks.sum(axis=0) > 0.999)
    assert seam.any()
    assert photos.put_back(photo, found, drawn)[seam].max() <= 42


def overlapping():
    """A bright photo, two faces in it that overlap, and what is drawn in their places, at most 40 levels."""
    photo = np.full((200, 260, 3), (220, 170, 150), np.uint8)
    fits = [align(TEMPLATES[ALIGNMENT][0] * 150 + shift, ALIGNMENT, 64) for shift in ((20, 10), (75, 40))]
    found = [photos.FoundFace(Face((20, 20, 150, 150), fit.landmarks, 1.0), fit) for fit in fits]
    waves = (20 + 20 * np.sin(np.arange(64) / 3)).astype(np.uint8)[:, None, None].repeat(64, axis=1).repeat(3, axis=2)
    return photo, found, {0: waves, 1: np.ascontiguousarray(waves.transpose(1, 0, 2))}


@pytest.mark.slow
def test_an_identity_generator_leaves_every_photo_as_it_was(outside, monkeypatch):
    """Within 2 grey levels everywhere without the photo's detail, so that faces go back to exactly their place."""
    monkeypatch.setattr(photos, "fine_detail", lambda *_: None)  # it would make up for any displacement
    detector = FaceDetector(outside("face_detection_yunet.onnx"))
    worst = {}
    for path in sorted(outside("photos").iterdir()):
        photo = read_picture(path)[::2, ::2] if path.name == "Iron_man.jpg" else read_picture(path)
        found = photos.find_faces(detector, photo, ALIGNMENT, 1000)
        # Six times as dense as the photo, so that the crop itself loses nothing (at 224 it would).
        sizes = [round(6 * 1000 / one.alignment.density) for one in found]
        found = [replace(one, alignment=align(one.face.landmarks, ALIGNMENT, n)) for one, n in zip(found, sizes)]
        result = photos.put_back(photo, found, {i: one.crop(photo) for i, one in enumerate(found)})
        worst[path.name] = int(np.abs(result.astype(int) - photo).max())
    assert len(worst) > 0
    assert max(worst.values()) <= 2, worst


def test_the_three_people_of_the_group_photo_are_told_apart(outside):
    detector = FaceDetector(outside("face_detection_yunet.onnx"))
    network, variables = torch_weights.load_identity_network(outside("mobilefacenet_casia.ckpt"))
    files = ["multi_people.jpg", "specific1.png", "specific2.png", "specific3.png"]
    crops, lefts = [], []
    for name in files:
        photo = read_picture(outside("photos") / name)
        for one in photos.find_faces(detector, photo, ALIGNMENT, 112):
            crops.append(one.crop(photo))
            lefts.append(one.face.box[0])
    vectors = np.asarray(network.embed(variables, np.stack(crops).astype(np.float32) / 255.0))
    assert len(vectors) == 6
    places = [lefts[face] for face in match(vectors[3:] @ vectors[:3].T, THRESHOLD)]
    assert np.argsort(places).tolist() == [2, 0, 1]  # from the left: specific3, specific1, specific2
