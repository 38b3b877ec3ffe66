"""Faces of a video swapped: searched once as a whole, then drawn frame by frame, with everything else as it was.

Two passes. The first detects and tracks the faces, so it is known who is in the video before anything is drawn: the
largest person is the largest of the video and not of a frame, and nobody is mistaken for another where they cross. The
second decodes again, swaps, marks and encodes. In each the stages work at the same time; neither holds more frames
than its queues. What is done is kept beside the output until the video is whole, so that an interrupted run resumes.
"""

import os
import time
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
from simswap_jax.provenance import c2pa
from simswap_jax.provenance.certificates import credentials_here
from simswap_jax.provenance.label_xmp import Provenance, provenance_of, xmp_packet
from simswap_jax.provenance.options import ALL_MARKS, MANIFEST
from simswap_jax.provenance.writer import carried_marks, refuse_overwriting
from simswap_jax.video.assign import assign_identities
from simswap_jax.video.decode import TAG, Video, append_xmp, has_manifest, mime_type, open_video
from simswap_jax.video.detect import track_faces
from simswap_jax.video.encode import Encoding, assemble, check_container, container_of, encoding_for
from simswap_jax.video.stages import Stages
from simswap_jax.video.swap import FrameSwapper
from simswap_jax.video.workdir import VideoWorkdir, digest_of, digest_of_file, digested, stamp_of

WORKERS = max(2, min(16, os.cpu_count() or 2))  # threads that detect, cut out and paste
_BOXED = ("mp4", "mov")  # containers that have places for XMP and C2PA


@dataclass(frozen=True)
class VideoResult:
    """What was done.

    Attributes:
      frames: of the video.
      faces: that were swapped, over all frames.
      seconds: that it took, and
      stages: for how long each of its stages worked, in seconds over all threads.
      carried: those of ``provenance.options.MARKS`` that the file carries.
    """

    frames: int
    faces: int
    seconds: float
    stages: dict[str, float]
    carried: tuple[str, ...]


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
      target: any video that FFmpeg reads.
      output: an .mp4, .m4v, .mov or .mkv. Pictures become H.264; times, rotation, sound, subtitles, chapters and titles
        stay. Until it is whole, its parts lie beside it in a hidden folder, from which the same call resumes.
      source: who gives the identity.
      swap: whom to swap, and how; ``"largest"`` and ``"best"`` name one person of the whole video.
      marks: which marks it gets.
      encoding: of its pictures.

    Raises:
      UserError: a broken video, nobody in it, a place that cannot be written; then nothing is left.
      KeyboardInterrupt: stopped; the parts are kept, and no output is there.
    """
    target, output = Path(target), Path(output)
    refuse_overwriting([output], [target, *source.files])
    swapper.photos.check_takes_photos()
    swapper.photos.new_detector()  # its file is there
    started, stages = time.monotonic(), Stages()

    video = open_video(target)
    codec = encoding_for(video, encoding)
    check_container(video, codec, output)
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
        with stages.clock("put together"):
            carried = put_together(video, codec, workdir, made_of, marks)
        os.replace(workdir.signed, output)
    return VideoResult(len(detections.times), plan.faces, time.monotonic() - started, dict(stages.seconds), carried)


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
        "model": digest_of([model.variables, model.identity_variables]),
        "shapes": repr((model.generator, model.face_size, model.alignment, model.identity)),
        "weights": [digest_of_file(name) for name in weights],
        "source": digested(source.vector),
        "options": [
            {name: digested(value) for name, value in asdict(each).items() if name != "credentials"} for each in options
        ],
    }


def put_together(
    video: Video, encoding: Encoding, workdir: VideoWorkdir, made_of: Provenance, marks: MarkOptions
) -> tuple[str, ...]:
    """The whole video under its temporary name, with XMP and manifest; those of ``MARKS`` that it carries."""
    container = container_of(workdir.output)
    boxed = container in _BOXED
    packet = xmp_packet(made_of) if marks.xmp else b""
    tags = {TAG: packet.decode()} if packet and not boxed else {}
    assemble(video, workdir.segments(), encoding, workdir.whole, container, tags)
    if packet and boxed:
        append_xmp(workdir.whole, packet)
    credentials = (marks.credentials or credentials_here()) if marks.c2pa and boxed and c2pa.available() else None
    carried = carried_marks(marks, video.shape, credentials is not None)
    if credentials is None:
        os.replace(workdir.whole, workdir.signed)
        return carried
    others = [name for name in carried if name != MANIFEST]
    kind = mime_type(video.path)
    parent = (video.path, kind) if kind is not None and has_manifest(video.path) else None
    mime = "video/quicktime" if container == "mov" else "video/mp4"
    c2pa.sign_video(workdir.whole, workdir.signed, mime, made_of, credentials, others, parent)
    workdir.whole.unlink()
    return carried
