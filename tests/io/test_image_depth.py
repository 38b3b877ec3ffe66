"""Alpha, 16 bits and grey of a photo come through a swap as well as the format keeps them."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from simswap_jax.io.images import deep_png, read_picture, read_values
from simswap_jax.provenance import writer
from simswap_jax.provenance.label_xmp import Provenance, read_provenance
from simswap_jax.provenance.options import WATERMARK, MarkOptions
from simswap_jax.provenance.watermark import THRESHOLD, detect
from tests.support.small_model import faces

SIDE = 160
UNSIGNED = MarkOptions(c2pa=False)
MADE_OF = Provenance((("source", "ab" * 32),))


def written(path, values):
    """A file with these values, grey or RGB(A)."""
    if values.ndim == 3:
        values = cv2.cvtColor(values, cv2.COLOR_RGB2BGR if values.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    cv2.imwrite(str(path), values)
    return path


def photo_values(deep, channels):
    values = faces(1, SIDE)[0].astype(np.uint16)
    if deep:
        values = values * 257 + np.random.default_rng(1).integers(-100, 100, values.shape)
        values = np.clip(values, 0, 65535).astype(np.uint16)
    else:
        values = values.astype(np.uint8)
    if channels == 1:
        return values[:, :, 0]
    if channels == 4:
        alpha = np.full((SIDE, SIDE, 1), np.iinfo(values.dtype).max, values.dtype)
        alpha[:, :40] = 0
        alpha[:40, 40:80] //= 2
        return np.concatenate([values, alpha], axis=2)
    return values


def swapped(path):
    """The photo as it is read, with a patch that a swap would have changed."""
    result = read_picture(path).copy()
    result[80:120, 80:120] = 255 - result[80:120, 80:120]
    return result


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_is_not_swapped_keeps_its_very_values(tmp_path, deep, channels):
    values = photo_values(deep, channels)
    photo = written(tmp_path / "photo.png", values)
    np.testing.assert_array_equal(read_values(photo), values)
    result = swapped(photo)
    only_xmp = MarkOptions(label=False, watermark=False, c2pa=False)
    writer.write_result(tmp_path / "x.png", result, MADE_OF, only_xmp, parent=photo)
    after = read_values(tmp_path / "x.png")
    assert (after.dtype, after.shape) == (values.dtype, values.shape)
    outside = np.ones((SIDE, SIDE), bool)
    outside[80:120, 80:120] = False
    np.testing.assert_array_equal(after[outside], values[outside])
    wanted = result[~outside].astype(float)
    if channels == 1:
        wanted = (wanted @ (0.299, 0.587, 0.114))[:, None]
    assert np.abs(read_picture(tmp_path / "x.png")[~outside] - wanted).max() <= 1
    assert read_provenance(tmp_path / "x.png") == MADE_OF


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("channels", [1, 4])
def test_marks_are_there_all_the_same(tmp_path, deep, channels):
    values = photo_values(deep, channels)
    photo = written(tmp_path / "photo.png", values)
    carried = writer.write_result(tmp_path / "x.png", swapped(photo), MADE_OF, UNSIGNED, parent=photo)
    assert WATERMARK in carried
    after = read_picture(tmp_path / "x.png")
    assert detect(after) > THRESHOLD
    plain = read_picture(photo)
    if channels == 4:  # the label can be seen, also where the photo is transparent
        label = np.abs(after.astype(int) - plain).max(axis=2) > 60
        label[80:120, 80:120] = False
        assert label.sum() > 50
        assert read_values(tmp_path / "x.png")[:, :, 3][label].min() > 0


@pytest.mark.parametrize(("suffix", "modes"), [("jpg", ("L", "RGB", "RGB")), ("webp", ("RGB", "RGB", "RGBA"))])
def test_other_formats_keep_what_they_can(tmp_path, suffix, modes):
    for channels, mode in zip((1, 3, 4), modes):
        for deep in (False, True):
            photo = written(tmp_path / f"{channels}{deep}.png", photo_values(deep, channels))
            path = tmp_path / f"x{channels}{deep}.{suffix}"
            writer.write_result(path, swapped(photo), MADE_OF, UNSIGNED, parent=photo)
            with Image.open(path) as image:
                assert image.mode == mode
            assert read_provenance(path) == MADE_OF


def test_exif_and_profile_stay_in_sixteen_bits(tmp_path):
    photo = tmp_path / "photo.png"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    photo.write_bytes(deep_png(photo_values(True, 3), None, exif.tobytes(), profile))
    writer.write_result(tmp_path / "x.png", swapped(photo), MADE_OF, UNSIGNED, parent=photo)
    with Image.open(tmp_path / "x.png") as image:
        image.load()
        assert image.info["icc_profile"] == profile
        assert image.getexif()[0x010F] == "a camera"
    assert read_values(tmp_path / "x.png").dtype == np.uint16
