"""A result with its photo's alpha, 16 bits or grey: what the swap changed is added to the photo's own values."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from simswap_jax.io.images import has_more_than_rgb, read_picture, read_values

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
