"""What a photo's file says beside its pixels, kept in the result: EXIF and the colour profile.

Pixels are written upright and in the photo's own values, so the orientation is set to "upright" and an RGB profile
still fits. Left behind are the EXIF thumbnail, which shows the face as it was, and what describes the old file's
layout.
"""

from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image

from simswap_jax.io.images import ORIENTATION

_JPEG_LIMIT = 65_533 - 6  # bytes of EXIF: one APP1 segment, which begins with "Exif\0\0"
_MAKER_NOTE = 0x927C
_LAYOUT = range(0x0100, 0x010E)  # of a TIFF's pixels: width, compression, …
# TIFF mixes these with the layout of its pixels; of a TIFF only they are kept.
_DESCRIBING = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
)
_GROUPS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)


@dataclass(frozen=True)
class PhotoMetadata:
    """What is kept of a photo's file.

    Attributes:
      exif: as it stands in a file, with its signature; empty if there is none.
      profile: ICC colour profile of RGB values; empty if there is none.
    """

    exif: bytes = b""
    profile: bytes = b""


def read_photo_metadata(path: str | Path) -> PhotoMetadata:
    """EXIF and colour profile of a picture file, as far as they can be read; broken ones are left out."""
    try:
        with Image.open(path) as image:
            return PhotoMetadata(_exif(image), _profile(image))
    except Exception:  # Pillow's readers raise nearly anything; the pixels were read, and the rest is not worth failing
        return PhotoMetadata()


def _exif(image: Image.Image) -> bytes:
    """A picture's EXIF with the orientation upright and without its thumbnail."""
    try:
        found = image.getexif()
        kept = Image.Exif()
        for tag, value in found.items():
            if tag in _GROUPS or tag in _LAYOUT or tag == ORIENTATION:
                continue
            if image.format != "TIFF" or tag in _DESCRIBING:
                kept[tag] = value
        for group in _GROUPS:
            values = {tag: value for tag, value in found.get_ifd(group).items() if tag != ExifTags.IFD.Interop}
            if values:
                kept[group] = values
        if not kept:
            return b""
        kept[ORIENTATION] = 1
        written = kept.tobytes()
        details = kept.get(ExifTags.IFD.Exif, {})
        if len(written) > _JPEG_LIMIT and _MAKER_NOTE in details:
            kept[ExifTags.IFD.Exif] = {tag: value for tag, value in details.items() if tag != _MAKER_NOTE}
            written = kept.tobytes()
        return written if len(written) <= _JPEG_LIMIT else b""
    except Exception:  # as above
        return b""


def _profile(image: Image.Image) -> bytes:
    """A picture's profile if it is one of RGB values: one of CMYK or grey does not fit what is written."""
    profile = image.info.get("icc_profile") or b""
    return (
        profile if isinstance(profile, bytes) and profile[16:20] == b"RGB " and image.mode in ("RGB", "RGBA") else b""
    )
