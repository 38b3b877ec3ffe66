"""Video files read: the picture stream frame by frame, upright; what else is in them; and sentences for broken ones."""

import errno
import math
import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.errors import UserError, missing_extra
from simswap_jax.provenance.label_xmp import Provenance, parse_packet

SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv", ".flv", ".3gp"}
MOST_PIXELS = 8192 * 8192  # of a frame
_BT709, _BT601, _UNKNOWN = 1, 5, 2  # FFmpeg's numbers of the ways colours are written
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_ISO = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"uuid", b"sidx", b"pnot"}


@dataclass(frozen=True)
class Video:
    """A video file that was opened once and looked at.

    Attributes:
      path: the file.
      stream: index of the stream with the pictures.
      width, height: of a frame as it is stored, in pixels.
      rotation: quarter turns counter-clockwise that make a stored frame upright.
      time_base: seconds of a unit of the stream's timestamps.
      rate: frames a second, on average; 25 where the file does not say.
      length: how many frames there are likely to be; 0 if unknown.
    """

    path: Path
    stream: int
    width: int
    height: int
    rotation: int
    time_base: Fraction
    rate: Fraction
    length: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an upright frame: [H, W, 3]."""
        turned = self.rotation % 2 == 1
        return (self.width, self.height, 3) if turned else (self.height, self.width, 3)

    def frames(self) -> Generator["Frame", None, None]:
        """The frames in the order they are shown.

        Raises:
          UserError: one cannot be decoded, or has another size.
        """
        index, last = 0, -math.inf
        usual = max(1, round(1 / (self.rate * self.time_base)))
        with reading(self.path) as container:
            stream = container.streams[self.stream]
            stream.thread_type = "AUTO"
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    raise UserError(
                        f"{self.path} is broken at frame {index} or is cut off there; give a whole file.",
                        "video-broken",
                    )
                for frame in packet.decode():
                    if (frame.width, frame.height) != (self.width, self.height):
                        raise UserError(
                            f"{self.path} changes its size at frame {index}; convert it with another program first.",
                            "video-size-changes",
                        )
                    # Some files carry no times, or one twice: then the usual pause, so that all frames stay.
                    pts = frame.pts if frame.pts is not None else (0 if index == 0 else int(last) + usual)
                    pts = pts if pts > last else int(last) + 1
                    yield Frame(index, pts, frame.duration or usual, frame)
                    index, last = index + 1, pts
        if not index:
            raise UserError(
                f"{self.path} has no frame that can be decoded; give another video.", "video-without-frames"
            )

    def upright(self, frame: Any) -> np.ndarray:
        """A decoded frame as people see it: uint8 RGB [H, W, 3]."""
        rgb = frame.reformat(format="rgb24", src_colorspace=self.colours(frame), dst_colorspace=self.colours(frame))
        return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), self.rotation))

    def stored(self, picture: np.ndarray, like: Any, pixels: str) -> Any:
        """An upright picture as a frame of this video again, with the colours written as in ``like``."""
        import av

        turned = np.ascontiguousarray(np.rot90(picture, -self.rotation))
        frame = av.VideoFrame.from_ndarray(turned, format="rgb24")
        colours = self.colours(like)
        frame = frame.reformat(
            format=pixels, src_colorspace=colours, dst_colorspace=colours, dst_color_range=like.color_range or 1
        )
        for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
            setattr(frame, name, getattr(like, name))
        return frame

    def colours(self, frame: Any) -> int:
        """The matrix between RGB and what is stored; where the file does not say, players go by the size."""
        known = {_BT709: _BT709, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9, 10: 9}
        return known.get(int(frame.colorspace), _BT709 if self.height >= 720 else _BT601)


@dataclass(frozen=True)
class Frame:
    """A decoded frame.

    Attributes:
      index: from 0.
      pts: when it is shown and
      duration: for how long, in units of the video's time base.
      image: PyAV's frame.
    """

    index: int
    pts: int
    duration: int
    image: Any


def is_video(path: Path) -> bool:
    """Whether a file's ending says that it is a video."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def open_video(path: str | Path) -> Video:
    """Open a video file, look at its first frame, and close it.

    Raises:
      UserError: PyAV is missing; there is no such file; it is no video, has no pictures, is cut off or is broken.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no video {path}; check the path.", "video-missing")
    if not path.stat().st_size:
        raise UserError(f"{path} is empty; give a video.", "video-empty")
    check_whole(path)
    with reading(path) as container:
        stream = find_picture_stream(container, path)
        width, height = int(stream.codec_context.width or 0), int(stream.codec_context.height or 0)
        if width * height > MOST_PIXELS:
            raise UserError(
                f"the frames of {path} are too large ({width}×{height}); 64 million pixels are the most.",
                "video-too-large",
            )
        first = next((frame for frame in container.decode(stream)), None)
        if first is None:
            raise UserError(f"{path} has no frame that can be decoded; give another video.", "video-without-frames")
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate or Fraction(25)
        rate = rate if Fraction(1, 100) <= rate <= 1000 else Fraction(25)
        seconds = (stream.duration or 0) * stream.time_base or Fraction(container.duration or 0, 1_000_000)
        return Video(
            path=path,
            stream=stream.index,
            width=first.width,
            height=first.height,
            rotation=round((first.rotation or 0) / 90) % 4,
            time_base=stream.time_base,
            rate=rate,
            length=stream.frames or max(0, int(seconds * rate)),
        )


@contextmanager
def reading(path: Path) -> Iterator[Any]:
    """PyAV's container for reading; whatever it cannot do with a broken file is a sentence."""
    av = av_package()
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            yield container
    except UserError:
        raise
    except OSError as error:
        if error.errno in _FULL:  # of what is written meanwhile, not of what is read
            raise
        raise UserError(
            f"{path} cannot be read as a video ({error.strerror}); give a whole one.", "video-unreadable"
        ) from error
    except (av.FFmpegError, ValueError, ArithmeticError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(
            f"{path} cannot be read as a video ({reason}); give a whole one, such as an .mp4.", "video-unreadable"
        ) from error


def find_picture_stream(container: Any, path: Path) -> Any:
    """The first stream of moving pictures; covers of music do not count."""
    import av

    cover = av.stream.Disposition.attached_pic
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & cover:
            return stream
    what = "sound only" if container.streams.audio else "no pictures"
    raise UserError(f"{path} has {what}; give a video.", "video-without-pictures")


def check_whole(path: Path) -> None:
    """A UserError where an MP4 or MOV ends before its boxes do."""
    size = path.stat().st_size
    for box in boxes(path):
        if box.kind not in _ISO and box.start == 0:
            return  # another kind of file
        if box.start + box.size > size:
            missing = box.start + box.size - size
            raise UserError(
                f"{path} is cut off: its last {missing:,} bytes are missing; give the whole file.", "video-cut-off"
            )


@dataclass(frozen=True)
class Box:
    """A top-level box of an MP4: four letters, where it starts, its length with header, where its content starts."""

    kind: bytes
    start: int
    size: int
    content: int


def boxes(path: str | Path) -> Iterator[Box]:
    """The top-level boxes of an MP4 or MOV; the last may reach beyond the file's end. Other files: nonsense or none."""
    path = Path(path)
    end, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + 8 <= end:
            file.seek(place)
            header = file.read(16)
            size, kind, content = int.from_bytes(header[:4], "big"), header[4:8], place + 8
            if size == 1 and len(header) == 16:
                (size,) = struct.unpack(">Q", header[8:16])
                content += 8
            size = end - place if size == 0 else size
            if size < content - place:
                return
            yield Box(kind, place, size, content)
            place += size


def av_package() -> Any:
    """PyAV, quiet, or a UserError that names the extra."""
    try:
        import av
    except ImportError as error:
        raise missing_extra("av", "video", "a video") from error
    # No messages at all: any other level takes Python's lock for errors, and a decoder's thread that waits for it while
    # Python waits for the decoder hangs for ever.
    av.logging.set_level(None)
    return av


_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # the UUID of Adobe's box
TAG = "XMP"  # of a Matroska file; there is no standard place in one
_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_MOST = 16 * 2**20  # bytes of an XMP packet that is read


def append_xmp(path: Path, packet: bytes) -> None:
    """Add an XMP packet to an MP4 or MOV as its last box, as Adobe's specification says (ISO base media: ``uuid``)."""
    with path.open("ab") as file:
        file.write((24 + len(packet)).to_bytes(4, "big") + b"uuid" + _XMP + packet)


def read_video_provenance(path: str | Path) -> Provenance | None:
    """What the metadata of a video file says of its making; None where there is no digital source type.

    Raises:
      UserError: the file cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        for box in boxes(path):
            file.seek(box.content)
            if box.kind == b"uuid" and file.read(16) == _XMP:
                found = parse_packet(file.read(min(box.size, _MOST)))
                if found is not None:
                    return found
    with reading(path) as container:
        packet = container.metadata.get(TAG)
    return None if packet is None else parse_packet(packet)


def mime_type(path: str | Path) -> str | None:
    """What C2PA calls a video file by its first box and ending; None for kinds that it has no place in."""
    first = next(boxes(path), None)
    if first is None or first.kind != b"ftyp":
        return None
    return "video/quicktime" if Path(path).suffix.lower() == ".mov" else "video/mp4"


def has_manifest(path: str | Path) -> bool:
    """Whether an MP4 or MOV holds a C2PA store."""
    with Path(path).open("rb") as file:
        for box in boxes(path):
            file.seek(box.content)
            if box.kind == b"uuid" and file.read(16) == _C2PA:
                return True
    return False
