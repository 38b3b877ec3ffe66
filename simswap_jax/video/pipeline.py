"""Faces of a video swapped: searched once as a whole, then drawn frame by frame, with everything else as it was.

Two passes. The first detects and tracks the faces, so it is known who is in the video before anything is drawn: the
largest person is the largest of the video and not of a frame, and nobody is mistaken for another where they cross. The
second decodes again, swaps, marks and encodes. In each the stages work at the same time; neither holds more frames
than its queues. What is done is kept beside the output until the video is whole, so that an interrupted run resumes.
"""

import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from simswap_jax.inference.options import (
    DEFAULT_ENCODING,
    DEFAULT_SWAP,
    EncodingOptions,
    MarkOptions,
    Source,
    SwapOptions,
)
from simswap_jax.inference.parsing import WEIGHTS as PARSING
from simswap_jax.inference.selection import needs_vectors
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.io.animation import MIME
from simswap_jax.io.atomic import arrays_sha256
from simswap_jax.provenance import c2pa
from simswap_jax.provenance.certificates import Credentials, credentials_here
from simswap_jax.provenance.label_xmp import Provenance, provenance_of, xmp_packet
from simswap_jax.provenance.options import ALL_MARKS, MANIFEST
from simswap_jax.provenance.writer import carried_marks, refuse_overwriting
from simswap_jax.video.assign import assign_identities
from simswap_jax.video.decode import TAG, Animation, Video, append_xmp, has_manifest, mime_type, open_video
from simswap_jax.video.detect import track_faces
from simswap_jax.video.encode import (
    HEVC,
    PNG,
    Encoding,
    assemble,
    assemble_animation,
    check_animation,
    container_of,
    encoding_for,
)
from simswap_jax.video.stages import Stages
from simswap_jax.video.swap import FrameSwapper
from simswap_jax.video.tracks import COPY, Track, tracks_of
from simswap_jax.video.workdir import VideoWorkdir, digest_of_file, digested, stamp_of

WORKERS = max(2, min(16, os.cpu_count() or 2))  # threads that detect, cut out and paste
_BOXED = ("mp4", "mov")  # containers that have places for XMP and C2PA
_LARGE = 2  # times the original's size

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoResult:
    """What was done.

    Attributes:
      frames: of the video.
      faces: that were swapped, over all frames.
      seconds: that it took, and
      stages: for how long each of its stages worked, in seconds over all threads.
      carried: those of ``provenance.options.MARKS`` that the file carries.
      notes: sentences about what is not as in the original, for people to read.
    """

    frames: int
    faces: int
    seconds: float
    stages: dict[str, float]
    carried: tuple[str, ...]
    notes: tuple[str, ...] = ()


def swap_video(
    swapper: FaceSwapper,
    target: str | Path,
    output: str | Path,
    source: Source,
    swap: SwapOptions = DEFAULT_SWAP,
    marks: MarkOptions = ALL_MARKS,
    encoding: EncodingOptions = DEFAULT_ENCODING,
) -> VideoResult:
    """Swap faces in a video file and write another.

    Args:
      swapper: with a model of photos.
      target: any video that FFmpeg reads, or an animation (GIF, WebP, APNG).
      output: an .mp4, .m4v, .mov or .mkv; of an animation also a .gif, .webp or .png. Pictures become H.264, those of
        HDR 10-bit HEVC; times, rotation, sound, subtitles, chapters and titles stay. Until it is whole, its parts lie
        beside it in a hidden folder, from which the same call resumes.
      source: who gives the identity.
      swap: whom to swap, and how; ``"largest"`` and ``"best"`` name one person of the whole video.
      marks: which marks it gets.
      encoding: of its pictures.

    Raises:
      UserError: a broken video, nobody in it, a place that cannot be written; then nothing is left. What is only
        damaged, or not as in the original, is logged and stands in the result's ``notes``.
      KeyboardInterrupt: stopped; the parts are kept, and no output is there.
    """
    target, output = Path(target), Path(output)
    refuse_overwriting([output], [target, *source.files])
    swapper.photos.check_takes_photos()
    swapper.photos.new_detector()  # its file is there
    started, stages = time.monotonic(), Stages()

    video = open_video(target)
    check_animation(video, output)
    codec = encoding_for(video, encoding, output)
    container = container_of(output, target)
    tracks = tracks_of(video, container) if codec.codec != PNG else ()
    notes = said(changes(video, codec, tracks, output))
    parse = swapper.photos.parser(required=swap.needs_parsing)
    made_of = provenance_of(source.files, [target])
    job = fingerprint(swapper, target, source, made_of, (swap, marks, encoding))

    workdir = VideoWorkdir(output)
    with workdir.open(job), workdir.cleared():
        embed = needs_vectors(swap, video=True)
        detections = track_faces(video, swapper, embed, workdir.detections, stages, WORKERS)
        plan = assign_identities(detections, swapper, source.vector, swap)
        FrameSwapper(swapper, video, codec, plan, swap, marks, parse, stages, WORKERS).run(
            workdir, len(detections.times)
        )
        notes += said(damages(video, detections.damaged, len(detections.times)))
        with stages.clock("put together"):
            carried = Assembly(video, codec, container, tracks, marks, made_of).write(workdir)
        os.replace(workdir.signed, output)
    notes += said(growth(video, codec, output)) if marks.watermark else ()
    seconds = time.monotonic() - started
    return VideoResult(len(detections.times), plan.faces, seconds, dict(stages.seconds), carried, notes)


def said(notes: Iterable[str]) -> tuple[str, ...]:
    """The same, after people were told."""
    notes = tuple(notes)
    for note in notes:
        _log.warning("simswap-jax: %s", note)
    return notes


def changes(video: Video, encoding: Encoding, tracks: Sequence[Track], output: Path) -> Iterator[str]:
    """A sentence about each thing that is not as in the original."""
    name, colours = video.path.name, video.colours
    if (encoding.width, encoding.height) != (video.width, video.height):
        yield (
            f"{name} is {video.width}×{video.height}; the result is {encoding.width}×{encoding.height}, its last row "
            "or column doubled, because players want even sizes."
        )
    if encoding.codec == HEVC:
        yield f"{name} is {colours.name}; the result is too, 10-bit HEVC" + (
            f" (the original has {colours.depth} bits)." if colours.depth > 10 else "."
        )
    elif colours.depth > 8:
        yield f"{name} has {colours.depth} bits a colour; the result has 8, as everybody plays them."
    if video.alpha:
        yield f"{name} has an alpha channel; the result has none."
    for track in tracks:
        if track.action != COPY:
            yield f"{name}: {track.note(output.suffix)}."


def damages(video: Video, damaged: int, frames: int) -> Iterator[str]:
    """A sentence where frames of a video are damaged."""
    if damaged:
        name = video.path.name
        yield f"{damaged} of {frames} frames of {name} are damaged; they are in the result as they were read."


def growth(video: Video, encoding: Encoding, output: Path) -> Iterator[str]:
    """A sentence where a watermarked video has become much larger than the original."""
    times = output.stat().st_size / video.path.stat().st_size
    if times > _LARGE and encoding.codec != PNG:
        yield (
            f"{output.name} is {times:.1f} times as large as {video.path.name}: the crf of {encoding.crf} and the "
            "invisible watermark, which is new in every frame, take room; a higher --crf or --no-watermark saves it."
        )


def fingerprint(
    swapper: FaceSwapper, target: Path, source: Source, made_of: Provenance, options: tuple[Any, ...]
) -> dict[str, Any]:
    """Everything that a video's result depends on, for JSON: by it a run knows the parts that it may resume from.

    Args:
      swapper: the model, and what finds faces.
      target: the video.
      source: who gives the identity.
      made_of: by what version, of which files.
      options: dataclasses; all their fields count, but for what signs.
    """
    model, weights = swapper.model, (swapper.photos.detector_file, PARSING)
    return {
        "target": stamp_of(target),
        "provenance": [made_of.version, *map(list, made_of.inputs)],
        "model": arrays_sha256([model.variables, model.identity_variables]),
        "shapes": repr((model.generator, model.face_size, model.alignment, model.identity)),
        "weights": [digest_of_file(name) for name in weights],
        "source": digested(source.vector),
        "options": [
            {name: digested(value) for name, value in asdict(each).items() if name != "credentials"} for each in options
        ],
    }


@dataclass(frozen=True)
class Assembly:
    """The whole video or animation out of its segments, with its marks.

    Attributes:
      video: the original.
      encoding: of the segments.
      container: FFmpeg's name of it, or Pillow's of an animation.
      tracks: what becomes of sound and subtitles.
      marks: which marks it gets.
      made_of: what they say.
    """

    video: Video
    encoding: Encoding
    container: str
    tracks: Sequence[Track]
    marks: MarkOptions
    made_of: Provenance

    def write(self, workdir: VideoWorkdir) -> tuple[str, ...]:
        """Write it under its temporary name; returns those of ``MARKS`` that it carries."""
        packet = xmp_packet(self.made_of) if self.marks.xmp else None
        if isinstance(self.video, Animation) and self.encoding.codec == PNG:
            segments = workdir.segments()
            assemble_animation(self.video, segments, self.encoding, workdir.whole, self.container, packet)
        else:
            self._put_together(workdir, packet)
        signs = self.marks.c2pa and self.container != "matroska" and c2pa.available()
        credentials = (self.marks.credentials or credentials_here()) if signs else None
        carried = carried_marks(self.marks, self.video.shape, credentials is not None)
        if credentials is None:
            os.replace(workdir.whole, workdir.signed)
        else:
            self._sign(workdir, credentials, [name for name in carried if name != MANIFEST])
        return carried

    def _put_together(self, workdir: VideoWorkdir, packet: bytes | None) -> None:
        boxed = self.container in _BOXED
        tags = {TAG: packet.decode()} if packet and not boxed else {}
        segments = workdir.segments()
        assemble(self.video, segments, self.encoding, workdir.whole, self.container, self.tracks, tags)
        if packet and boxed:
            append_xmp(workdir.whole, packet)

    def _sign(self, workdir: VideoWorkdir, credentials: Credentials, others: Sequence[str]) -> None:
        kind = mime_type(self.video.path)
        parent = (self.video.path, kind) if kind is not None and has_manifest(self.video.path) else None
        if self.encoding.codec == PNG:
            mime = MIME[self.container]
        else:
            mime = "video/quicktime" if self.container == "mov" else "video/mp4"
        c2pa.sign_video(workdir.whole, workdir.signed, mime, self.made_of, credentials, others, parent)
        workdir.whole.unlink()
