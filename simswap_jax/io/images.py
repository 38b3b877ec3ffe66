"""Any picture file becomes uint8 RGB, or one sentence.

What is done with the unusual ones: grey is repeated over the three channels, CMYK and palettes are converted, 16-bit
values are divided by 257 and rounded (65535 → 255), transparency is laid on white, of an animation the first frame is
taken, and the EXIF orientation is applied. Values are taken as sRGB; embedded colour profiles are not applied.
"""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from simswap_jax.errors import UserError

SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif"]
)  # HEIC may not be readable; then the error says so
MAX_PIXELS = 80_000_000
ORIENTATION = 0x0112  # the EXIF tag
# Pillow warns from 89 megapixels on; more than ours are refused in any case, in our own words.
warnings.simplefilter("error", Image.DecompressionBombWarning)


class BrokenPicture(UserError):
    """A file that is not a readable picture. `reason` is the part of the sentence after the file's name."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}; replace or remove this file.", "broken-picture")
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
        image = Image.open(io.BytesIO(data))
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
    decode_picture(data, name)  # says what is wrong with it
    image = Image.open(io.BytesIO(data))
    orientation = image.getexif().get(ORIENTATION, 1)
    if _is_sixteen_bit(image, data):
        values: np.ndarray | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if values is None:
            raise BrokenPicture(name, "is damaged (its 16-bit values cannot be read)")
        if values.ndim == 3:
            values = cv2.cvtColor(values, cv2.COLOR_BGR2RGB if values.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
        return values if image.format == "TIFF" else np.ascontiguousarray(_upright(values, orientation))
    image.load()
    mode = "RGBA" if _has_alpha(image) else "L" if image.mode in ("L", "1") else "RGB"
    return np.ascontiguousarray(_upright(np.asarray(image.convert(mode)), orientation))


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


def encode_jpeg(picture: np.ndarray, quality: int = 95) -> bytes:
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
    if side == size:
        return np.ascontiguousarray(square)
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)


def is_picture(path: Path) -> bool:
    """Whether a file's ending is that of a picture."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _decode(data: bytes, name: str) -> tuple[np.ndarray, bool]:
    """(uint8 RGB [H,W,3], whether OpenCV reads these very bytes to the same pixels)."""
    if not data:
        raise BrokenPicture(name, "is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BrokenPicture(name, f"has more than {MAX_PIXELS // 10**6} megapixels") from None
    except Exception:  # Pillow's parsers raise anything on hostile bytes
        raise BrokenPicture(name, "is not a picture in a format that can be read") from None
    if image.width * image.height > MAX_PIXELS:
        raise BrokenPicture(name, f"has more than {MAX_PIXELS // 10**6} megapixels")
    try:
        return _to_rgb(image, data)
    except BrokenPicture:
        raise
    except Exception as error:
        text = str(error)
        raise BrokenPicture(
            name,
            "is cut off: the file ends too early"
            if "truncated" in text
            else f"is damaged ({text or type(error).__name__})",
        ) from None


def _to_rgb(image: Image.Image, data: bytes) -> tuple[np.ndarray, bool]:
    sixteen = _is_sixteen_bit(image, data)
    image.load()
    if image.mode in ("I", "F"):
        raise ValueError("its values have 32 bits; 8 or 16 are understood")
    orientation = image.getexif().get(ORIENTATION, 1)
    transparent = _has_alpha(image)
    plain = image.format in ("JPEG", "MPO", "PNG") and image.mode == "RGB" and not sixteen and not transparent
    if sixteen:
        rgb = _read_sixteen_bit(data)
        if image.format == "TIFF":
            orientation = 1  # OpenCV turns these itself
    elif transparent:
        rgb = _over_white(np.asarray(image.convert("RGBA")))
    else:
        rgb = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    upright = _upright(rgb, orientation)
    return np.ascontiguousarray(upright), plain and upright is rgb


def _has_alpha(image: Image.Image) -> bool:
    return "A" in image.mode or "a" in image.mode or "transparency" in image.info


def _is_sixteen_bit(image: Image.Image, data: bytes) -> bool:
    if image.format == "PNG":
        return data[24] == 16  # IHDR's bit depth; Pillow would drop the low byte
    bits = getattr(image, "tag_v2", {}).get(258, 8)  # TIFF's BitsPerSample
    return image.mode.startswith("I;16") or max(bits if isinstance(bits, tuple) else (bits,)) == 16


def _read_sixteen_bit(data: bytes) -> np.ndarray:
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise ValueError("its 16-bit values cannot be read")
    eight = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if eight.ndim == 2:
        return np.repeat(eight[:, :, None], 3, axis=2)
    if eight.shape[2] == 4:
        return _over_white(cv2.cvtColor(eight, cv2.COLOR_BGRA2RGBA))
    return cv2.cvtColor(eight, cv2.COLOR_BGR2RGB)


def _over_white(rgba: np.ndarray) -> np.ndarray:
    values: np.ndarray = rgba.astype(np.uint32)
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


LUMA = np.array([0.299, 0.587, 0.114])
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
    if values.shape[:2] != picture.shape[:2]:
        return picture
    if kind != "PNG" and values.dtype == np.uint16:
        values = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if values.ndim == 3 and values.shape[2] == 4 and kind == "JPEG":
        return picture
    plain = values.dtype == np.uint8 and values.ndim == 3 and values.shape[2] == 3
    if plain or (values.ndim == 2 and kind == "WEBP"):
        return picture
    change = picture.astype(np.float64) - read_picture(photo)
    unit = 257.0 if values.dtype == np.uint16 else 1.0
    most = 255.0 * unit
    if values.ndim == 2:
        return np.round(np.clip(values + unit * (change @ LUMA), 0.0, most)).astype(values.dtype)
    colours: np.ndarray = values[:, :, :3].astype(np.float64)
    if values.shape[2] == 3:
        return np.round(np.clip(colours + unit * change, 0.0, most)).astype(values.dtype)
    alpha = values[:, :, 3:].astype(np.float64) / most
    shown = (np.abs(change).max(axis=2, keepdims=True) >= OPAQUE_FROM) & (alpha < 0.5)
    # The photo was seen on white, so a change there is alpha times the change of the colour.
    kept = colours + unit * change / np.maximum(alpha, 0.5)
    merged = np.where(shown, unit * picture.astype(np.float64), kept)
    together = np.concatenate([merged, np.where(shown, most, most * alpha)], axis=2)
    return np.round(np.clip(together, 0.0, most)).astype(values.dtype)


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
