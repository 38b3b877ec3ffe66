"""Video files written: segments of encoded frames, and the whole video out of them with everything else copied."""

import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from simswap_jax.errors import UserError
from simswap_jax.inference.options import EncodingOptions
from simswap_jax.io.atomic import write_text
from simswap_jax.video.decode import Video, av_package, reading

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_PRESET = "veryfast"


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded, so that every segment and the whole video agree."""

    width: int
    height: int
    rate: Fraction
    crf: int
    aspect: Fraction
    colours: tuple[int, int, int, int]  # range, matrix, primaries, transfer: FFmpeg's numbers

    @property
    def pixels(self) -> str:
        """Colours at half size as everybody plays it; odd sizes have no half."""
        return "yuv444p" if self.width % 2 or self.height % 2 else "yuv420p"

    def apply(self, context: Any) -> None:
        """Set up an encoder that is not open yet.

        Without B-frames packets stand in the order they are shown, so that any pauses between frames can be kept.
        Headers are apart from the packets, as MP4 wants them.
        """
        av = av_package()
        context.width, context.height, context.pix_fmt = self.width, self.height, self.pixels
        context.time_base, context.framerate = 1 / self.rate, self.rate
        context.sample_aspect_ratio = self.aspect
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = self.colours
        context.options = {"preset": _PRESET, "crf": str(self.crf), "bf": "0"}
        context.flags |= av.codec.context.Flags.global_header


def encoding_for(video: Video, options: EncodingOptions) -> Encoding:
    """The encoding that fits a video."""
    with reading(video.path) as container:
        stream = container.streams[video.stream]
        first = next(container.decode(stream))
        return Encoding(
            width=video.width,
            height=video.height,
            rate=video.rate.limit_denominator(60000),
            crf=options.crf,
            aspect=Fraction(stream.sample_aspect_ratio or 1) or Fraction(1),
            colours=(
                int(first.color_range),
                int(first.colorspace),
                int(first.color_primaries),
                int(first.color_trc),
            ),
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
        self._context = av.CodecContext.create("libx264", "w")
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
    tags: dict[str, str] | None = None,
) -> None:
    """The whole video: pictures from the segments; sound, subtitles, chapters and titles as they are in the original.

    Args:
      video: the original.
      segments: list and data of each, in order.
      encoding: as they were made.
      output: where, under its temporary name.
      container: FFmpeg's name of it.
      tags: more metadata of the container.
    """
    av = av_package()
    options = {}
    if container in ("mp4", "mov"):
        # When the pictures begin is kept in units of the movie, a millisecond unless told otherwise.
        scale = min(video.time_base.denominator, 2**31 - 1)
        options = {"movflags": "+faststart+use_metadata_tags", "movie_timescale": str(scale)}
    with reading(video.path) as source, av.open(str(output), "w", format=container, options=options) as out:
        streams = open_streams(video, source, out, encoding, tags)
        others = [stream for stream in copied_streams(source) if stream.index in streams.copies]

        def encoded() -> Iterator[tuple[float, Any]]:
            for packet in read_segments(segments):
                packet.stream, packet.time_base = streams.pictures, video.time_base
                yield float(packet.pts * video.time_base), packet

        def copied() -> Iterator[tuple[float, Any]]:
            last = 0.0
            for packet in source.demux(others) if others else ():
                if packet.size == 0 and packet.dts is None:
                    continue  # the end of a stream
                last = last if packet.dts is None else float(packet.dts * packet.time_base)
                packet.stream = streams.copies[packet.stream.index]
                yield last, packet

        for _, packet in heapq.merge(encoded(), copied(), key=lambda pair: pair[0]):
            out.mux_one(packet)


@dataclass(frozen=True)
class Streams:
    """The streams of a video that is being written: pictures, and the copy of each other stream by its old index."""

    pictures: Any
    copies: dict[int, Any]


def open_streams(
    video: Video, source: Any, out: Any, encoding: Encoding, tags: dict[str, str] | None = None
) -> Streams:
    """Lay out the streams of the result and write its header."""
    original = source.streams[video.stream]
    pictures = out.add_stream("libx264", rate=encoding.rate)
    encoding.apply(pictures.codec_context)
    pictures.codec_context.open()
    pictures.time_base = video.time_base
    if video.rotation:
        pictures.set_display_rotation(90 * video.rotation if video.rotation < 3 else -90)
    copies = {stream.index: out.add_stream_from_template(stream, opaque=True) for stream in copied_streams(source)}
    for stream, copy in [(original, pictures), *((source.streams[index], copy) for index, copy in copies.items())]:
        copy.metadata.update({key: value for key, value in stream.metadata.items() if key in ("language", "title")})
        copy.disposition = stream.disposition
    out.metadata.update({**source.metadata, **(tags or {})})
    out.set_chapters(source.chapters())
    out.start_encoding()
    return Streams(pictures, copies)


def copied_streams(source: Any) -> list[Any]:
    """The streams that are taken over untouched: sound and subtitles."""
    return [stream for stream in source.streams if stream.type in ("audio", "subtitle")]


def check_container(video: Video, encoding: Encoding, output: Path) -> str:
    """FFmpeg's name of the container that the output's ending stands for.

    Raises:
      UserError: another ending, or one that cannot hold the sound or the subtitles of this video as they are.
    """
    import io

    av = av_package()
    container = container_of(output)
    with reading(video.path) as source:
        try:
            with av.open(io.BytesIO(), "w", format=container) as trial:
                open_streams(video, source, trial, encoding)
        except (av.FFmpegError, ValueError) as error:
            names = sorted(
                {
                    stream.codec_context.name if stream.codec_context else stream.type
                    for stream in copied_streams(source)
                }
            )
            raise UserError(
                f"a {output.suffix} cannot hold the sound or subtitles of {video.path} as they are "
                f"({', '.join(names) or error}); name an .mkv as the output.",
                "container-cannot-hold",
            ) from error
    return container


def container_of(output: Path) -> str:
    """FFmpeg's name of the container that a file's ending stands for, or a UserError with the endings there are."""
    if output.suffix.lower() not in FORMATS:
        raise UserError(f"{output} does not say which video to write; end it in {', '.join(FORMATS)}.", "video-format")
    return FORMATS[output.suffix.lower()]


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
