"""Results on disk: written whole or not at all, marked, and never over their own inputs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from simswap_jax.errors import UserError
from simswap_jax.io.atomic import replacing_file
from simswap_jax.io.folders import describe_rest
from simswap_jax.io.images import ORIENTATION, QUALITY, as_its_photo, deep_png, is_picture
from simswap_jax.provenance import c2pa
from simswap_jax.provenance.certificates import credentials_here
from simswap_jax.provenance.label_xmp import Provenance, draw_label, xmp_packet
from simswap_jax.provenance.options import ALL_MARKS, MANIFEST, MARKS, MarkOptions
from simswap_jax.provenance.watermark import embed, has_room

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
    fits = isinstance(profile, bytes) and profile[16:20] == b"RGB " and image.mode in ("RGB", "RGBA", "P")
    return profile if fits else b""


FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_JPEG_XMP_LIMIT = 65_000  # one APP1 segment
LONGEST_SIDE = {"WEBP": 16_383, "JPEG": 65_500}  # pixels; what their encoders take


def write_picture(
    path: str | Path,
    picture: np.ndarray,
    xmp: bytes | None = None,
    quality: int = QUALITY,
    finish: Callable[[Path], None] | None = None,
    photo: PhotoMetadata | None = None,
) -> None:
    """Write one picture as it is, whole or not at all.

    Args:
      path: ends in .png, .jpg, .jpeg or .webp, which chooses the format.
      picture: uint8 RGB [H, W, 3]; also grey [H, W] (PNG, JPEG), RGBA [H, W, 4] (PNG, WebP), and uint16 (PNG).
      xmp: an XMP packet to embed, UTF-8.
      quality: of JPEG and WebP, 1 to 100.
      finish: what is still done to the file, under its temporary name, before it takes its place.
      photo: EXIF and colour profile to embed.

    Raises:
      UserError: another ending, too much metadata for a JPEG, or a place that cannot be written.
    """
    path, photo = Path(path), photo or PhotoMetadata()
    kind = picture_format(path)
    if picture.dtype not in (np.uint8, np.uint16) or (picture.ndim != 2 and picture.shape[2:] not in ((3,), (4,))):
        raise UserError(
            f"a picture to write must be uint8 [H, W, 3], not {picture.dtype} {list(picture.shape)}.", "picture-type"
        )
    if kind == "JPEG" and xmp is not None and len(xmp) > _JPEG_XMP_LIMIT:
        raise UserError(
            f"{path} is made of too many inputs for a JPEG's metadata; name a .png instead.", "metadata-too-long"
        )
    check_picture_size(path, *picture.shape[:2])
    with replacing_file(path) as temporary:
        if picture.dtype == np.uint16 and picture.ndim == 3:
            temporary.write_bytes(deep_png(picture, xmp, photo.exif, photo.profile))
        else:
            options = _save_options(kind, quality, xmp, photo)
            Image.fromarray(np.ascontiguousarray(picture)).save(temporary, format=kind, **options)
        if finish is not None:
            finish(temporary)


def check_picture_size(path: Path, height: int, width: int) -> None:
    """A UserError where a picture has longer sides than its format can hold."""
    kind = picture_format(path)
    most = LONGEST_SIDE.get(kind)
    if most and max(height, width) > most:
        raise UserError(
            f"{path} would have {width}×{height} pixels, and a {kind} holds at most {most:,} a side; name a .png "
            "instead.",
            "picture-too-large-for-format",
        )


def _save_options(kind: str, quality: int, xmp: bytes | None, photo: PhotoMetadata) -> dict[str, Any]:
    """What Pillow is told for a format."""
    options: dict[str, Any] = {}
    if kind in ("JPEG", "WEBP"):
        options["quality"] = quality
    if kind == "JPEG":
        options["subsampling"] = 0
    if xmp is not None and kind == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8"))
    elif xmp is not None:
        options["xmp"] = xmp
    if photo.exif:
        options["exif"] = photo.exif
    if photo.profile:
        options["icc_profile"] = photo.profile
    return options


def write_result(
    path: str | Path,
    picture: np.ndarray,
    provenance: Provenance,
    marks: MarkOptions = ALL_MARKS,
    *,
    labelled: bool = False,
    parent: str | Path | None = None,
    quality: int = QUALITY,
) -> tuple[str, ...]:
    """Write one swapped picture with its marks.

    Args:
      path: where; its ending chooses the format.
      picture: uint8 RGB [H, W, 3], unmarked.
      provenance: what the metadata says.
      marks: which marks it gets.
      labelled: the picture carries its visible labels already.
      parent: the file of the photo that was edited. Its EXIF and colour profile are kept, and its alpha, 16 bits and
        grey where the format can; its C2PA history, if it has one, stays on as the manifest's ingredient.
      quality: of JPEG and WebP, 1 to 100.

    Returns:
      those of ``MARKS`` that the file carries.

    Raises:
      UserError: as `write_picture`, or the manifest cannot be signed with the credentials that were given.
    """
    if marks.watermark:
        picture = embed(picture)
    if marks.label and not labelled:
        picture = draw_label(picture)
    credentials = (marks.credentials or credentials_here()) if marks.c2pa and c2pa.available() else None
    signs = credentials is not None
    carried = carried_marks(marks, picture.shape, signs)

    def sign(temporary: Path) -> None:
        others = [name for name in carried if name != MANIFEST]
        assert credentials is not None
        c2pa.sign(temporary, provenance, credentials, others, parent)

    photo = None if parent is None else read_photo_metadata(parent)
    if parent is not None and not labelled:
        picture = as_its_photo(picture, parent, picture_format(path))
    write_picture(path, picture, xmp_packet(provenance) if marks.xmp else None, quality, sign if signs else None, photo)
    return carried


def carried_marks(marks: MarkOptions, shape: tuple[int, ...], signed: bool) -> tuple[str, ...]:
    """Those of ``MARKS`` that a result of a shape, [H, W, …], carries; ``signed``: whether it gets a manifest."""
    wanted = (marks.label, marks.xmp, signed, marks.watermark and has_room(shape))
    return tuple(name for name, here in zip(MARKS, wanted) if here)


def write_sheet(path: str | Path, sheet: np.ndarray) -> tuple[str, ...]:
    """Write a sheet whose swapped pictures carry their visible labels, with the other marks.

    Returns:
      those of ``MARKS`` that the file carries.
    """
    return write_result(path, sheet, Provenance(), labelled=True)


def picture_format(path: str | Path) -> str:
    """Pillow's name of the format that a file's ending stands for, or a UserError with the endings there are."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise UserError(
            f"{path} does not say which picture to write; end it in {', '.join(FORMATS)}.", "picture-format"
        )
    return FORMATS[suffix]


def list_pictures(folder: str | Path) -> list[Path]:
    """The picture files right inside a folder, by name; hidden ones are left out.

    Raises:
      UserError: there is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; check the path.", "folder-missing")
    found = [p for p in folder.iterdir() if is_picture(p) and not p.name.startswith(".")]
    if not found:
        here = describe_rest(folder, [p for p in folder.iterdir() if not p.name.startswith(".")]) or "nothing"
        raise UserError(
            f"there is no picture right inside {folder} (but {here}); name a folder that holds files ending in "
            f"{', '.join(FORMATS)}.",
            "folder-without-pictures",
        )
    return sorted(found)


def refuse_overwriting(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """A UserError if one of the outputs is one of the inputs, also by another name of the same file."""
    paths = [Path(path) for path in inputs]
    taken = {path.resolve() for path in paths}
    files = {_file_number(path) for path in paths} - {None}
    for output in map(Path, outputs):
        if output.resolve() in taken or _file_number(output) in files:
            raise UserError(
                f"the output {output} is also an input and would be lost; name another output.", "output-is-input"
            )


def _file_number(path: Path) -> tuple[int, int] | None:
    """Device and inode of an existing file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
