"""Video files written: segments of encoded frames, and the whole video out of them with the tracks of the original."""

import heapq
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simswap_jax.errors import UserError
from simswap_jax.inference.options import EncodingOptions
from simswap_jax.io import animation
from simswap_jax.io.atomic import write_text
from simswap_jax.io.image_limits import free_memory
from simswap_jax.io.images import QUALITY
from simswap_jax.video.colour import Colours
from simswap_jax.video.decode import TAG, Animation, Video, av_package
from simswap_jax.video.tracks import Track, carried, open_tracks

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
H264, HEVC, PNG = "libx264", "libx265", "png"
_PRESET = "veryfast"
_MOST_STILL = 2**30  # pixels of an animation's frames together: they are in memory at once when they are written


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded, so that every segment and the whole video agree.

    Attributes:
      width, height: in pixels; even in a video, as everybody plays it.
      rate: frames a second.
      crf: of x264 and x265.
      aspect: width of a pixel by its height.
      colours: how they are written.
      codec: ``H264``, for HDR and wide gamuts ``HEVC``, for an animation ``PNG``.
      light: x265's parameters that say how bright an HDR video was made to be; empty if it does not say.
      quality: of a WebP animation.
    """

    width: int
    height: int
    rate: Fraction
    crf: int
    aspect: Fraction
    colours: Colours
    codec: str = H264
    light: str = ""
    quality: int = QUALITY

    @property
    def pixels(self) -> str:
        """FFmpeg's name of the format of pixels."""
        return {H264: "yuv420p", HEVC: "yuv420p10le", PNG: "rgb24"}[self.codec]

    def apply(self, context: Any) -> None:
        """Set up an encoder that is not open yet.

        Without B-frames packets stand in the order they are shown, so that any pauses between frames can be kept.
        Headers are apart from the packets, as MP4 wants them.
        """
        av = av_package()
        context.width, context.height, context.pix_fmt = self.width, self.height, self.pixels
        context.time_base, context.framerate = 1 / self.rate, self.rate
        if self.codec == PNG:
            return
        context.sample_aspect_ratio = self.aspect
        context.color_range, context.colorspace = self.colours.range, self.colours.matrix
        context.color_primaries, context.color_trc = self.colours.primaries, self.colours.transfer
        context.options = {"preset": _PRESET, "crf": str(self.crf), "bf": "0"}
        if self.codec == HEVC:
            context.codec_tag = "hvc1"  # as QuickTime wants it
            context.options |= {"x265-params": f"log-level=none{self.light}"}
        context.flags |= av.codec.context.Flags.global_header


def encoding_for(video: Video, options: EncodingOptions, output: Path) -> Encoding:
    """The encoding that fits a video and the file to write."""
    still = output.suffix.lower() in animation.FORMATS
    return Encoding(
        width=video.width + (0 if still else video.width % 2),
        height=video.height + (0 if still else video.height % 2),
        rate=video.rate.limit_denominator(60000),
        crf=options.crf,
        aspect=video.aspect,
        colours=video.colours.as_yuv(video.usual_matrix),
        codec=PNG if still else H264 if video.colours.is_plain else HEVC,
        light=video.light,
        quality=options.quality,
    )


class Segment:
    """Frames on their way into two files: the encoder's packets one after another, and a list that says which is what.

    The list is written last and renamed: a segment is there as a whole or not at all.
    """

    def __init__(self, folder: Path, number: int, encoding: Encoding) -> None:
        av = av_package()
        self._list, self._data = segment_files(folder, number)
        self._times: list[tuple[int, int]] = []
        self._rows: list[tuple[int, int]] = []
        self._context = av.CodecContext.create(encoding.codec, "w")
        encoding.apply(self._context)
        self._file = self._data.open("wb")

    def add(self, image: Any, pts: int, duration: int) -> None:
        """Encode a frame that is shown at ``pts`` for ``duration``."""
        image.pts = len(self._times)
        image.time_base = self._context.time_base
        image.pict_type = 0
        self._times.append((pts, duration))
        self._take(self._context.encode(image))

    def finish(self) -> None:
        """Write the rest. The segment counts from here on."""
        self._take(self._context.encode(None))
        self._file.close()
        if len(self._rows) != len(self._times):
            raise UserError("the video encoder lost frames; try again, or with another --crf.", "encoder-lost-frames")
        rows = [(*row, *time) for row, time in zip(self._rows, self._times)]
        write_text(self._list, json.dumps(rows))

    def close(self) -> None:
        """Give up, if it was not finished."""
        self._file.close()

    def _take(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            self._file.write(bytes(packet))
            self._rows.append((packet.size, int(packet.is_keyframe)))


def segment_files(folder: Path, number: int) -> tuple[Path, Path]:
    """The list and the data of a segment."""
    return folder / f"{number:06d}.json", folder / f"{number:06d}.h264"


def assemble(
    video: Video,
    segments: Sequence[tuple[Path, Path]],
    encoding: Encoding,
    output: Path,
    container: str,
    tracks: Sequence[Track],
    tags: dict[str, str] | None = None,
) -> None:
    """The whole video: pictures from the segments; tracks as planned, chapters and titles as they are in the original.

    Args:
      video: the original.
      segments: list and data of each, in order.
      encoding: as they were made.
      output: where, under its temporary name.
      container: FFmpeg's name of it.
      tracks: what becomes of sound and subtitles.
      tags: more metadata of the container.
    """
    av = av_package()
    options = {}
    if container in ("mp4", "mov"):
        # When the pictures begin is kept in units of the movie, a millisecond unless told otherwise.
        scale = min(video.time_base.denominator, 2**31 - 1)
        options = {"movflags": "+faststart+use_metadata_tags", "movie_timescale": str(scale)}
    with video.opened() as source, av.open(str(output), "w", format=container, options=options) as out:
        pictures = out.add_stream(encoding.codec, rate=encoding.rate)
        encoding.apply(pictures.codec_context)
        pictures.codec_context.open()
        pictures.time_base = video.time_base
        if video.rotation or video.mirrored:
            degrees = 90 * video.rotation if video.rotation < 3 else -90
            pictures.set_display_rotation(degrees, hflip=video.mirrored)
        carriers = {} if source is None else open_tracks(source, out, tracks)
        if source is not None:
            streams = {video.stream: pictures, **{index: carrier.stream for index, carrier in carriers.items()}}
            keep_descriptions(source, out, streams)
        out.metadata.update(tags or {})
        out.start_encoding()

        def encoded() -> Iterator[tuple[float, Any]]:
            for packet in read_segments(segments):
                packet.stream, packet.time_base = pictures, video.time_base
                yield float(packet.pts * video.time_base), packet

        others = () if source is None else carried(source, carriers, video.start)
        for _, packet in heapq.merge(encoded(), others, key=lambda pair: pair[0]):
            out.mux_one(packet)


def keep_descriptions(source: Any, out: Any, streams: dict[int, Any]) -> None:
    """Titles, chapters, languages and dispositions as in the original; what it says of its own making is left out.

    Args:
      source: the opened original.
      out: the container that is written.
      streams: of the new file, by their index in the original.
    """
    for index, stream in streams.items():
        original = source.streams[index]
        stream.metadata.update({key: value for key, value in original.metadata.items() if key in ("language", "title")})
        stream.disposition = original.disposition
    out.metadata.update({key: value for key, value in source.metadata.items() if key != TAG})
    out.set_chapters(source.chapters())


def assemble_animation(
    video: Animation,
    segments: Sequence[tuple[Path, Path]],
    encoding: Encoding,
    output: Path,
    kind: str,
    xmp: bytes | None,
) -> None:
    """The whole animation out of its segments.

    Args:
      video: the original.
      segments: list and data of each, in order; PNG frames.
      encoding: as they were made.
      output: where, under its temporary name.
      kind: Pillow's name of the format.
      xmp: a packet to embed, UTF-8.
    """
    stills = (
        animation.Still(np.asarray(Image.open(io.BytesIO(bytes(packet))).convert("RGB")), packet.duration)
        for packet in read_segments(segments)
    )
    animation.write_animation(output, stills, kind, animation.repetitions(video.path), xmp, encoding.quality)


def check_animation(video: Video, output: Path) -> None:
    """A UserError where an animation would have to be written of what is none, or of too much."""
    if output.suffix.lower() not in animation.FORMATS:
        return
    if not isinstance(video, Animation):
        container_of(output)  # says so
    pixels = video.width * video.height * video.length
    if pixels > _MOST_STILL or 4 * pixels > max(free_memory() // 2, 2**28):
        raise UserError(
            f"{video.path} has too many pixels for an animation ({video.length} frames of {video.width}×{video.height})"
            "; name an .mp4 as the output.",
            "animation-too-large",
        )


def container_of(output: Path, target: Path | None = None) -> str:
    """FFmpeg's name of the container, or Pillow's of the animation, that a file's ending stands for.

    Args:
      output: the file.
      target: what is swapped; of an animation, animations can be made, too.

    Raises:
      UserError: with the endings there are.
    """
    endings = FORMATS | (animation.FORMATS if target is not None and animation.is_animation(target) else {})
    if output.suffix.lower() not in endings:
        raise UserError(f"{output} does not say which video to write; end it in {', '.join(endings)}.", "video-format")
    return endings[output.suffix.lower()]


def read_segments(segments: Sequence[tuple[Path, Path]]) -> Iterator[Any]:
    """The packets of segments in order, with their times."""
    av = av_package()
    for rows, data in segments:
        with data.open("rb") as file:
            for size, key, pts, duration in json.loads(rows.read_text(encoding="utf-8")):
                packet = av.Packet(file.read(size))
                packet.pts = packet.dts = pts
                packet.duration = duration
                packet.is_keyframe = bool(key)
                yield packet
