"""Any picture file becomes uint8 RGB, or one sentence.

What is done with the unusual ones: grey is repeated over the three channels, CMYK and palettes are converted, 16-bit
values are divided by 257 and rounded (65535 → 255), transparency is laid on white, of an animation the first frame is
taken, and the EXIF orientation is applied. Values are taken as sRGB; embedded colour profiles are not applied. HEIC is
read by pillow-heif where the extra ``heic`` is installed. A picture is in memory at most twice: as decoded, and as RGB.
"""

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image

from simswap_jax.errors import UserError, install_command
from simswap_jax.io.image_limits import MOST_PIXELS, MOST_SCANS, excess, scan_count

T = TypeVar("T")
SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif"]
)
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")  # of a file's first box
ORIENTATION = 0x0112  # the EXIF tag
QUALITY = 95  # of JPEG and WebP
STRIPE = 2**20  # pixels that are converted at once
# Pillow's own limit counts pixels; ours counts the bytes that they take, and speaks in our own words.
Image.MAX_IMAGE_PIXELS = MOST_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)


class BrokenPicture(UserError):
    """A file that is not a readable picture. `reason` is the part of the sentence after the file's name."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}; replace or remove this file.", "broken-picture")
        self.reason = reason


class UnreadHere(BrokenPicture):
    """A picture that this machine cannot read, for want of a package or of memory; another one may."""

    def __init__(self, name: str, reason: str, advice: str, code: str) -> None:
        UserError.__init__(self, f"{name} {reason}; {advice}.", code)
        self.reason = reason


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """Read a picture file.

    Returns:
      uint8 RGB [H,W,3], upright.

    Raises:
      UserError: naming the file, when it is missing, unreadable or not a picture (then a `BrokenPicture`).
    """
    return decode_picture(read_bytes(path), str(path))


def read_bytes(path: str | os.PathLike) -> bytes:
    """The bytes of a file.

    Raises:
      UserError: naming the file, when it is missing or unreadable.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"There is no picture {path}; check the path.", "no-picture") from None
    except IsADirectoryError:
        raise UserError(
            f"{path} is a folder, not a picture; give the path of a picture file.", "picture-is-folder"
        ) from None
    except OSError as error:
        raise BrokenPicture(str(path), f"cannot be read ({error.strerror})") from None


def decode_picture(data: bytes, name: str) -> np.ndarray:
    """Decode the bytes of a picture file of any usual format.

    Args:
      data: the file's bytes.
      name: what to call it in an error.

    Returns:
      uint8 RGB [H,W,3], upright.

    Raises:
      BrokenPicture: naming it and what is wrong.
    """
    return _decode(data, name)[0]


def has_more_than_rgb(path: str | os.PathLike) -> bool:
    """Whether a picture file has an alpha channel, 16 bits or grey, by its header; False for what is no picture."""
    try:
        data = read_bytes(path)
        image = _open(data, str(path))
        return _is_sixteen_bit(image, data) or image.mode in ("L", "1") or _has_alpha(image)
    except Exception:  # Pillow's parsers raise anything on hostile bytes
        return False


def read_values(path: str | os.PathLike) -> np.ndarray:
    """The values of a picture file as they are stored, upright: what `read_picture` leaves away is still there.

    Returns:
      uint8 or (PNG and TIFF) uint16; [H,W] where it is grey, [H,W,3] RGB, or [H,W,4] RGBA with straight alpha.

    Raises:
      UserError: as `read_picture`.
    """
    data, name = read_bytes(path), str(path)

    def values(image: Image.Image) -> np.ndarray:
        if _is_sixteen_bit(image, data):
            return np.ascontiguousarray(_upright(*_read_sixteen_bit(image, data)))
        _load(image)
        mode = "RGBA" if _has_alpha(image) else "L" if image.mode in ("L", "1") else "RGB"
        return _converted(image, mode, lambda stripe: stripe)

    return _decoded(data, name, values)


def plain_bytes(data: bytes, name: str) -> tuple[bytes, int, int]:
    """Check a picture file wholly and return bytes that `decode_plain` reads: its own where it is an upright 8-bit
    RGB JPEG or PNG, else a PNG of it (nothing is lost).

    Returns:
      (bytes, height, width) in pixels.

    Raises:
      BrokenPicture: as `decode_picture`.
    """
    picture, plain = _decode(data, name)
    height, width = picture.shape[:2]
    return (data if plain else encode_png(picture)), height, width


def decode_plain(data: bytes, name: str) -> np.ndarray:
    """Decode bytes that `plain_bytes` returned, with OpenCV: the same pixels as `decode_picture`, in a third of its
    time.
    """
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    return decode_picture(data, name) if picture is None else picture


def encode_png(picture: np.ndarray) -> bytes:
    """A uint8 RGB picture [H,W,3] as the bytes of a PNG file."""
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def encode_jpeg(picture: np.ndarray, quality: int = QUALITY) -> bytes:
    """A uint8 RGB picture [H,W,3] as the bytes of a JPEG file, colour at full resolution."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    return data.tobytes()


def resize_square(picture: np.ndarray, size: int) -> np.ndarray:
    """The centred square of a picture at `size` pixels: area-averaged when it shrinks, bicubic when it grows.

    Args:
      picture: uint8 RGB [H,W,3].

    Returns:
      uint8 RGB [size,size,3].
    """
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[top : top + side, left : left + side]
    return np.ascontiguousarray(resized(square, size))


def resized(picture: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """A picture of any shape at another size, which may distort it; itself if it has that size.

    Args:
      picture: uint8 [H,W,3].
      height: in pixels; of a square also its width.
      width: in pixels.

    Returns:
      uint8 [height,width,3]: area-averaged where its height shrinks, bicubic where it grows.
    """
    width = width or height
    if picture.shape[:2] == (height, width):
        return picture
    smaller = height <= picture.shape[0]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


def is_picture(path: Path) -> bool:
    """Whether a file's ending is that of a picture."""
    return has_picture_ending(path.name) and not path.is_dir()


def has_picture_ending(name: str) -> bool:
    """Whether the name of a file or folder ends as a picture's does."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _decode(data: bytes, name: str) -> tuple[np.ndarray, bool]:
    """(uint8 RGB [H,W,3], whether OpenCV reads these very bytes to the same pixels)."""
    return _decoded(data, name, lambda image: _to_rgb(image, data))


def _decoded(data: bytes, name: str, decode: Callable[[Image.Image], T]) -> T:
    """What ``decode`` makes of a picture that is neither too large nor broken, or a `BrokenPicture`."""
    if not data:
        raise BrokenPicture(name, "is empty (0 bytes)")
    image = _open(data, name)
    too_much = excess(image, _is_sixteen_bit(image, data))
    if too_much:
        raise UnreadHere(name, *too_much, code="picture-too-large")
    if image.format in ("JPEG", "MPO") and scan_count(data) > MOST_SCANS:
        raise BrokenPicture(name, f"has more than {MOST_SCANS} scans, which takes minutes to decode")
    try:
        return decode(image)
    except Exception as error:  # Pillow's parsers raise anything on hostile bytes
        text = str(error)
        raise BrokenPicture(
            name,
            "is cut off: the file ends too early"
            if "truncated" in text
            else f"is damaged ({text or type(error).__name__})",
        ) from None


def _open(data: bytes, name: str) -> Image.Image:
    """A picture that is opened and not loaded, or a `BrokenPicture`."""
    if is_heic(data):
        try:
            import pillow_heif
        except ImportError:
            reason = "is a HEIC photo, which needs pillow-heif"
            advice = f"{install_command('heic')}, or save it as JPEG"
            raise UnreadHere(name, reason, advice, code="extra-missing") from None
        pillow_heif.register_heif_opener()
    try:
        return Image.open(io.BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        reason, advice = f"has more than {MOST_PIXELS // 10**6} megapixels", "save it smaller"
        raise UnreadHere(name, reason, advice, code="picture-too-large") from None
    except Exception:  # as above
        raise BrokenPicture(name, "is not a picture in a format that can be read") from None


def is_heic(data: bytes) -> bool:
    """Whether bytes begin as a HEIC file does, whatever it is called; AVIF, of the same kind, is none."""
    brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    return data[4:8] == b"ftyp" and b"avif" not in brands and any(brand in brands for brand in HEIC_BRANDS)


def _to_rgb(image: Image.Image, data: bytes) -> tuple[np.ndarray, bool]:
    if _is_sixteen_bit(image, data):
        values, orientation = _read_sixteen_bit(image, data)
        return _in_stripes(lambda rows: shown(values[rows]), values.shape, orientation), False
    _load(image)
    transparent = _has_alpha(image)
    rgb = _converted(image, "RGBA" if transparent else "RGB", shown)
    plain = image.format in ("JPEG", "MPO", "PNG") and image.mode == "RGB" and not transparent
    return rgb, plain and _orientation(image) not in range(2, 9)


def shown(values: np.ndarray) -> np.ndarray:
    """A picture's values as they are seen.

    Args:
      values: uint8 or uint16; [H,W] grey, [H,W,3] RGB or [H,W,4] RGBA, which is laid on white.

    Returns:
      uint8 RGB [H,W,3].
    """
    if values.dtype == np.uint16:
        values = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if values.ndim == 2:
        return np.repeat(values[:, :, None], 3, axis=2)
    return _over_white(values) if values.shape[2] == 4 else values


def _converted(image: Image.Image, mode: str, make: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A loaded picture's values in a mode of Pillow's, made into something else, upright."""
    width, height = image.size

    def read(rows: slice) -> np.ndarray:
        stripe = image if (rows.start, rows.stop) == (0, height) else image.crop((0, rows.start, width, rows.stop))
        return make(np.asarray(stripe if stripe.mode == mode else stripe.convert(mode)))

    return _in_stripes(read, (height, width), _orientation(image))


def _in_stripes(read: Callable[[slice], np.ndarray], shape: Sequence[int], orientation: int) -> np.ndarray:
    """A picture [height,width,…] put together of its stripes and turned upright, without a second copy of it."""
    height, width = shape[:2]
    step = max(1, STRIPE // max(1, width))
    first = read(slice(0, min(step, height)))
    size = (height, width) if orientation not in range(5, 9) else (width, height)
    picture = np.empty((*size, *first.shape[2:]), np.uint8)
    as_stored = _upright(picture, {6: 8, 8: 6}.get(orientation, orientation))
    as_stored[: len(first)] = first
    for top in range(step, height, step):
        rows = slice(top, min(top + step, height))
        as_stored[rows] = read(rows)
    return picture


def _load(image: Image.Image) -> None:
    """Decode a picture; some say only then what they are."""
    image.load()
    if image.mode in ("I", "F"):
        raise ValueError("its values have 32 bits; 8 or 16 are understood")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8."""
    return image.getexif().get(ORIENTATION, 1)


def _has_alpha(image: Image.Image) -> bool:
    return image.mode[-1] in "Aa" or "transparency" in image.info  # not LAB


def _is_sixteen_bit(image: Image.Image, data: bytes) -> bool:
    if image.format == "PNG":
        return data[24] == 16  # IHDR's bit depth; Pillow would drop the low byte
    bits = getattr(image, "tag_v2", {}).get(258, 8)  # TIFF's BitsPerSample
    return image.mode.startswith("I;16") or max(bits if isinstance(bits, tuple) else (bits,)) == 16


def _read_sixteen_bit(image: Image.Image, data: bytes) -> tuple[np.ndarray, int]:
    """uint16 grey [H,W], RGB [H,W,3] or RGBA [H,W,4], and the orientation that is still to be undone."""
    _load(image)  # says what is damaged, which OpenCV does not
    orientation = 1 if image.format == "TIFF" else _orientation(image)  # OpenCV turns those itself
    image.im = None  # type: ignore[assignment]  # gone before OpenCV takes its own memory
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise ValueError("its 16-bit values cannot be read")
    if values.ndim == 3:
        for row in values:  # in its place
            row[:, :3] = row[:, 2::-1]
    return values, orientation


def _over_white(rgba: np.ndarray) -> np.ndarray:
    values: np.ndarray = rgba.astype(np.uint16)
    colour, alpha = values[:, :, :3], values[:, :, 3:]
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _upright(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation, 1 (upright) to 8; the same array where nothing is to do."""
    match orientation:
        case 2:
            return rgb[:, ::-1]
        case 3:
            return rgb[::-1, ::-1]
        case 4:
            return rgb[::-1]
        case 5:
            return rgb.swapaxes(0, 1)
        case 6:
            return np.rot90(rgb, -1)
        case 7:
            return rgb[::-1, ::-1].swapaxes(0, 1)
        case 8:
            return np.rot90(rgb)
        case _:
            return rgb


LUMA = np.array([0.299, 0.587, 0.114])  # of RGB, ITU-R BT.601
OPAQUE_FROM = 16  # grey levels: a change as large as the label's is seen also where the photo is transparent


def as_its_photo(picture: np.ndarray, photo: str | Path, kind: str) -> np.ndarray:
    """A marked result with the depth and channels of the photo that it was made from, as far as its format keeps them.

    Args:
      picture: uint8 RGB [H, W, 3].
      photo: the file of the photo; of the same height and width.
      kind: "PNG", "WEBP" or "JPEG".

    Returns:
      uint8 or uint16, [H, W] grey, [H, W, 3] RGB or [H, W, 4] RGBA with straight alpha. Where the result is the photo,
      the values are the photo's own; ``picture`` itself where there is nothing to keep.
    """
    if not has_more_than_rgb(photo):  # most photos: nothing is decoded a second time
        return picture
    values = read_values(photo)
    deep = kind == "PNG" and values.dtype == np.uint16
    channels = 1 if values.ndim == 2 else values.shape[2]
    lost = {1: kind == "WEBP", 3: not deep, 4: kind == "JPEG"}[channels]
    if values.shape[:2] != picture.shape[:2] or lost:
        return picture
    result: np.ndarray = np.empty(values.shape, np.uint16 if deep else np.uint8)
    step = max(1, STRIPE // 4 // max(1, picture.shape[1]))
    for top in range(0, len(result), step):
        rows = slice(top, top + step)
        result[rows] = _with_change(values[rows], picture[rows], deep)
    return result


def _with_change(values: np.ndarray, picture: np.ndarray, deep: bool) -> np.ndarray:
    """A photo's values with what a swap changed: ``picture`` is the photo as it is seen, after the swap."""
    change = picture.astype(np.float64) - shown(values)
    if values.dtype == np.uint16 and not deep:
        values = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    unit = 257.0 if deep else 1.0
    most = 255.0 * unit
    if values.ndim == 2:
        return np.round(np.clip(values + unit * (change @ LUMA), 0.0, most))
    colours: np.ndarray = values[..., :3].astype(np.float64)
    if values.shape[-1] == 3:
        return np.round(np.clip(colours + unit * change, 0.0, most))
    alpha = values[:, :, 3:].astype(np.float64) / most
    shown_too = (np.abs(change).max(axis=2, keepdims=True) >= OPAQUE_FROM) & (alpha < 0.5)
    # The photo was seen on white, so a change there is alpha times the change of the colour.
    kept = colours + unit * change / np.maximum(alpha, 0.5)
    merged = np.where(shown_too, unit * picture.astype(np.float64), kept)
    together = np.concatenate([merged, np.where(shown_too, most, most * alpha)], axis=2)
    return np.round(np.clip(together, 0.0, most))


def deep_png(picture: np.ndarray, xmp: bytes | None, exif: bytes, profile: bytes) -> bytes:
    """The bytes of a PNG with 16 bits a channel, which Pillow does not write in colour.

    Args:
      picture: uint16 RGB [H, W, 3] or RGBA [H, W, 4].
      xmp: an XMP packet, or None.
      exif, profile: EXIF and ICC profile; empty for none.
    """
    order = cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    data = cv2.imencode(".png", cv2.cvtColor(picture, order))[1].tobytes()
    chunks = b""
    if profile:
        chunks += _chunk(b"iCCP", b"profile\0\0" + zlib.compress(profile))
    if exif:
        chunks += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    if xmp is not None:
        chunks += _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    after_header = 8 + 25  # signature and IHDR
    return data[:after_header] + chunks + data[after_header:]


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
