"""What a picture file may ask for: memory as decoded, scans, and packages that may be missing."""

import io
import struct
import subprocess
import sys
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from simswap_jax.errors import install_command
from simswap_jax.io import image_limits, images
from simswap_jax.io.images import UnreadHere, decode_picture, read_picture
from tests.support.errors import raises_user_error


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def blank_png(width, height, depth, colour, channels):
    """A PNG of zeros, a thousandth of its size as decoded."""
    row = bytes(1 + width * channels * depth // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


MEASURE = """
import resource, sys
from simswap_jax.io.images import read_picture
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_picture(sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no peak of a process's memory")
@pytest.mark.parametrize(
    ("depth", "colour", "channels", "held"), [(8, 6, 4, 4), (8, 4, 2, 4), (8, 2, 3, 4), (16, 6, 4, 8)]
)
def test_a_picture_is_in_memory_at_most_twice(tmp_path, depth, colour, channels, held):
    """As decoded and as RGB: a PNG with transparency took 46 bytes a pixel, now 7."""
    side = 3000
    path = tmp_path / "x.png"
    path.write_bytes(blank_png(side, side, depth, colour, channels))
    done = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    kilobytes = int(done.stdout) / (1024 if sys.platform == "darwin" else 1)
    assert kilobytes * 1024 < side * side * (held + 3) + 60e6


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGB", "L", "P"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7, 8])
def test_stripes_make_the_same_picture(monkeypatch, mode, orientation):
    values = np.random.default_rng(0).integers(0, 256, (37, 23, 4), np.uint8)
    image = Image.fromarray(values).convert("RGB" if mode == "P" else mode).convert(mode)
    exif = Image.Exif()
    exif[images.ORIENTATION] = orientation
    stream = io.BytesIO()
    image.save(stream, "PNG", exif=exif)
    whole = decode_picture(stream.getvalue(), "a")
    monkeypatch.setattr(images, "STRIPE", 23 * 5)
    np.testing.assert_array_equal(decode_picture(stream.getvalue(), "a"), whole)
    assert whole.shape[:2] == ((37, 23) if orientation < 5 else (23, 37))


def test_memory_is_the_limit_and_the_sentence_says_what_to_do(monkeypatch):
    """Pixels × bytes as decoded: the same pixels fit as grey and do not as RGBA."""
    monkeypatch.setattr(image_limits, "ALWAYS", 0)
    monkeypatch.setattr(image_limits, "free_memory", lambda: 4 * 5 * 1000 * 1000)
    assert decode_picture(blank_png(1000, 1000, 8, 0, 1), "grey.png").shape == (1000, 1000, 3)
    with raises_user_error("picture-too-large", "x.png has 1 megapixels", "close other programs") as caught:
        decode_picture(blank_png(1000, 1000, 8, 6, 4), "x.png")
    assert isinstance(caught.value, UnreadHere)
    monkeypatch.setattr(image_limits, "free_memory", lambda: 2**40)
    monkeypatch.setattr(image_limits, "MOST", 6 * 1000 * 1000)
    with raises_user_error("picture-too-large", "save it with at most 0 megapixels."):
        decode_picture(blank_png(1000, 1000, 8, 6, 4), "x.png")


def test_phone_photos_fit_where_memory_is_free(monkeypatch):
    monkeypatch.setattr(image_limits, "free_memory", lambda: 8 * 10**9)
    for megapixels in (48, 50, 108, 200):
        phone = SimpleNamespace(width=1000, height=1000 * megapixels, mode="RGB", info={})
        assert image_limits.excess(phone, deep=False) is None
    monkeypatch.setattr(image_limits, "free_memory", lambda: 2 * 10**9)
    assert image_limits.excess(phone, deep=False)[1].startswith("save it with at most 71 megapixels")


def test_a_small_picture_asks_for_no_memory(monkeypatch):
    monkeypatch.setattr(image_limits, "free_memory", lambda: pytest.fail("asked"))
    assert decode_picture(blank_png(100, 100, 8, 6, 4), "x.png").shape == (100, 100, 3)


def test_free_memory_is_that_of_the_container(monkeypatch, tmp_path):
    monkeypatch.setattr(image_limits, "_CONTAINER", tmp_path)
    limit = tmp_path / "memory.max"
    free = image_limits.free_memory()
    assert free > 2**20
    (tmp_path / "memory.current").write_text("786432\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 262144\n")
    limit.write_text("1048576\n")
    assert image_limits.free_memory() == 2**19  # of 1 MiB, ¾ are used, ¼ of it for files that can be read again
    (tmp_path / "memory.current").write_text("9999999\n")
    assert image_limits.free_memory() == 0
    limit.write_text("max\n")
    assert image_limits.free_memory() > 2**20


def progressive_jpeg(repeats):
    """A progressive JPEG whose last scan stands there so many times."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (120, 130, 125)).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    last = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + last * (repeats - 1) + b"\xff\xd9"


def test_scans_are_counted():
    once = image_limits.scan_count(progressive_jpeg(1))
    assert 5 < once < 20
    assert image_limits.scan_count(progressive_jpeg(50)) == once + 49
    assert decode_picture(progressive_jpeg(50), "a").shape == (64, 64, 3)
    with raises_user_error("broken-picture", "scans.jpg has more than 100 scans"):
        decode_picture(progressive_jpeg(3000), "scans.jpg")


def test_what_looks_like_scans_elsewhere_is_none():
    """Bytes of a profile before, and of a film after the picture (as phones add one), are not counted."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "JPEG", icc_profile=b"\xff\xda" * 300)
    data = stream.getvalue() + b"\xff\xda\x00\x04" * 5000
    assert image_limits.scan_count(data) == 1
    assert decode_picture(data, "a").shape == (64, 64, 3)


def heic(size=(64, 48), **options):
    pillow_heif = pytest.importorskip("pillow_heif")
    y, x = np.mgrid[: size[1], : size[0]]
    values = np.stack([3 * x, 4 * y, x + y], axis=-1).astype(np.uint8)
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(values)).save(stream, quality=-1, **options)
    return stream.getvalue(), values


@pytest.mark.parametrize("name", ["phone.heic", "phone.jpg", "PHONE.HEIF"])
def test_heic_is_read_whatever_it_is_called(tmp_path, name):
    data, values = heic()
    (tmp_path / name).write_bytes(data)
    picture = read_picture(tmp_path / name)
    assert picture.shape == values.shape
    assert np.abs(picture.astype(int) - values).mean() < 3


def test_heic_is_upright_once():
    """pillow-heif turns it, and its EXIF must not turn it again."""
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    data, values = heic(exif=exif.tobytes())
    picture = decode_picture(data, "a")
    assert picture.shape == (64, 48, 3)
    assert np.abs(picture.astype(int) - np.rot90(values, -1)).mean() < 3


def test_without_the_package_a_sentence_names_the_extra(tmp_path, monkeypatch):
    data, _ = heic()
    (tmp_path / "phone.jpg").write_bytes(data)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with raises_user_error("extra-missing", "phone.jpg is a HEIC photo", install_command("heic")) as caught:
        read_picture(tmp_path / "phone.jpg")
    assert isinstance(caught.value, UnreadHere)


def test_avif_is_no_heic():
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), (10, 200, 30)).save(stream, "AVIF")
    assert not images.is_heic(stream.getvalue())
    assert decode_picture(stream.getvalue(), "a").shape == (32, 32, 3)
