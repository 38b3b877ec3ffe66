"""Animations, read and written with Pillow: GIF, WebP and APNG, frame by frame."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence, PngImagePlugin

from simswap_jax.errors import UserError
from simswap_jax.io.images import QUALITY

FORMATS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".apng": "PNG"}
MIME = {"GIF": "image/gif", "WEBP": "image/webp", "PNG": "image/png"}
_AT_ONCE, _USUAL = 10, 100  # milliseconds: so short a pause is shown as the usual one, as browsers do
_GIF_XMP = b"\x21\xff\x0bXMP DataXMP"
_GIF_XMP_END = bytes([1, *range(255, -1, -1), 0])  # whatever comes before, a reader of blocks ends up at its end


@dataclass(frozen=True)
class Still:
    """A frame of an animation.

    Attributes:
      picture: uint8 RGB [H, W, 3]; what is transparent is laid on white.
      milliseconds: that it is shown.
    """

    picture: np.ndarray
    milliseconds: int


def is_animation(path: str | Path) -> bool:
    """Whether a picture file has several frames that follow each other; False for what cannot be read."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS or not path.is_file():
        return False
    try:
        with Image.open(path) as image:
            return image.format in MIME and getattr(image, "n_frames", 1) - _has_default_image(image) > 1
    except Exception:  # Pillow's readers raise nearly anything on broken files; those are named where they are read
        return False


def _has_default_image(image: Image.Image) -> bool:
    """Whether the first picture of a PNG is for programs that know no animations, and no part of it."""
    return bool(getattr(image, "default_image", False))


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of an animation, before anything of it is decoded."""
    with Image.open(path) as image:
        return image.size


def repetitions(path: Path) -> int | None:
    """How often an animation is repeated after it was shown once: 0 for ever, None not at all."""
    with Image.open(path) as image:
        count = image.info.get("loop")
        if count is None or count == 0 or image.format == "GIF":
            return None if count is None else int(count)
        return int(count) - 1 or None  # a PNG and a WebP say how often they are shown, a GIF how often again


def has_transparency(path: Path) -> bool:
    """Whether the first frame of an animation has transparent places."""
    with Image.open(path) as image:
        image.seek(int(_has_default_image(image)))
        return int(np.asarray(image.convert("RGBA"))[..., 3].min()) < 255


def stills(path: Path) -> Iterator[Still]:
    """The frames of an animation, one after another.

    Raises:
      UserError: one cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            rest = 0.0  # what rounding took from the frames before, as a PNG's times are fractions
            for index, frame in enumerate(ImageSequence.Iterator(image)):
                if index == 0 and _has_default_image(image):
                    continue
                frame.load()  # a WebP says only now how long it is shown
                wanted = float(frame.info.get("duration") or 0)
                wanted = wanted if wanted > _AT_ONCE else _USUAL
                shown = round(wanted + rest)
                rest += wanted - shown
                picture = Image.new("RGBA", frame.size, "white")
                picture.alpha_composite(frame.convert("RGBA"))
                yield Still(np.asarray(picture.convert("RGB")), shown)
    except UserError:
        raise
    except Exception as error:  # as above
        raise UserError(f"{path} is broken ({error}); give a whole animation.", "animation-broken") from error


def write_animation(
    path: Path,
    pictures: Iterable[Still],
    kind: str,
    repeated: int | None,
    xmp: bytes | None = None,
    quality: int = QUALITY,
) -> None:
    """Write an animation.

    Args:
      path: where, under its temporary name.
      pictures: its frames, all of one size.
      kind: ``"GIF"`` (256 colours a frame), ``"WEBP"`` or ``"PNG"`` (nothing is lost).
      repeated: how often again: 0 for ever, None not at all.
      xmp: an XMP packet, UTF-8.
      quality: of WebP, 1 to 100.
    """
    images, times = [], []
    for one in pictures:  # what is kept of each is Pillow's picture alone
        images.append(Image.fromarray(one.picture))
        times.append(one.milliseconds)
    first, *others = images
    options: dict[str, Any] = {"append_images": others, "duration": hundredths(times) if kind == "GIF" else times}
    often = 1 if repeated is None else repeated and repeated + 1
    if kind == "WEBP":
        options |= {"loop": often, "quality": quality, "method": 2}
        options |= {} if xmp is None else {"xmp": xmp}
    elif kind == "PNG":
        options |= {"loop": often, "pnginfo": PngImagePlugin.PngInfo()}
        if xmp is not None:
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8"))
    else:
        options |= {"disposal": 1} | ({} if repeated is None else {"loop": repeated})
    file = io.BytesIO()
    first.save(file, format=kind, save_all=True, **options)
    data = file.getvalue()
    path.write_bytes(_with_gif_xmp(data, xmp) if kind == "GIF" and xmp is not None else data)


def hundredths(times: Iterable[int]) -> list[int]:
    """Milliseconds as a GIF holds them, in tens and at least 20; what rounding takes from one frame the next gets."""
    made, rest = [], 0
    for time in times:
        made.append(max(20, round((time + rest) / 10) * 10))
        rest += time - made[-1]
    return made


def read_gif_xmp(path: Path) -> bytes | None:
    """The XMP packet of a GIF; None where there is none."""
    data = path.read_bytes()
    start = data.find(_GIF_XMP) + len(_GIF_XMP)
    end = data.find(_GIF_XMP_END, start)
    return data[start:end] if start >= len(_GIF_XMP) and end > start else None


def _with_gif_xmp(data: bytes, xmp: bytes) -> bytes:
    """A GIF with an XMP packet as its first block, as Adobe's specification says."""
    flags = data[10]
    place = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    return data[:place] + _GIF_XMP + xmp + _GIF_XMP_END + data[place:]


def refuse_animation(path: Path) -> None:
    """A UserError for a picture file that moves: one frame of it would be swapped."""
    if is_animation(path):
        raise UserError(
            f"{path} is an animation; name it alone as the --target of a .gif, .webp, .png or .mp4, not in a folder, "
            "not with --aligned or --grid.",
            "animation-as-picture",
        )
