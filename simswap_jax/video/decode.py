"""Video files read: the picture stream frame by frame, upright; what else is in them; and sentences for broken ones."""

import errno
import math
import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simswap_jax.errors import UserError, missing_extra
from simswap_jax.io import animation
from simswap_jax.io.animation import is_animation
from simswap_jax.provenance import c2pa
from simswap_jax.provenance.label_xmp import Provenance, parse_packet, read_provenance
from simswap_jax.video.colour import BT601, BT709, MATRICES, Colours

# fmt: off
SUFFIXES = frozenset((
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mj2", ".f4v", ".flv", ".mkv", ".webm", ".avi", ".divx", ".wmv",
    ".asf", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".evo", ".mod", ".tod", ".ts", ".mts", ".m2ts", ".m2t",
    ".trp", ".wtv", ".ogv", ".ogm", ".mxf", ".dv", ".rm", ".rmvb", ".amv", ".nut", ".ivf", ".y4m",
))
# fmt: on
MOST_PIXELS = 8192 * 8192  # of a frame
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_ISO = frozenset(b"ftyp moov mdat free skip wide styp moof uuid sidx pnot meta mfra emsg prft".split())


@dataclass
class Damage:
    """How many frames of a video are damaged, or made of damaged ones."""

    frames: int = 0


@dataclass(frozen=True)
class Video:
    """A video file that was opened once and looked at.

    Attributes:
      path: the file.
      stream: index of the stream with the pictures.
      width, height: of a frame as it is stored, in pixels.
      rotation: quarter turns counter-clockwise that make a stored frame upright, and
      mirrored: whether left and right are exchanged after them.
      time_base: seconds of a unit of the stream's timestamps.
      start: seconds on the file's clock when it begins; zero but for broadcasts and discs, whose clock has run before.
      rate: frames a second, on average; 25 where the file does not say.
      length: how many frames there are likely to be; 0 if unknown.
      colours: how they are written, by the first frame.
      aspect: width of a pixel by its height.
      alpha: whether there is an alpha channel, which is left out.
      light: x265's parameters that say how bright the video was made to be; empty if it does not say.
      damage: how many frames were damaged, once `frames` was at its end.
    """

    path: Path
    stream: int
    width: int
    height: int
    rotation: int
    time_base: Fraction
    rate: Fraction
    length: int
    colours: Colours = field(default_factory=Colours)
    aspect: Fraction = Fraction(1)
    alpha: bool = False
    light: str = ""
    damage: Damage = field(default_factory=Damage, compare=False)
    start: Fraction = Fraction(0)
    mirrored: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an upright frame: [H, W, 3]."""
        turned = self.rotation % 2 == 1
        return (self.width, self.height, 3) if turned else (self.height, self.width, 3)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """PyAV's container for reading, with what else is in the file; None for an animation, which has nothing."""
        with reading(self.path) as container:
            yield container

    def frames(self) -> Generator["Frame", None, None]:
        """The frames in the order they are shown; those that are damaged, too, as well as they can be decoded.

        Their times count from `start`.

        Raises:
          UserError: none can be decoded, one has another size, or the clock starts again.
        """
        index, last, damage = 0, -math.inf, Damage()
        start = round(self.start / self.time_base)
        usual = max(1, round(1 / (self.rate * self.time_base)))
        with reading(self.path) as container:
            stream = container.streams[self.stream]
            stream.thread_type = "AUTO"
            for frame in decoded(container, stream, damage):
                if (frame.width, frame.height) != (self.width, self.height):
                    raise UserError(
                        f"{self.path} changes its size at frame {index}; convert it with another program first.",
                        "video-size-changes",
                    )
                # Some files carry no times, or one twice: then the usual pause, so that all frames stay.
                pts = frame.pts - start if frame.pts is not None else (0 if index == 0 else int(last) + usual)
                if (back := float((last - pts) * self.time_base)) > 1:
                    raise UserError(
                        f"the clock of {self.path} goes back by {back:.0f} seconds at frame {index}, as where "
                        "recordings were joined; cut it there and swap each part, or convert it with another program "
                        "first.",
                        "video-clock-restarts",
                    )
                pts = pts if pts > last else int(last) + 1
                yield Frame(index, pts, frame.duration or usual, frame)
                index, last = index + 1, pts
        if not index:
            raise without_frames(self.path)
        self.damage.frames = damage.frames

    def upright(self, frame: Any) -> np.ndarray:
        """A decoded frame as people see it: uint8 RGB [H, W, 3]; HDR and wide gamuts as SDR."""
        rgb = self._rgb(frame, "rgb24" if self.colours.is_plain else "rgb48le")
        picture = rgb.to_ndarray()
        picture = picture if self.colours.is_plain else self.colours.sdr.to_sdr(picture)
        picture = np.rot90(picture, self.rotation)
        return np.ascontiguousarray(picture[:, ::-1] if self.mirrored else picture)

    def stored(self, picture: np.ndarray, like: Any, pixels: str) -> Any:
        """An upright picture as a frame of this video again, with the colours written as in ``like``.

        Args:
          picture: uint8 RGB [H, W, 3].
          like: the decoded frame that it was made of.
          pixels: FFmpeg's name of the format; in a video's (YUV) odd sizes grow by one row or column.
        """
        import av

        picture = picture[:, ::-1] if self.mirrored else picture
        turned = np.ascontiguousarray(np.rot90(picture, -self.rotation))
        if pixels == "rgb24":
            return av.VideoFrame.from_ndarray(turned, format=pixels)
        if not self.colours.is_plain:
            values = self._rgb(like, "rgb48le").to_ndarray()
            turned = self.colours.sdr.with_changes(values, self.colours.sdr.to_sdr(values), turned)
        if self.width % 2 or self.height % 2:
            turned = cv2.copyMakeBorder(turned, 0, self.height % 2, 0, self.width % 2, cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_ndarray(turned, format="rgb24" if turned.dtype == np.uint8 else "rgb48le")
        colours = self.matrix(like)
        kept = Colours.of(like).as_yuv(self.usual_matrix)
        frame = frame.reformat(
            format=pixels, src_colorspace=colours, dst_colorspace=colours, dst_color_range=kept.range or 1
        )
        frame.colorspace, frame.color_range = kept.matrix, kept.range
        frame.color_primaries, frame.color_trc = kept.primaries, kept.transfer
        return frame

    def _rgb(self, frame: Any, pixels: str) -> Any:
        """A decoded frame with its RGB values as they are stored."""
        return frame.reformat(format=pixels, src_colorspace=self.matrix(frame), dst_colorspace=self.matrix(frame))

    def matrix(self, frame: Any) -> int:
        """The matrix between RGB and what is stored; where the file does not say, players go by the size."""
        return MATRICES.get(int(frame.colorspace), self.usual_matrix)

    @property
    def usual_matrix(self) -> int:
        """That of files which do not say."""
        return BT709 if self.height >= 720 else BT601


@dataclass(frozen=True)
class Animation(Video):
    """A GIF, WebP or APNG with several frames, as if it were a video; times are milliseconds."""

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Nothing else is in it."""
        yield None

    def frames(self) -> Generator["Frame", None, None]:
        """The frames in the order they are shown.

        Raises:
          UserError: one cannot be decoded.
        """
        import av

        pts = 0
        for index, still in enumerate(animation.stills(self.path)):
            yield Frame(index, pts, still.milliseconds, av.VideoFrame.from_ndarray(still.picture, format="rgb24"))
            pts += still.milliseconds


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
    """Whether a file is moving pictures: a video by its ending, or an animation."""
    return (path.suffix.lower() in SUFFIXES and not path.is_dir()) or is_animation(path)


def open_video(path: str | Path) -> Video:
    """Open a video file or an animation, look at its first frame, and close it.

    Raises:
      UserError: PyAV is missing; there is no such file; it is no video, has no pictures, is cut off or is broken, or
        has colours that are not read.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no video {path}; check the path.", "video-missing")
    if not path.stat().st_size:
        raise UserError(f"{path} is empty; give a video.", "video-empty")
    if is_animation(path):
        return open_animation(path)
    check_whole(path)
    with reading(path) as container:
        stream = find_picture_stream(container, path)
        check_size(path, int(stream.codec_context.width or 0), int(stream.codec_context.height or 0))
        first = next(decoded(container, stream, Damage()), None)
        if first is None:
            raise without_frames(path)
        colours = Colours.of(first)
        colours.check(path, any("DOVI" in name for name in side_data(first)))
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate or Fraction(25)
        rate = rate if Fraction(1, 100) <= rate <= 1000 else Fraction(25)
        seconds = (stream.duration or 0) * stream.time_base or Fraction(container.duration or 0, 1_000_000)
        rotation, mirrored = orientation_of(first)
        return Video(
            path=path,
            stream=stream.index,
            width=first.width,
            height=first.height,
            rotation=rotation,
            time_base=stream.time_base,
            rate=rate,
            length=stream.frames or max(0, int(seconds * rate)),
            colours=colours,
            aspect=Fraction(stream.sample_aspect_ratio or 1) or Fraction(1),
            alpha=has_alpha(stream, first),
            light=light_of(first),
            start=start_of(container),
            mirrored=mirrored,
        )


def start_of(container: Any) -> Fraction:
    """The second on a container's clock when it begins, where that says nothing to a viewer.

    Broadcasts (MPEG-TS) and discs (MPEG-PS) are cut out of a clock that runs for hours. Anywhere else a late begin is
    meant: pictures that begin after the sound, say.
    """
    import av

    runs_on = container.format.flags & av.format.Flags.ts_discont.value
    return Fraction(container.start_time or 0, av.time_base) if runs_on else Fraction(0)


def open_animation(path: Path) -> Animation:
    """Read an animation once and say what it is.

    Raises:
      UserError: PyAV is missing, it is too large or broken.
    """
    av_package()
    width, height = animation.size_of(path)
    check_size(path, width, height)
    times = [still.milliseconds for still in animation.stills(path)]
    return Animation(
        path=path,
        stream=0,
        width=width,
        height=height,
        rotation=0,
        time_base=Fraction(1, 1000),
        rate=Fraction(1000 * len(times), sum(times)),
        length=len(times),
        alpha=animation.has_transparency(path),
    )


def check_size(path: Path, width: int, height: int) -> None:
    """A UserError for frames that are too large."""
    if width * height > MOST_PIXELS:
        raise UserError(
            f"the frames of {path} are too large ({width}×{height}); 67 million pixels are the most.",
            "video-too-large",
        )


def without_frames(path: Path) -> UserError:
    """The sentence for a video of which nothing can be decoded."""
    return UserError(f"{path} has no frame that can be decoded; give another video.", "video-without-frames")


def side_data(frame: Any) -> dict[str, bytes]:
    """What stands beside the pixels of a decoded frame, by FFmpeg's names."""
    each = [frame.side_data[i] for i in range(len(frame.side_data))]
    return {one.type.name: bytes(one) for one in each}


def orientation_of(frame: Any) -> tuple[int, bool]:
    """`Video.rotation` and `Video.mirrored` of a decoded frame.

    Its display matrix shows the pixel (x, y) at (a x + c y, b x + d y), but for a shift; it begins with a, b, 0, c, d.
    """
    matrix = side_data(frame).get("DISPLAYMATRIX", b"")
    if len(matrix) < 20:
        return 0, False
    a, b, _, c, d = struct.unpack_from("<5i", matrix)
    mirrored = a * d < b * c
    return round(-math.atan2(b, -a if mirrored else a) / (math.pi / 2)) % 4, mirrored


def light_of(frame: Any) -> str:
    """How bright an HDR video was made to be (SMPTE ST 2086, CTA-861.3), as parameters of x265."""
    beside, said = side_data(frame), ""
    screen, level = beside.get("MASTERING_DISPLAY_METADATA", b""), beside.get("CONTENT_LIGHT_LEVEL", b"")
    if len(screen) >= 88 and all(struct.unpack_from("<2i", screen, 80)):
        pairs = struct.unpack_from("<20i", screen)  # red, green, blue, white: x and y; darkest, brightest: fractions
        values = [Fraction(*pairs[i : i + 2]) if pairs[i + 1] else Fraction(0) for i in range(0, 20, 2)]
        x = [round(value * 50_000) for value in values[:8]]
        low, high = (round(value * 10_000) for value in values[8:])
        said += f":master-display=G({x[2]},{x[3]})B({x[4]},{x[5]})R({x[0]},{x[1]})WP({x[6]},{x[7]})L({high},{low})"
    if len(level) >= 8:
        said += ":max-cll={},{}".format(*struct.unpack_from("<2I", level))
    return f":hdr10=1{said}" if said else ""


def has_alpha(stream: Any, frame: Any) -> bool:
    """Whether a video has an alpha channel; VP8 and VP9 keep it beside the pictures."""
    tags = {name.lower(): value for name, value in stream.metadata.items()}
    return tags.get("alpha_mode") == "1" or any(component.is_alpha for component in frame.format.components)


def decoded(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    """The frames of a stream as PyAV has them; packets that cannot be decoded are left out.

    Args:
      container: open for reading.
      stream: of pictures.
      damage: counts the frames that are damaged, and those that are made of them up to the next key frame.
    """
    from av import FFmpegError

    broken, packets = False, 0
    for packet in container.demux(stream):
        packets += packet.is_corrupt
        try:
            frames = packet.decode()
        except FFmpegError as error:
            if isinstance(error, OSError):
                raise
            broken, frames = True, []
            packets += not packet.is_corrupt
        for frame in frames:
            broken = frame.is_corrupt or (broken and not frame.key_frame)
            damage.frames += broken
            yield frame
    damage.frames = max(damage.frames, packets)


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
        if box.kind not in _ISO:
            return  # another kind of file, or what a program has put behind an MP4
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
    if is_animation(path):
        packet = animation.read_gif_xmp(path) if path.suffix.lower() == ".gif" else None
        return read_provenance(path) if packet is None else parse_packet(packet)
    with path.open("rb") as file:
        for box in boxes(path):
            file.seek(box.content)
            if box.kind == b"uuid" and file.read(16) == _XMP:
                found = parse_packet(file.read(min(box.start + box.size - file.tell(), _MOST)))
                if found is not None:
                    return found
    with reading(path) as container:
        packet = container.metadata.get(TAG)
    return None if packet is None else parse_packet(packet)


def mime_type(path: str | Path) -> str | None:
    """What C2PA calls a video file by its first box and ending; None for kinds that it has no place in."""
    if is_animation(path):
        return animation.MIME[animation.FORMATS[Path(path).suffix.lower()]]
    first = next(boxes(path), None)
    if first is None or first.kind != b"ftyp":
        return None
    return "video/quicktime" if Path(path).suffix.lower() == ".mov" else "video/mp4"


def has_manifest(path: str | Path) -> bool:
    """Whether an MP4, MOV or animation holds a C2PA store."""
    if is_animation(path):
        return c2pa.has_manifest(path)
    with Path(path).open("rb") as file:
        for box in boxes(path):
            file.seek(box.content)
            if box.kind == b"uuid" and file.read(16) == _C2PA:
                return True
    return False
