"""Sound and subtitles of a video: copied where the new container takes them, else converted, else left out and said."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from simswap_jax.errors import UserError
from simswap_jax.video.decode import Video, av_package

COPY, CONVERT, DROP = "copy", "convert", "drop"
TEXT = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip"}  # subtitles that a container takes
SOUND = "aac"  # that every container takes
_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)  # of AAC
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
_BITS = 96_000  # a second and channel
_WORDS = {"audio": "sound", "subtitle": "subtitles"}
_STYLES = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""  # white on the picture's lower edge, as FFmpeg's encoders of subtitles want to be told


@dataclass(frozen=True)
class Track:
    """A sound or subtitle track, and what becomes of it.

    Attributes:
      index: of the stream in the original.
      kind: ``"audio"`` or ``"subtitle"``.
      codec: FFmpeg's name of how it is written; "unknown" where FFmpeg does not know.
      action: ``COPY``, ``CONVERT`` or ``DROP``.
      target: FFmpeg's name of what it is converted to.
    """

    index: int
    kind: str
    codec: str
    action: str
    target: str = ""

    def note(self, ending: str) -> str:
        """A sentence about it, where it is not copied."""
        what = f"track {self.index} ({_WORDS[self.kind]}, {self.codec})"
        if self.action == CONVERT:
            return f"its {what} cannot be copied into a {ending}; it is converted to {self.target}"
        return f"its {what} can be neither copied nor converted into a {ending}; it is left out"


def plan_tracks(source: Any, container: str) -> tuple[Track, ...]:
    """What becomes of each sound and subtitle track of an opened video in a container of FFmpeg's name."""
    tracks = []
    for stream in source.streams:
        if stream.type not in _WORDS:
            continue
        codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
        target = _converted(stream, container)
        action = COPY if _fits(stream, container) else CONVERT if target else DROP
        tracks.append(Track(stream.index, stream.type, codec, action, target if action == CONVERT else ""))
    return tuple(tracks)


def _fits(stream: Any, container: str) -> bool:
    """Whether a container takes a stream as it is, tried with one that holds nothing else."""
    av = av_package()
    if stream.codec_context is None:
        return False
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _converted(stream: Any, container: str) -> str:
    """What a stream can be converted to for a container; empty: nothing."""
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    if stream.codec_context is None:
        return ""
    try:
        decoder = Codec(stream.codec_context.name, "r")
    except UnknownCodecError:
        return ""
    if stream.type == "audio":
        return SOUND
    return TEXT[container] if decoder.text_sub else ""


class Copy:
    """Packets of a track that go over untouched."""

    def __init__(self, stream: Any, out: Any) -> None:
        self.stream = out.add_stream_from_template(stream, opaque=True)

    def packets(self, packet: Any) -> Iterator[Any]:
        """What a packet of the original becomes."""
        if packet.size or packet.dts is not None:  # else it is the end of the stream
            packet.stream = self.stream
            yield packet


class Sound:
    """A sound track decoded and encoded again."""

    def __init__(self, stream: Any, out: Any) -> None:
        given = stream.codec_context
        rate = next((rate for rate in _RATES if rate <= given.sample_rate), _RATES[-1])
        layout = _LAYOUTS.get(given.layout.nb_channels, "stereo")
        self.stream = out.add_stream(SOUND, rate=rate, layout=layout)
        self.stream.codec_context.bit_rate = _BITS * self.stream.codec_context.layout.nb_channels

    def packets(self, packet: Any) -> Iterator[Any]:
        """What a packet of the original becomes; one that is broken is silence."""
        av = av_package()
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            frames = []
        for frame in frames:
            yield from self.stream.encode(frame)
        if not packet.size:  # the end of the stream
            yield from self.stream.encode(None)


class Words:
    """Text subtitles converted from one format to another; words and times stay."""

    def __init__(self, stream: Any, out: Any, target: str) -> None:
        self.stream = out.add_stream(target)
        self.stream.time_base = self.stream.codec_context.time_base = Fraction(1, 1000)
        self.stream.codec_context.subtitle_header = _STYLES
        self._boxed = target == "mov_text"

    def packets(self, packet: Any) -> Iterator[Any]:
        """What a packet of the original becomes."""
        av = av_package()
        if not packet.size or packet.pts is None:
            return
        try:
            shown = packet.decode()
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            return
        text = b"\n".join(line for each in shown if (line := each.dialogue.strip())).replace(b"\\N", b"\n")
        if text:
            made = av.Packet(len(text).to_bytes(2, "big") + text if self._boxed else text)
            made.pts = made.dts = packet.pts
            made.duration, made.time_base, made.stream = packet.duration or 0, packet.time_base, self.stream
            yield made


def open_tracks(source: Any, out: Any, tracks: Sequence[Track]) -> dict[int, Copy | Sound | Words]:
    """What carries over each track that is not left out, by its index in the original; adds their streams."""
    carriers: dict[int, Copy | Sound | Words] = {}
    for track in tracks:
        stream = source.streams[track.index]
        if track.action == COPY:
            carriers[track.index] = Copy(stream, out)
        elif track.action == CONVERT:
            carriers[track.index] = Sound(stream, out) if track.kind == "audio" else Words(stream, out, track.target)
    return carriers


def carried(source: Any, carriers: dict[int, Copy | Sound | Words], start: Fraction) -> Iterator[tuple[float, Any]]:
    """The packets of the tracks as they go into the new file, each with the second at which it belongs there.

    Args:
      source: the opened original.
      carriers: of its tracks.
      start: `Video.start`, from which times count.
    """
    last = 0.0
    for packet in source.demux([source.streams[index] for index in carriers]) if carriers else ():
        if start:
            shift = round(start / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
        last = last if packet.dts is None else float(packet.dts * packet.time_base)
        for made in carriers[packet.stream.index].packets(packet):
            yield last, made


def tracks_of(video: Video, container: str) -> tuple[Track, ...]:
    """What becomes of the tracks of a video file in a container of FFmpeg's name, tried before anything is drawn.

    Raises:
      UserError: they cannot stand together in it.
    """
    av = av_package()
    with video.opened() as source:
        tracks = () if source is None else plan_tracks(source, container)
        if any(track.action != DROP for track in tracks):
            try:
                with av.open(io.BytesIO(), "w", format=container) as trial:
                    open_tracks(source, trial, tracks)
                    trial.start_encoding()
            except (av.FFmpegError, ValueError) as error:
                names = ", ".join(track.codec for track in tracks)
                raise UserError(
                    f"the sound or subtitles of {video.path} ({names}) cannot be written as {container} ({error}); "
                    "name an .mkv as the output, or convert them with another program first.",
                    "container-cannot-hold",
                ) from error
    return tracks
