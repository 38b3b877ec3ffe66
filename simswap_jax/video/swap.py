"""The second pass over a video: every frame cut out, swapped, pasted back, marked and encoded."""

import logging
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simswap_jax.inference.options import MarkOptions, SwapOptions
from simswap_jax.inference.photo import Parse, put_back
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.io.progress import Progress
from simswap_jax.provenance.label_xmp import draw_label
from simswap_jax.provenance.watermark import FRAME_SURE, embed
from simswap_jax.video.assign import FramePlan, PlacedFace
from simswap_jax.video.decode import Frame, Video
from simswap_jax.video.encode import Encoding, Segment
from simswap_jax.video.stages import Stages, ordered, threaded
from simswap_jax.video.workdir import VideoWorkdir

SEGMENT = 120  # frames; what a kill loses
_IN_HAND = 32_000_000  # pixels of the frames that wait for a batch of faces to fill

_log = logging.getLogger(__name__)


@dataclass
class _FrameJob:
    """A frame on its way."""

    frame: Frame
    picture: np.ndarray
    placed: list[PlacedFace]
    crops: list[np.ndarray] = field(default_factory=list)
    results: dict[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class FrameSwapper:
    """Swaps the frames of a video, several stages at a time.

    Attributes:
      swapper: the model.
      video: the original.
      encoding: of the result.
      plan: which faces of a frame are swapped.
      options: how they are drawn and pasted.
      marks: the label and the watermark go into the pixels here.
      parse: face parsing, if it is there.
      stages: counts the work of each.
      workers: threads that cut out and paste.
    """

    swapper: FaceSwapper
    video: Video
    encoding: Encoding
    plan: FramePlan
    options: SwapOptions
    marks: MarkOptions
    parse: Parse | None
    stages: Stages
    workers: int

    def run(self, workdir: VideoWorkdir, total: int) -> None:
        """Encode every frame that is not in a segment yet."""
        done = len(workdir.segments()) * SEGMENT
        if done >= total:
            return
        progress = Progress(total - done, "frames drawn", _log.info)
        frames = (frame for frame in self.stages.timed("decode", self.video.frames()) if frame.index >= done)
        segment: Segment | None = None
        with ThreadPoolExecutor(self.workers) as pool, closing(self._swapped(frames, pool)) as swapped:
            try:
                for frame, image in swapped:
                    with self.stages.clock("encode"):
                        segment = segment or Segment(workdir.folder, frame.index // SEGMENT, self.encoding)
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

    def _swapped(self, frames: Iterable[Frame], pool: Executor) -> Generator[tuple[Frame, Any], None, None]:
        """Frames with what is to be encoded of them; decoding and the network each have a thread of their own."""
        ahead = 2 * self.workers
        cut_out = ordered(self._cut_out, threaded(frames, 2), pool, ahead)
        generated = threaded(self._generated(cut_out), 4)
        return ordered(self._finish, generated, pool, ahead)

    def _cut_out(self, frame: Frame) -> _FrameJob:
        with self.stages.clock("cut out"):
            one = _FrameJob(frame, self.video.upright(frame.image), self.plan[frame.index])
            one.crops.extend(found.crop(one.picture) for found, vector in one.placed if vector is not None)
            return one

    def _generated(self, frames: Generator[_FrameJob, None, None]) -> Generator[_FrameJob, None, None]:
        """Faces of several frames go through the network together, but never those of two segments.

        So a video that is resumed has the same batches as one that was never stopped.
        """
        most = max(2, min(self.options.batch_size, _IN_HAND // (self.video.width * self.video.height)))
        waiting: list[_FrameJob] = []
        with closing(frames):
            for one in frames:
                waiting.append(one)
                faces = sum(len(other.crops) for other in waiting)
                full = faces >= self.options.batch_size or len(waiting) >= most
                if full or (one.frame.index + 1) % SEGMENT == 0:
                    yield from self._batch(waiting)
                    waiting = []
            yield from self._batch(waiting)

    def _batch(self, frames: Sequence[_FrameJob]) -> Sequence[_FrameJob]:
        vectors = [vector for one in frames for _, vector in one.placed if vector is not None]
        crops = [crop for one in frames for crop in one.crops]
        with self.stages.clock("network"):
            # At full strength: the plan has mixed each track's own identity in already.
            results = iter(self.swapper.swap_faces(crops, np.stack(vectors), self.options.batch_size) if crops else [])
        for one in frames:
            one.results.update({i: next(results) for i, (_, vector) in enumerate(one.placed) if vector is not None})
        return frames

    def _finish(self, one: _FrameJob) -> tuple[Frame, Any]:
        with self.stages.clock("put back"):
            found = [face for face, _ in one.placed]
            crops = dict(zip(sorted(one.results), one.crops))
            picture = one.picture
            if found:
                picture = put_back(picture, found, one.results, self.options, self.parse, crops)
        with self.stages.clock("mark"):
            if self.marks.watermark:
                picture = embed(picture, FRAME_SURE)
            if self.marks.label:
                picture = draw_label(picture)
        with self.stages.clock("put back"):
            return one.frame, self.video.stored(picture, one.frame.image, self.encoding.pixels)
