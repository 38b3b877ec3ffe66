"""Results on disk: whole or not at all, the format that the name says, never over an input."""

import errno
import os

import numpy as np
import pytest
from PIL import Image

from simswap_jax.io.atomic import replacing_file
from simswap_jax.io.images import read_picture
from simswap_jax.provenance import c2pa, writer
from simswap_jax.provenance.label_xmp import Provenance, draw_label, read_provenance
from simswap_jax.provenance.options import LABEL, MANIFEST, MARKS, METADATA, WATERMARK, MarkOptions
from simswap_jax.provenance.watermark import THRESHOLD, detect
from tests.support.errors import raises_user_error
from tests.support.small_model import faces


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("JPG", "JPEG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_the_ending_chooses_the_format(tmp_path, suffix, kind):
    picture = faces(1, 64)[0]
    path = tmp_path / "new" / "folder" / f"x.{suffix}"
    writer.write_picture(path, picture)
    with Image.open(path) as image:
        assert image.format == kind
    tolerance = 0 if kind == "PNG" else 8
    assert np.abs(read_picture(path).astype(int) - picture).mean() <= tolerance
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_marks_are_there_unless_each_is_dropped(tmp_path):
    picture = faces(1, 64)[0]
    made_of = Provenance((("source", "ab" * 32),))
    for label in (True, False):
        for metadata in (True, False):
            path = tmp_path / f"{label}{metadata}.png"
            writer.write_result(path, picture, made_of, MarkOptions(label=label, xmp=metadata))
            np.testing.assert_array_equal(read_picture(path), draw_label(picture) if label else picture)
            assert read_provenance(path) == (made_of if metadata else None)


def test_another_ending_or_array_is_refused(tmp_path):
    for name in ("x.bmp", "x", "x.mp4"):
        with raises_user_error("picture-format", name):
            writer.write_picture(tmp_path / name, faces(1)[0])
    with raises_user_error("picture-type", "float64"):
        writer.write_picture(tmp_path / "x.png", faces(1)[0] / 255.0)
    assert not list(tmp_path.iterdir())


def test_too_many_inputs_for_a_jpeg_are_refused_before_anything_is_written(tmp_path):
    made_of = Provenance(tuple(("target", f"{i:064x}") for i in range(600)))
    with raises_user_error("metadata-too-long", "x.jpg"):
        writer.write_result(tmp_path / "x.jpg", faces(1)[0], made_of)
    assert not list(tmp_path.iterdir())
    writer.write_result(tmp_path / "x.png", faces(1)[0], made_of)
    assert read_provenance(tmp_path / "x.png") == made_of


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    path.write_bytes(b"old")

    def full(self, place, **options):
        with open(place, "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    with raises_user_error("cannot-write", path, "No space left on device"):
        writer.write_picture(path, faces(1)[0])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_nothing(tmp_path):
    def write():
        with replacing_file(tmp_path / "x.txt") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert not list(tmp_path.iterdir())


def test_a_file_where_a_folder_should_be_gets_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with raises_user_error("cannot-write", "x.png"):
        writer.write_picture(tmp_path / "file" / "x.png", faces(1)[0])


def test_outputs_are_never_inputs(tmp_path):
    source = tmp_path / "a.png"
    writer.write_picture(source, faces(1)[0])
    (tmp_path / "link.png").symlink_to(source)
    os.link(source, tmp_path / "hard.png")
    others = [tmp_path / "b.png"]
    for output in (source, tmp_path / "x" / ".." / "a.png", tmp_path / "link.png", tmp_path / "hard.png"):
        with raises_user_error("output-is-input", output):
            writer.refuse_overwriting([*others, output], [source, tmp_path / "gone.png"])
    writer.refuse_overwriting(others, [source, tmp_path / "gone.png"])


def test_pictures_of_a_folder(tmp_path):
    with raises_user_error("folder-missing", "none"):
        writer.list_pictures(tmp_path / "none")
    for name in ("b.jpg", "a.PNG", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in writer.list_pictures(tmp_path)] == ["a.PNG", "b.jpg"]
    (tmp_path / "empty").mkdir()
    with raises_user_error("folder-without-pictures", "empty"):
        writer.list_pictures(tmp_path / "empty")


def test_a_sheet_carries_all_marks_that_can_be_made(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMSWAP_JAX_CONFIG", str(tmp_path / "config"))
    sheet = faces(1, 160)[0]
    signed = () if c2pa.available() else (MANIFEST,)
    assert set(MARKS) - set(writer.write_sheet(tmp_path / "x.png", sheet)) == set(signed)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SIMSWAP_JAX_CONFIG", str(tmp_path / "file"))  # no certificate can be kept there
    carried = writer.write_sheet(tmp_path / "y.png", sheet)
    assert carried == (LABEL, METADATA, WATERMARK)
    assert read_provenance(tmp_path / "y.png") is not None
    assert detect(read_picture(tmp_path / "y.png")) > THRESHOLD


@pytest.mark.parametrize(("ending", "most"), [("webp", 16_383), ("jpg", 65_500)])
def test_a_picture_that_its_format_cannot_hold_is_one_sentence(tmp_path, ending, most):
    with raises_user_error("picture-too-large-for-format", most + 1, ".png"):
        writer.write_picture(tmp_path / f"x.{ending}", np.zeros((1, most + 1, 3), np.uint8))
    assert not list(tmp_path.iterdir())
    writer.write_picture(tmp_path / f"x.{ending}", np.zeros((1, most, 3), np.uint8))
