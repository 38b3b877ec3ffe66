import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from simswap_jax.io import images
from simswap_jax.io.images import BrokenPicture, decode_picture, decode_plain, plain_bytes, read_picture
from tests.support.errors import raises_user_error


def scene(height=40, width=32):
    """A smooth picture without symmetry."""
    y, x = np.mgrid[:height, :width]
    return np.stack([6 * x, 5 * y, 3 * (x + y)], axis=-1).astype(np.uint8)


def encoded(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def test_rgb_png_is_itself():
    np.testing.assert_array_equal(decode_picture(encoded(Image.fromarray(scene()), "PNG"), "a"), scene())


def test_grey_has_three_equal_channels():
    grey = scene()[:, :, 0]
    picture = decode_picture(encoded(Image.fromarray(grey), "PNG"), "a")
    np.testing.assert_array_equal(picture, np.repeat(grey[:, :, None], 3, 2))


def test_cmyk_is_converted():
    picture = decode_picture(encoded(Image.fromarray(scene()).convert("CMYK"), "JPEG", quality=98), "a")
    assert picture.dtype == np.uint8
    assert picture.shape == (40, 32, 3)
    assert np.abs(picture.astype(int) - scene()).mean() < 4


@pytest.mark.parametrize("form", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_divided_by_257(form, channels):
    values = (scene()[:, :, :channels].astype(np.uint16) * 257).squeeze()
    values[0, 0] = 65535
    values[0, 1] = 128  # rounds to 0
    values[0, 2] = 129  # rounds to 1
    _, data = cv2.imencode(form, values if channels == 1 else values[:, :, ::-1])
    picture = decode_picture(data.tobytes(), "a")
    assert picture.dtype == np.uint8
    expected = np.broadcast_to(scene()[:, :, :channels], (40, 32, 3)).copy()
    expected[0, :3] = [[255] * 3, [0] * 3, [1] * 3]
    np.testing.assert_array_equal(picture, expected)


def test_transparency_lies_on_white():
    alpha = np.zeros((40, 32, 1), np.uint8)
    alpha[:, 10:20] = 255
    alpha[:, 20:] = 128
    picture = decode_picture(encoded(Image.fromarray(np.concatenate([scene(), alpha], 2)), "PNG"), "a")
    assert (picture[:, :10] == 255).all()
    np.testing.assert_array_equal(picture[:, 10:20], scene()[:, 10:20])
    half = scene()[:, 20:] * (128 / 255) + 127
    assert np.abs(picture[:, 20:] - half).max() <= 0.51


def test_transparent_palette_lies_on_white():
    image = Image.fromarray(scene()).quantize(16)
    image.info["transparency"] = 0
    data = encoded(image, "PNG", transparency=0)
    picture = decode_picture(data, "a")
    hidden = np.asarray(image) == 0
    assert hidden.any()
    assert (picture[hidden] == 255).all()
    np.testing.assert_array_equal(picture[~hidden], np.asarray(image.convert("RGB"))[~hidden])


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        *(
            ("1", "PNG"),
            ("1", "TIFF"),
            ("LA", "PNG"),
            ("LA", "TIFF"),
            ("YCbCr", "JPEG"),
            ("YCbCr", "TIFF"),
            ("L", "BMP"),
        ),
        *(("P", "PNG"), ("P", "GIF"), ("P", "BMP"), ("P", "TIFF"), ("RGB", "WEBP"), ("RGB", "AVIF")),
    ],
)
def test_other_modes(mode, form):
    image = Image.fromarray(scene()).convert(mode)
    data = encoded(image, form)
    if (mode, form) == ("YCbCr", "TIFF"):
        try:
            Image.open(io.BytesIO(data)).load()
        except OSError:
            pytest.skip("this Pillow does not read the YCbCr TIFF that it writes (12.3.0 does not)")
    picture = decode_picture(data, "a")
    assert picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - np.asarray(image.convert("RGB"))).mean() < 6


def test_lab_is_converted_and_has_no_alpha(tmp_path):
    """Its A is no alpha: results of a Lab photo got a channel of it."""
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    ImageCms.profileToProfile(Image.fromarray(scene()), srgb, lab, outputMode="LAB").save(tmp_path / "x.tif")
    assert np.abs(read_picture(tmp_path / "x.tif").astype(int) - scene()).mean() < 2
    assert images.read_values(tmp_path / "x.tif").shape == (40, 32, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation, form):
    image = Image.fromarray(scene())
    exif = image.getexif()
    exif[0x0112] = orientation
    data = encoded(image, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert expected.shape[0] == (40 if orientation < 5 else 32)
    np.testing.assert_array_equal(decode_picture(data, "a"), expected)
    kept, height, width = plain_bytes(data, "a")
    assert (height, width) == expected.shape[:2]
    np.testing.assert_array_equal(decode_plain(kept, "a"), expected)
    assert (kept == data) == (orientation == 1 and form in ("JPEG", "PNG"))


def test_plain_bytes_are_kept_and_read_to_the_same_pixels():
    for form, options in (("JPEG", {"quality": 80}), ("JPEG", {"progressive": True}), ("PNG", {})):
        data = encoded(Image.fromarray(scene()), form, **options)
        kept, height, width = plain_bytes(data, "a")
        assert kept == data
        assert (height, width) == (40, 32)
        np.testing.assert_array_equal(decode_plain(kept, "a"), decode_picture(data, "a"))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_unusual_jpegs_become_png_without_loss(mode):
    data = encoded(Image.fromarray(scene()).convert(mode), "JPEG")
    kept, _, _ = plain_bytes(data, "a")
    assert kept != data
    np.testing.assert_array_equal(decode_plain(kept, "a"), decode_picture(data, "a"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"Dear diary, this is a text file.\n" * 20, "is not a picture"),
        (encoded(Image.fromarray(scene()), "JPEG")[:300], "is not a picture"),  # cut within its header
        (encoded(Image.fromarray(scene()), "JPEG")[:-40], "cut off"),
        (encoded(Image.fromarray(scene()), "PNG")[:-60], "cut off"),
        (encoded(Image.fromarray(scene().astype(np.float32)[:, :, 0]), "TIFF"), "32 bits"),
    ],
)
def test_broken_files_say_why(tmp_path, data, reason):
    path = tmp_path / "face.jpg"
    path.write_bytes(data)
    with raises_user_error("broken-picture", "face.jpg", reason) as caught:
        read_picture(path)
    assert isinstance(caught.value, BrokenPicture)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with raises_user_error("no-picture", tmp_path / "nowhere.png"):
        read_picture(tmp_path / "nowhere.png")
    with raises_user_error("picture-is-folder", tmp_path):
        read_picture(tmp_path)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"])
@pytest.mark.filterwarnings("ignore")  # Pillow warns of broken metadata
def test_damaged_bytes_never_raise_anything_else(form):
    whole = encoded(Image.fromarray(scene()), form)
    generator = np.random.default_rng(0)
    broken = 0
    for _ in range(60):
        data = bytearray(whole)
        for place in generator.integers(0, len(data), 4):
            data[place] = generator.integers(256)
        if generator.random() < 0.3:
            del data[generator.integers(len(data)) :]
        try:
            picture = decode_picture(bytes(data), "a")
        except BrokenPicture:
            broken += 1
        else:
            assert picture.dtype == np.uint8
            assert picture.ndim == 3
    assert broken > 5


def test_resize_square_cuts_the_middle_and_averages():
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:4] = 100
    wide[:, 4:6] = 200
    np.testing.assert_array_equal(images.resize_square(wide, 2)[0, :, 0], [100, 200])
    np.testing.assert_array_equal(images.resize_square(wide, 4), wide[:, 2:6])
    assert images.resize_square(wide, 9).shape == (9, 9, 3)
    assert images.resize_square(np.full((1, 1, 3), 7, np.uint8), 3).tolist() == np.full((3, 3, 3), 7).tolist()


def test_a_picture_is_averaged_going_down_and_left_alone_at_its_size():
    picture = scene(8, 4)
    assert images.resized(picture, 8, 4) is picture
    blocks = picture.reshape(2, 4, 1, 4, 3).mean((1, 3))
    np.testing.assert_allclose(images.resized(picture, 2, 1), blocks, atol=0.5)
    assert images.resized(picture, 16).shape == (16, 16, 3)
