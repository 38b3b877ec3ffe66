"""`simswap-jax swap`: pairs, folders and grids; broken files; marks; what it says."""

import numpy as np
import pytest
from PIL import Image

from simswap_jax import FaceSwapper
from simswap_jax.cli import swap as verb
from simswap_jax.errors import UserError
from simswap_jax.io.images import read_picture
from simswap_jax.provenance import c2pa
from simswap_jax.provenance.label_xmp import draw_label, file_sha256, read_provenance
from tests.support.errors import raises_user_error
from tests.support.small_model import faces, write_small_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_small_model(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture
def photos(tmp_path):
    """Two folders of three pictures with the same names, one of them in another size."""
    for seed, folder in enumerate(("sources", "targets")):
        (tmp_path / folder).mkdir()
        for number, face in enumerate(faces(3, 40, seed)):
            Image.fromarray(face).resize((40 + 8 * (number == 2),) * 2).save(tmp_path / folder / f"{number}.png")
    return tmp_path


@pytest.fixture
def swap(model, photos, caplog):
    caplog.set_level("INFO")

    def run(*words, aligned=True):
        paths = [str(photos / word) if (photos / word).exists() or "/" in word else word for word in words]
        return verb.main([*(["--aligned"] if aligned else []), "--model", str(model), *paths])

    return run


def everything(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_pair(swap, photos, model, caplog, monkeypatch):
    monkeypatch.setattr(c2pa, "available", lambda: False)
    output = photos / "out" / "x.png"
    assert swap("--source", "sources/0.png", "--target", "targets/1.png", "--output", str(output)) == 0
    swapper = FaceSwapper.from_pretrained(model)
    vector = swapper.identity(read_picture(photos / "sources/0.png"), aligned=True)
    wanted = draw_label(swapper.swap_aligned(read_picture(photos / "targets/1.png"), vector))
    np.testing.assert_array_equal(read_picture(output), wanted)
    assert read_provenance(output).inputs == (
        ("source", file_sha256(photos / "sources/0.png")),
        ("target", file_sha256(photos / "targets/1.png")),
    )
    said = caplog.text
    assert f"Swapped 1 face into {output}." in said
    assert "Marked as synthetic by a visible label and XMP metadata. There is no C2PA manifest" in said
    assert "No room for an invisible watermark in 1 of 1 (under 112 pixels)." in said


def test_several_sources_are_one_person(swap, photos, model):
    words = ["--source", "sources/0.png", "sources/2.png", "--target", "targets/1.png", "--no-visible-label"]
    assert swap(*words, "--output", str(photos / "x.png")) == 0
    swapper = FaceSwapper.from_pretrained(model)
    vector = swapper.identity([read_picture(photos / f"sources/{i}.png") for i in (0, 2)], aligned=True)
    wanted = swapper.swap_aligned(read_picture(photos / "targets/1.png"), vector)
    np.testing.assert_array_equal(read_picture(photos / "x.png"), wanted)
    assert [role for role, _ in read_provenance(photos / "x.png").inputs] == ["source", "source", "target"]


def test_marks_are_dropped_by_their_own_flags_and_it_says_so(swap, photos, caplog, monkeypatch):
    monkeypatch.setattr(c2pa, "available", lambda: False)
    words = ["--source", "sources/0.png", "--target", "targets/1.png", "--no-metadata"]
    assert swap(*words, "--output", str(photos / "x.jpg")) == 0
    assert read_provenance(photos / "x.jpg") is None
    assert "by a visible label only, without metadata" in caplog.text
    assert "there already" not in caplog.text
    assert swap(*words, "--no-visible-label", "--output", str(photos / "x.jpg")) == 0
    assert "Not marked as synthetic: without visible label and metadata" in caplog.text
    assert f"{photos / 'x.jpg'} is there already and will be replaced." in caplog.text


def test_a_folder_of_pairs_by_name(swap, photos, model, caplog):
    words = ["--source", "sources", "--target", "targets", "--output", str(photos / "out"), "--batch-size", "2"]
    assert swap(*words, "--no-visible-label") == 0
    assert everything(photos / "out") == ["0.png", "1.png", "2.png"]
    swapper = FaceSwapper.from_pretrained(model)
    for name in ("0.png", "1.png", "2.png"):
        vector = swapper.identity(read_picture(photos / "sources" / name), aligned=True)
        wanted = swapper.swap_aligned(read_picture(photos / "targets" / name), vector)
        np.testing.assert_allclose(read_picture(photos / "out" / name).astype(int), wanted, atol=1)
    assert "Swapped 3 of 3 faces" in caplog.text


def test_what_a_folder_holds_besides_is_named_and_counted(swap, photos, caplog):
    """Videos, folders below and other files; earlier results among them are not."""
    (photos / "targets" / "clip.mp4").touch()
    (photos / "targets" / "album" / "2024").mkdir(parents=True)
    for name in ("album/a.jpg", "album/2024/b.jpg", "out/0.png", "Thumbs.db", "noending"):
        (photos / "targets" / name).parent.mkdir(exist_ok=True)
        (photos / "targets" / name).touch()
    output = str(photos / "targets" / "out")
    assert swap("--source", "sources/0.png", "--target", "targets", "--output", output, "--no-c2pa-manifest") == 0
    said = [line for line in caplog.messages if "not done" in line]
    assert len(said) == 1
    assert "1 .db (Thumbs.db), 2 .jpg (album/2024/b.jpg, album/a.jpg), 1 .mp4 (clip.mp4)" in said[0]
    assert "1 without ending (noending)" in said[0]
    assert "out/0.png" not in said[0]


def test_sources_without_a_target_are_named(swap, photos, caplog):
    (photos / "targets" / "2.png").unlink()
    words = ["--source", "sources", "--target", "targets", "--output", str(photos / "out"), "--no-c2pa-manifest"]
    assert swap(*words) == 0
    assert "1 .png (2.png); taken are sources with the name of a target" in caplog.text


def test_a_folder_of_folders_says_where_the_pictures_are(swap, photos):
    (photos / "all" / "targets").mkdir(parents=True)
    (photos / "all" / "targets" / "1.jpg").touch()
    with raises_user_error("folder-without-pictures", "1 .jpg (targets/1.jpg)"):
        swap("--source", "sources/0.png", "--target", str(photos / "all"), "--output", str(photos / "out"))


def test_one_person_on_a_folder(swap, photos, caplog):
    (photos / "out").mkdir()
    (photos / "out" / "1.png").touch()
    assert swap("--source", "sources/0.png", "--target", "targets", "--output", str(photos / "out")) == 0
    assert everything(photos / "out") == ["0.png", "1.png", "2.png"]
    digest = file_sha256(photos / "sources/0.png")
    assert all(read_provenance(photos / "out" / f"{i}.png").inputs[0] == ("source", digest) for i in range(3))
    assert (
        f"1 of 3 results in {photos / 'out'} is there already, and each is replaced when its own is done."
        in caplog.text
    )


def test_broken_files_of_a_folder_are_named_and_the_rest_done(swap, photos, caplog):
    (photos / "targets/0.png").write_text("no picture")
    Image.new("RGB", (20, 30)).save(photos / "targets/3.png")
    Image.new("RGB", (30, 30)).save(photos / "sources/3.png")
    Image.new("RGB", (30, 30)).save(photos / "targets/alone.png")
    assert swap("--source", "sources", "--target", "targets", "--output", str(photos / "out")) == 1
    assert everything(photos / "out") == ["1.png", "2.png"]
    assert "Swapped 2 of 5 faces" in caplog.text
    assert "targets/0.png is not a picture" in caplog.text
    assert "targets/3.png: an aligned target must be square, not 20×30" in caplog.text
    assert "alone.png has no source of that name" in caplog.text
    assert "3 left out" in caplog.text


def test_formats_that_are_not_written_become_png(swap, photos):
    Image.fromarray(faces(1)[0]).save(photos / "targets/9.bmp")
    assert swap("--source", "sources/0.png", "--target", "targets", "--output", str(photos / "out")) == 0
    assert everything(photos / "out") == ["0.png", "1.png", "2.png", "9.bmp.png"]


def test_two_targets_that_would_become_one_file_are_refused(swap, photos):
    picture = Image.fromarray(faces(1)[0])
    picture.save(photos / "targets/9.bmp")
    picture.save(photos / "targets/9.bmp.png")
    with raises_user_error("two-of-one-name", "targets/9.bmp and ", "targets/9.bmp.png would both", "out/9.bmp.png"):
        swap("--source", "sources/0.png", "--target", "targets", "--output", str(photos / "out"))
    assert not (photos / "out").exists()


def test_a_grid(swap, photos, caplog):
    words = ["--grid", "--source", "sources/0.png", "sources/1.png", "--target", "targets", "--no-visible-label"]
    assert swap(*words, "--output", str(photos / "grid.png")) == 0
    sheet = read_picture(photos / "grid.png")
    assert sheet.shape[1] > 4 * 96
    assert sheet.shape[0] > 3 * 96
    assert len(read_provenance(photos / "grid.png").inputs) == 5
    assert "2 sources × 3 targets = 6 faces" in caplog.text


def test_the_cells_of_a_grid_are_labelled_and_its_inputs_not(swap, photos):
    words = ["--grid", "--source", "sources/0.png", "--target", "targets/1.png", "--no-invisible-mark"]
    assert swap(*words, "--output", str(photos / "plain.png"), "--no-visible-label") == 0
    assert swap(*words, "--output", str(photos / "grid.png")) == 0
    changed = np.argwhere((read_picture(photos / "plain.png") != read_picture(photos / "grid.png")).any(axis=2))
    height, width = read_picture(photos / "grid.png").shape[:2]
    assert len(changed)
    assert changed[:, 0].min() > height - 96  # only in the swapped cell, lower right
    assert changed[:, 1].min() > width - 96 / 2 - 4  # one cell's label, not another one for the sheet


# Words, the code (empty: of another package's), and what the sentence names.
MISTAKES = {
    "not aligned": (
        ["--source", "sources/0.png", "--target", "targets/0.png", "--output", "x.png"],
        "model-takes-crops-only",
    ),
    "missing": (["--source", "sources/none.png", "--target", "targets/0.png", "--output", "x.png"], "path-missing"),
    "text": (["--source", "sources/0.png", "--target", "text.jpg", "--output", "x.png"], "", "text.jpg"),
    "tall": (["--source", "tall.png", "--target", "targets/0.png", "--output", "x.png"], "face-not-square"),
    "ending": (["--source", "sources/0.png", "--target", "targets/0.png", "--output", "x.gif"], "picture-format"),
    "over target": (
        ["--source", "sources/0.png", "--target", "targets/0.png", "--output", "targets/0.png"],
        "output-is-input",
    ),
    "over folder": (["--source", "sources", "--target", "targets", "--output", "targets"], "output-is-input"),
    "over sources": (["--source", "sources", "--target", "targets", "--output", "sources"], "output-is-input"),
    "folder to file": (["--source", "sources/0.png", "--target", "targets", "--output", "text.jpg"], "output-is-file"),
    "file to folder": (
        ["--source", "sources/0.png", "--target", "targets/0.png", "--output", "targets.png"],
        "output-is-folder",
    ),
    "folder on file": (
        ["--source", "sources", "--target", "targets/0.png", "--output", "x.png"],
        "source-folder",
    ),
    "two targets": (
        ["--source", "sources/0.png", "--target", "targets/0.png", "targets/1.png", "--output", "x"],
        "several-targets",
    ),
    "empty folder": (["--source", "sources/0.png", "--target", "empty", "--output", "out"], "folder-without-pictures"),
    "no names": (["--source", "other", "--target", "targets", "--output", "out"], "no-equal-names"),
    "all broken": (["--source", "sources/0.png", "--target", "broken", "--output", "out"], "nothing-swapped"),
    "strength": (
        ["--source", "sources/0.png", "--target", "targets/0.png", "--output", "x.png", "--strength", "3"],
        "strength-range",
    ),
    "batch": (
        ["--source", "sources/0.png", "--target", "targets", "--output", "out", "--batch-size", "0"],
        "batch-size-range",
    ),
    "quality": (
        ["--source", "sources/0.png", "--target", "targets", "--output", "out", "--quality", "0"],
        "quality-range",
    ),
    "grid of broken": (
        ["--grid", "--source", "broken", "--target", "targets", "--output", "x.png"],
        "nothing-read",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_one_sentence_and_leave_nothing(swap, photos, monkeypatch, mistake):
    (photos / "text.jpg").write_text("no picture")
    Image.new("RGB", (20, 30)).save(photos / "tall.png")
    for folder in ("empty", "targets.png", "other", "broken"):
        (photos / folder).mkdir()
    Image.new("RGB", (20, 20)).save(photos / "other/else.png")
    (photos / "broken/a.png").write_text("no picture")
    monkeypatch.chdir(photos)
    before = {name: (photos / name).read_bytes() for name in everything(photos) if (photos / name).is_file()}
    words, code, *named = MISTAKES[mistake]
    with pytest.raises(UserError) as caught:
        swap(*words, aligned=mistake != "not aligned")
    assert code in ("", caught.value.code)
    assert all(value in str(caught.value) for value in named)
    assert "\n" not in str(caught.value)
    after = {name: (photos / name).read_bytes() for name in everything(photos) if (photos / name).is_file()}
    assert after == before


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--alignment", "arcface"], ("'rendered'", "'arcface'")),
        (["--size", "224"], ("32 pixels", "224")),
    ],
)
def test_a_model_for_other_crops_is_refused_with_the_reason(swap, photos, words, named):
    output = photos / "x.png"
    with pytest.raises(UserError) as caught:
        swap("--source", "sources/0.png", "--target", "targets/1.png", *words, "--output", str(output))
    assert all(value in str(caught.value) for value in named)
    assert not output.exists()


def test_a_model_for_these_crops_is_taken(swap, photos):
    words = ["--alignment", "rendered", "--size", "32"]
    assert (
        swap("--source", "sources/0.png", "--target", "targets/1.png", *words, "--output", str(photos / "x.png")) == 0
    )
