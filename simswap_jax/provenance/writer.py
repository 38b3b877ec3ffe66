"""Picture files in and out: results are written whole or not at all, marked, and never over their own inputs."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from simswap_jax.errors import UserError
from simswap_jax.io.atomic import replacing_file
from simswap_jax.io.image_depth import as_its_photo, deep_png
from simswap_jax.io.images import SUFFIXES
from simswap_jax.provenance import c2pa as c2pa_manifest
from simswap_jax.provenance.certificates import Credentials, local_credentials
from simswap_jax.provenance.image_metadata import PhotoMetadata, read_photo_metadata
from simswap_jax.provenance.label_xmp import Marks, draw_label, xmp_packet
from simswap_jax.provenance.watermark import carries_mark
from simswap_jax.provenance.watermark import embed as embed_invisible_mark

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
MARKS = LABEL, METADATA, MANIFEST, INVISIBLE = "a visible label", "XMP metadata", "a C2PA manifest", "an invisible mark"
_JPEG_XMP_LIMIT = 65_000  # one APP1 segment


def write_picture(
    path: str | Path,
    picture: np.ndarray,
    xmp: bytes | None = None,
    quality: int = 95,
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
    path = Path(path)
    kind = picture_format(path)
    if picture.dtype not in (np.uint8, np.uint16) or (picture.ndim != 2 and picture.shape[2:] not in ((3,), (4,))):
        raise UserError(f"a picture to write must be uint8 [H, W, 3], not {picture.dtype} {list(picture.shape)}.")
    options: dict[str, object] = {}
    if kind == "JPEG":
        options = {"quality": quality, "subsampling": 0}
    elif kind == "WEBP":
        options = {"quality": quality}
    if xmp is not None and kind == "PNG":
        information = PngImagePlugin.PngInfo()
        information.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8"))
        options["pnginfo"] = information
    elif xmp is not None:
        if kind == "JPEG" and len(xmp) > _JPEG_XMP_LIMIT:
            raise UserError(f"{path} is made of too many inputs for a JPEG's metadata; name a .png instead.")
        options["xmp"] = xmp
    if photo is not None and photo.exif:
        options["exif"] = photo.exif
    if photo is not None and photo.profile:
        options["icc_profile"] = photo.profile
    with replacing_file(path) as temporary:
        if picture.dtype == np.uint16 and picture.ndim == 3:
            exif, profile = (photo.exif, photo.profile) if photo is not None else (b"", b"")
            temporary.write_bytes(deep_png(picture, xmp, exif or b"", profile or b""))
        else:
            Image.fromarray(np.ascontiguousarray(picture)).save(temporary, format=kind, **options)
        if finish is not None:
            finish(temporary)


def write_result(
    path: str | Path,
    picture: np.ndarray,
    marks: Marks,
    *,
    visible_label: bool = True,
    metadata: bool = True,
    c2pa: bool = True,
    invisible_mark: bool = True,
    labelled: bool = False,
    credentials: Credentials | None = None,
    parent: str | Path | None = None,
    quality: int = 95,
) -> tuple[str, ...]:
    """Write one swapped picture with its marks.

    Args:
      path: where; its ending chooses the format.
      picture: uint8 RGB [H, W, 3], unmarked.
      marks: what the metadata says.
      visible_label: False drops the label that people see.
      metadata: False drops the XMP packet that machines read.
      c2pa: False drops the signed C2PA manifest, which is also left out where the extra ``provenance`` is missing.
      invisible_mark: False drops the mark in the pixels, which pictures under 112 pixels have no room for.
      labelled: the picture carries its visible labels already.
      credentials: what signs the manifest; this machine's own certificate if None.
      parent: the file of the photo that was edited. Its EXIF and colour profile are kept, and its alpha, 16 bits and
        grey where the format can; its C2PA history, if it has one, stays on as the manifest's ingredient.
      quality: of JPEG and WebP, 1 to 100.

    Returns:
      those of ``MARKS`` that the file carries.
    """
    if invisible_mark:
        picture = embed_invisible_mark(picture)
    if visible_label and not labelled:
        picture = draw_label(picture)
    signs = c2pa and c2pa_manifest.available()
    wanted = (visible_label, metadata, signs, invisible_mark and carries_mark(picture.shape))
    carried = tuple(name for name, here in zip(MARKS, wanted) if here)

    def finish(temporary: Path) -> None:
        others = [name for name in carried if name != MANIFEST]
        c2pa_manifest.sign(temporary, marks, credentials or local_credentials(), others, parent)

    photo = None if parent is None else read_photo_metadata(parent)
    if parent is not None and not labelled:
        picture = as_its_photo(picture, parent, picture_format(path))
    write_picture(path, picture, xmp_packet(marks) if metadata else None, quality, finish if signs else None, photo)
    return carried


def write_sheet(path: str | Path, sheet: np.ndarray) -> tuple[str, ...]:
    """Write a sheet whose swapped pictures carry their visible labels, with the other marks.

    The manifest is left out where this machine cannot sign: a long run is not to end on that.

    Returns:
      those of ``MARKS`` that the file carries.
    """
    try:
        credentials = local_credentials() if c2pa_manifest.available() else None
    except UserError:
        credentials = None
    return write_result(path, sheet, Marks(), labelled=True, c2pa=credentials is not None, credentials=credentials)


def picture_format(path: str | Path) -> str:
    """Pillow's name of the format that a file's ending stands for, or a UserError with the endings there are."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"{path} does not say which picture to write; end it in {', '.join(FORMATS)}.")
    return FORMATS[suffix]


def list_pictures(folder: str | Path) -> list[Path]:
    """The picture files right inside a folder, by name; hidden ones are left out.

    Raises:
      UserError: there is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; check the path.")
    found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    if not found:
        raise UserError(f"there is no picture in {folder}; it should hold files ending in {', '.join(FORMATS)}.")
    return sorted(found)


def refuse_overwriting(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """A UserError if one of the outputs is one of the inputs, also by another name of the same file."""
    paths = [Path(path) for path in inputs]
    taken = {path.resolve() for path in paths}
    files = {_file_number(path) for path in paths} - {None}
    for output in map(Path, outputs):
        if output.resolve() in taken or _file_number(output) in files:
            raise UserError(f"the output {output} is also an input and would be lost; name another output.")


def _file_number(path: Path) -> tuple[int, int] | None:
    """Device and inode of an existing file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
