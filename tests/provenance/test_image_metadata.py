"""EXIF, colour profile and history of a photo are in its result; the thumbnail and the orientation are not."""

import io
import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from simswap_jax.cli import main as cli
from simswap_jax.provenance import c2pa
from simswap_jax.provenance.label_xmp import SOURCE_TYPE, Provenance, read_provenance
from simswap_jax.provenance.options import MarkOptions
from simswap_jax.provenance.writer import PhotoMetadata, read_photo_metadata, write_result
from tests.support.small_model import FACE_SIZE, faces, write_small_model

UNSIGNED = MarkOptions(c2pa=False)
MADE_OF = Provenance(inputs=(("source", "ab" * 32), ("target", "cd" * 32)))
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
needs_extra = pytest.mark.skipif(not c2pa.available(), reason="the extra 'provenance' is not installed")


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMSWAP_JAX_CONFIG", str(tmp_path / "config"))


def exif(**more):
    written = Image.Exif()
    written[ExifTags.Base.Artist] = "Anna"
    written[ExifTags.Base.Copyright] = "© Anna"
    written[ExifTags.Base.Orientation] = 6
    written[ExifTags.IFD.Exif] = {
        ExifTags.Base.DateTimeOriginal: "2020:02:03 04:05:06",
        ExifTags.Base.ExposureTime: 0.01,
        ExifTags.Base.MakerNote: more.get("note", b"note"),
    }
    written[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (48.0, 8.0, 15.0)}
    return written


def photo(path, **options):
    Image.fromarray(faces(1, 128)[0]).save(path, **{"exif": exif().tobytes(), "icc_profile": PROFILE, **options})
    return path


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_it_is_kept_in_every_format(tmp_path, kind, suffix):
    source = photo(tmp_path / f"photo.{kind}")
    write_result(tmp_path / f"x.{suffix}", faces(1, 128)[0], MADE_OF, UNSIGNED, parent=source)
    with Image.open(tmp_path / f"x.{suffix}") as result:
        found = result.getexif()
        assert found[ExifTags.Base.Artist] == "Anna"
        assert found[ExifTags.Base.Orientation] == 1  # the pixels are upright
        details = found.get_ifd(ExifTags.IFD.Exif)
        assert details[ExifTags.Base.DateTimeOriginal] == "2020:02:03 04:05:06"
        assert float(details[ExifTags.Base.ExposureTime]) == 0.01
        assert details[ExifTags.Base.MakerNote] == b"note"
        assert [float(value) for value in found.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude]] == [48, 8, 15]
        assert result.info["icc_profile"] == PROFILE
        assert result.size == (128, 128)
    assert read_provenance(tmp_path / f"x.{suffix}") == MADE_OF


def with_thumbnail():
    """EXIF as cameras write it, with a small JPEG of the face behind it; Pillow writes none, so by hand."""
    small = io.BytesIO()
    Image.fromarray(faces(1, 16)[0]).save(small, "JPEG")
    content = small.getvalue()

    def entry(tag, value):
        return tag.to_bytes(2, "big") + b"\0\4\0\0\0\1" + value.to_bytes(4, "big")

    first = b"\0\1" + entry(0x0112, 1)[:2] + b"\0\3\0\0\0\1\0\6\0\0" + (26).to_bytes(4, "big")
    second = b"\0\2" + entry(0x0201, 56) + entry(0x0202, len(content)) + bytes(4)
    return b"Exif\0\0MM\0*\0\0\0\10" + first + second + content


def test_the_thumbnail_of_the_old_face_is_left_behind(tmp_path):
    source = photo(tmp_path / "photo.jpg", exif=with_thumbnail())
    with Image.open(source) as image:
        assert image.getexif().get_ifd(ExifTags.IFD.IFD1)  # it is there
    assert source.read_bytes().count(b"\xff\xd8\xff") == 2
    write_result(tmp_path / "x.jpg", faces(1, 128)[0], MADE_OF, UNSIGNED, parent=source)
    assert (tmp_path / "x.jpg").read_bytes().count(b"\xff\xd8\xff") == 1


def test_a_profile_that_does_not_fit_is_left_out(tmp_path):
    grey = Image.fromarray(faces(1, 128)[0]).convert("L")
    grey.save(tmp_path / "grey.png", icc_profile=PROFILE[:16] + b"GRAY" + PROFILE[20:])
    assert read_photo_metadata(tmp_path / "grey.png") == PhotoMetadata()
    Image.fromarray(faces(1, 128)[0]).convert("CMYK").save(tmp_path / "cmyk.jpg", icc_profile=PROFILE)
    assert read_photo_metadata(tmp_path / "cmyk.jpg") == PhotoMetadata()


def test_what_does_not_fit_into_a_jpeg_is_left_out(tmp_path):
    note = photo(tmp_path / "photo.png", exif=exif(note=bytes(70_000)).tobytes())
    write_result(tmp_path / "x.jpg", faces(1, 128)[0], MADE_OF, UNSIGNED, parent=note)
    with Image.open(tmp_path / "x.jpg") as result:
        assert result.getexif()[ExifTags.Base.Artist] == "Anna"
        assert ExifTags.Base.MakerNote not in result.getexif().get_ifd(ExifTags.IFD.Exif)


@pytest.mark.parametrize("broken", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(200)])
def test_broken_exif_is_left_out(tmp_path, broken):
    source = photo(tmp_path / "photo.jpg", exif=broken)
    write_result(tmp_path / "x.jpg", faces(1, 128)[0], MADE_OF, UNSIGNED, parent=source)
    assert read_provenance(tmp_path / "x.jpg") == MADE_OF
    (tmp_path / "none.jpg").write_text("hello")
    assert read_photo_metadata(tmp_path / "none.jpg") == PhotoMetadata()


@needs_extra
def test_the_command_line_keeps_all_three(tmp_path):
    model = write_small_model(tmp_path / "model")
    write_result(
        tmp_path / "target.jpg", faces(1, 128)[0], replace(MADE_OF, tool="camera"), parent=photo(tmp_path / "p.jpg")
    )
    Image.fromarray(faces(1)[0]).save(tmp_path / "source.png")
    words = ["--model", str(model), "--source", str(tmp_path / "source.png"), "--target", str(tmp_path / "target.jpg")]
    assert cli.main(["swap", "--aligned", *words, "--output", str(tmp_path / "x.png"), "--no-metadata"]) == 0
    with Image.open(tmp_path / "x.png") as result:
        assert result.getexif()[ExifTags.Base.Artist] == "Anna"
        assert result.info["icc_profile"] == PROFILE
        assert result.size == (128, 128)
    manifest = c2pa.read(tmp_path / "x.png")
    assert manifest.actions == (("c2pa.opened", ""), ("c2pa.edited", SOURCE_TYPE))
    assert manifest.state == "trusted"
    assert read_provenance(tmp_path / "x.png") is None  # dropped; the manifest says what remains:
    assert b"a visible label" in (tmp_path / "x.png").read_bytes()
    sheet = ["swap", "--aligned", "--grid", *words, "--output", str(tmp_path / "sheet.png")]
    assert cli.main(sheet) == 0
    assert read_photo_metadata(tmp_path / "sheet.png") == PhotoMetadata()  # a sheet is no photo
    assert FACE_SIZE < 128


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_exiftool_reads_it_all(tmp_path, suffix):
    """By a program that has nothing to do with this one or its libraries."""
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")
    path = tmp_path / f"x.{suffix}"
    # exiftool 12.57 takes EXIF behind a manifest in a PNG for something that it has read already, and leaves it out.
    write_result(
        path, faces(1, 128)[0], MADE_OF, MarkOptions(c2pa=suffix != "png"), parent=photo(tmp_path / "photo.jpg")
    )
    said = subprocess.run(["exiftool", "-json", "-G1", "-struct", path], capture_output=True, text=True, check=True)
    found = json.loads(said.stdout)[0]
    assert found["XMP-iptcExt:DigitalSourceType"] == SOURCE_TYPE
    assert found["XMP-xmp:CreatorTool"].startswith("simswap-jax ")
    assert [each["DocumentID"] for each in found["XMP-xmpMM:Ingredients"]] == [
        f"sha256:{digest}" for _, digest in MADE_OF.inputs
    ]
    assert found["IFD0:Artist"] == "Anna"
    assert found["IFD0:Orientation"] == "Horizontal (normal)"
    assert found["ExifIFD:DateTimeOriginal"] == "2020:02:03 04:05:06"
    assert found["GPS:GPSLatitudeRef"] == "North"
    assert found["ICC_Profile:ProfileDescription"]
    if suffix == "jpg" and c2pa.available():
        assert found["JUMBF:JUMDLabel"] == "c2pa"
    problems = [value for key, value in found.items() if key.endswith((":Warning", ":Error"))]
    assert problems == []
    assert np.asarray(Image.open(path)).shape == (128, 128, 3)
