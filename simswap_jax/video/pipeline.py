"""Faces of a film re-drawn: looked at once as a whole, then drawn frame by frame, with everything else as it was.

Two passes. The first finds and follows the faces, so that it is known who is in the film before anything is drawn: the
largest person is the largest of the film and not of a frame, and nobody is mistaken for another where they cross. The
second decodes again, re-draws, marks and encodes. In each the stages work at the same time; neither holds more frames
than its queues. What is done is kept beside the output until the film is whole, so that a run that was stopped goes on.
"""

import os
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.inference import photo
from simswap_jax.inference.parsing import WEIGHTS as PARSING
from simswap_jax.inference.photo import THRESHOLD
from simswap_jax.inference.swapper import BATCH_SIZE, Faces, FaceSwapper
from simswap_jax.io.progress import Progress, Sink
from simswap_jax.provenance import c2pa as c2pa_manifest
from simswap_jax.provenance import writer
from simswap_jax.provenance.certificates import Credentials, local_credentials
from simswap_jax.provenance.label_xmp import Marks, draw_label, xmp_packet
from simswap_jax.provenance.watermark import FRAME_SURE, carries_mark, embed
from simswap_jax.video.assign import Placed, Plan, choose, counted, wants_vectors
from simswap_jax.video.decode import Film, Frame, open_film
from simswap_jax.video.detect import look
from simswap_jax.video.encode import (
    CRF,
    Encoding,
    Segment,
    assemble,
    check_container,
    described,
    encoding_of,
    segment_files,
)
from simswap_jax.video.metadata import TAG, append_xmp, has_manifest, mime_type
from simswap_jax.video.stages import Stages, ordered, threaded
from simswap_jax.video.workdir import SEGMENT, Parts, digest_of, digest_of_file, stamp_of

_IN_HAND = 32_000_000  # pixels of the frames that wait for a batch of faces to fill


@dataclass(frozen=True)
class FilmMarks:
    """Which marks a film gets; as for `images.write_result`."""

    visible_label: bool = True
    metadata: bool = True
    c2pa: bool = True
    invisible_mark: bool = True
    credentials: Credentials | None = None


@dataclass(frozen=True)
class FilmResult:
    """What was done.

    Attributes:
      frames: of the film.
      faces: that were re-drawn, over all frames.
      seconds: that it took, and
      stages: for how long each of its stages worked, in seconds over all threads.
      carried: those of ``images.MARKS`` that the file carries.
    """

    frames: int
    faces: int
    seconds: float
    stages: dict[str, float]
    carried: tuple[str, ...]


@dataclass
class _Drawn:
    """A frame on its way."""

    frame: Frame
    picture: np.ndarray
    placed: list[Placed]
    crops: list[np.ndarray] = field(default_factory=list)
    results: dict[int, np.ndarray] = field(default_factory=dict)


def swap_film(
    swapper: FaceSwapper,
    target: str | Path,
    output: str | Path,
    vector: np.ndarray | None,
    faces: Faces = "largest",
    *,
    marks: Marks,
    threshold: float = THRESHOLD,
    strength: float = 1.0,
    match_colour: bool = False,
    keep: Sequence[str] = (),
    blend: str = photo.BLENDS[0],
    batch_size: int = BATCH_SIZE,
    crf: int = CRF,
    film_marks: FilmMarks = FilmMarks(),
    workers: int | None = None,
    sink: Sink | None = None,
) -> FilmResult:
    """Re-draw faces in a video file and write another.

    Args:
      swapper: with a model of photos.
      target: any video that FFmpeg reads.
      output: an .mp4, .m4v, .mov or .mkv. Pictures become H.264; times, rotation, sound, subtitles, chapters and titles
        stay. Until it is whole, its parts lie beside it in a hidden folder, from which the same call goes on.
      vector, faces, threshold, strength, match_colour, keep, blend, batch_size: as in `FaceSwapper.swap`;
        ``"largest"`` and ``"best"`` name one person of the whole film.
      marks: what the metadata says.
      crf: of x264, 0 to 51: the smaller, the better and the larger.
      film_marks: which marks are left out.
      workers: threads that find faces, cut out and put back; one a core if None.
      sink: is given lines of progress.

    Raises:
      UserError: a broken video, nobody in it, a place that cannot be written; then nothing is left.
      KeyboardInterrupt: stopped; the parts are kept, and no output is there.
    """
    target, output = Path(target), Path(output)
    writer.refuse_overwriting([output], [target])
    if not 0 <= crf <= 51:
        raise UserError(f"the crf is {crf}; it goes from 0 (lossless) to 51 (worst).")
    if not 0.0 <= strength <= 1.0:
        raise UserError(f"strength is {strength}; it goes from 0 (the target's own identity) to 1 (the source's).")
    swapper.check_takes_photos()
    swapper.new_detector()  # its file is there
    started = time.monotonic()
    film = open_film(target)
    encoding = encoding_of(film, crf)
    form = check_container(film, encoding, output)
    parse = swapper.parser(required="front" in keep)
    put_back = partial(photo.put_back, colours=match_colour, keep=keep, blend=blend, parse=parse)
    workers = workers or max(2, min(16, os.cpu_count() or 2))
    parts, stages, model = Parts(output), Stages(), swapper.model
    options = [threshold, strength, match_colour, [*keep], blend, parse is not None, batch_size]
    options += [film_marks.visible_label, film_marks.invisible_mark]
    people = [faces] if isinstance(faces, (str, np.ndarray)) else list(faces)
    who = [one if isinstance(one, str) else digest_of(one) for one in people]
    job = {
        "target": stamp_of(target),
        "marks": [marks.version, *map(list, marks.inputs)],
        "model": digest_of([model.variables, model.identity_variables]),
        "shapes": repr((model.generator, model.face_size, model.alignment, model.identity)),
        "weights": [digest_of_file(name) for name in (swapper.detector_file, *([PARSING] if parse else []))],
        "encoding": described(encoding),
        "source": None if vector is None else digest_of(vector),
        "options": [*options, *who],
    }
    with parts.open(job):
        try:
            seen = look(film, swapper, wants_vectors(faces, strength), parts.look, stages, workers, sink)
            tracks = counted(seen)
            plan = Plan(seen, tracks, choose(tracks, vector, faces, threshold), swapper, strength)
            if not plan.faces:
                raise UserError(
                    "every face of this film is too small or turned too far away; give one that shows it better."
                )
            drawing = _Drawing(swapper, film, encoding, plan, stages, film_marks, put_back, batch_size, workers)
            drawing.run(parts, len(seen.times), sink)
            with stages.clock("put together"):
                segments = [segment_files(parts.folder, number) for number in range(parts.segments())]
                carried = _finish(film, segments, encoding, parts, form, marks, film_marks)
            os.replace(parts.signed, output)
        except UserError:
            parts.discard()
            raise
        except OSError as error:
            parts.discard()
            reason = error.strerror or str(error)
            raise UserError(f"{output} cannot be written ({reason}); choose another place or make room.") from error
        parts.discard()
    return FilmResult(len(seen.times), plan.faces, time.monotonic() - started, dict(stages.seconds), carried)


@dataclass(frozen=True)
class _Drawing:
    """The second pass."""

    swapper: FaceSwapper
    film: Film
    encoding: Encoding
    plan: Plan
    stages: Stages
    marks: FilmMarks
    put_back: Callable[..., np.ndarray]  # photos.put_back, with its options
    batch_size: int
    workers: int

    def run(self, parts: Parts, total: int, sink: Sink | None) -> None:
        """Encode every frame that is not in a segment yet."""
        done = parts.segments() * SEGMENT
        if done >= total:
            return
        progress = Progress(total - done, "frames drawn", sink)
        frames = (frame for frame in self.stages.timed("decode", self.film.frames()) if frame.index >= done)
        segment: Segment | None = None
        with ThreadPoolExecutor(self.workers) as pool, closing(self._drawn(frames, pool)) as drawn:
            try:
                for frame, image in drawn:
                    with self.stages.clock("encode"):
                        if segment is None:
                            segment = Segment(parts.folder, frame.index // SEGMENT, self.encoding)
                        segment.add(image, frame.pts, frame.duration)
                        if (frame.index + 1) % SEGMENT == 0:
                            segment.finish()
                            segment = None
                    progress.add()
                if segment is not None:
                    with self.stages.clock("encode"):
                        segment.finish()
            finally:
                if segment is not None:
                    segment.close()

    def _drawn(self, frames: Iterable[Frame], pool: Executor) -> Generator[tuple[Frame, Any], None, None]:
        """Frames with what is to be encoded of them; decoding and the network each have a thread of their own."""
        ahead = 2 * self.workers
        cut_out = ordered(self._cut_out, threaded(frames, 2), pool, ahead)
        redrawn = threaded(self._redrawn(cut_out), 4)
        return ordered(self._put_back, redrawn, pool, ahead)

    def _cut_out(self, frame: Frame) -> _Drawn:
        with self.stages.clock("cut out"):
            one = _Drawn(frame, self.film.upright(frame.image), self.plan[frame.index])
            one.crops.extend(found.crop(one.picture) for found, vector in one.placed if vector is not None)
            return one

    def _redrawn(self, frames: Generator[_Drawn, None, None]) -> Generator[_Drawn, None, None]:
        """Faces of several frames go through the network together, but never those of two segments.

        So a film that is gone on with has the same batches as one that was never stopped.
        """
        most = max(2, min(self.batch_size, _IN_HAND // (self.film.width * self.film.height)))
        waiting: list[_Drawn] = []
        with closing(frames):
            for one in frames:
                waiting.append(one)
                full = sum(len(other.crops) for other in waiting) >= self.batch_size or len(waiting) >= most
                if full or (one.frame.index + 1) % SEGMENT == 0:
                    yield from self._batch(waiting)
                    waiting = []
            yield from self._batch(waiting)

    def _batch(self, frames: Sequence[_Drawn]) -> Sequence[_Drawn]:
        vectors = [vector for one in frames for _, vector in one.placed if vector is not None]
        crops = [crop for one in frames for crop in one.crops]
        with self.stages.clock("network"):
            results = iter(self.swapper.swap_faces(crops, np.stack(vectors), self.batch_size) if crops else [])
        for one in frames:
            one.results.update({i: next(results) for i, (_, vector) in enumerate(one.placed) if vector is not None})
        return frames

    def _put_back(self, one: _Drawn) -> tuple[Frame, Any]:
        with self.stages.clock("put back"):
            found = [face for face, _ in one.placed]
            picture = self.put_back(one.picture, found, one.results) if found else one.picture
        with self.stages.clock("mark"):
            if self.marks.invisible_mark:
                picture = embed(picture, FRAME_SURE)
            if self.marks.visible_label:
                picture = draw_label(picture)
        with self.stages.clock("put back"):
            return one.frame, self.film.stored(picture, one.frame.image, self.encoding.pixels)


def _finish(
    film: Film,
    segments: Sequence[tuple[Path, Path]],
    encoding: Encoding,
    parts: Parts,
    form: str,
    marks: Marks,
    wanted: FilmMarks,
) -> tuple[str, ...]:
    """The whole film under its temporary name; those of ``images.MARKS`` that it carries."""
    boxed = form in ("mp4", "mov")
    tags = {TAG: xmp_packet(marks).decode()} if wanted.metadata and not boxed else {}
    assemble(film, segments, encoding, parts.whole, form, tags)
    if wanted.metadata and boxed:
        append_xmp(parts.whole, xmp_packet(marks))
    signs = wanted.c2pa and boxed and c2pa_manifest.available()
    here = (
        wanted.visible_label,
        wanted.metadata,
        signs,
        wanted.invisible_mark and carries_mark(film.shape),
    )
    carried = tuple(name for name, there in zip(writer.MARKS, here) if there)
    if not signs:
        os.replace(parts.whole, parts.signed)
        return carried
    others = [name for name in carried if name != writer.MANIFEST]
    kind = mime_type(film.path)
    parent = (film.path, kind) if kind is not None and has_manifest(film.path) else None
    mime = "video/quicktime" if form == "mov" else "video/mp4"
    credentials = wanted.credentials or local_credentials()
    c2pa_manifest.sign_film(parts.whole, parts.signed, mime, marks, credentials, others, parent)
    parts.whole.unlink()
    return carried
