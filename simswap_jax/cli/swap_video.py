"""What `simswap-jax swap` does when the target is a video."""

import argparse
import logging

from simswap_jax.errors import UserError
from simswap_jax.inference.batch import Outcome, SwapRequest, resolve_source
from simswap_jax.inference.options import CRF, EncodingOptions
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.provenance import c2pa
from simswap_jax.provenance.options import MANIFEST
from simswap_jax.provenance.writer import refuse_overwriting
from simswap_jax.video.decode import av_package, is_video
from simswap_jax.video.encode import container_of
from simswap_jax.video.pipeline import VideoResult, swap_video

_log = logging.getLogger(__name__)


def add_video_arguments(parse: argparse.ArgumentParser) -> None:
    """Add the arguments that only videos have."""
    add = parse.add_argument_group("videos").add_argument
    add("--crf", type=int, help=f"quality of a video, 0 (lossless) to 51 (default {CRF})")


def encoding_options(given: argparse.Namespace) -> EncodingOptions:
    """How a video is encoded.

    Raises:
      UserError: a crf out of its range.
    """
    return EncodingOptions(CRF if given.crf is None else given.crf)


def check_video_arguments(given: argparse.Namespace) -> None:
    """A UserError for what does not go with a video, or only goes with one, before a model is loaded."""
    videos = [path for path in given.target if is_video(path)]
    if given.crf is not None and not videos:
        raise UserError("--crf is for videos; leave it out, or say --quality.", "crf-without-video")
    if not videos:
        return
    if given.grid or given.aligned:
        flag = "--grid" if given.grid else "--aligned"
        raise UserError(f"{videos[0]} is a video; leave out {flag}.", "video-arguments")
    container_of(given.output)
    if given.output.is_dir():
        raise UserError(f"{given.output} is a folder; name the video to write.", "output-is-folder")
    av_package()


def run_video(swapper: FaceSwapper, request: SwapRequest, encoding: EncodingOptions, outcome: Outcome) -> str:
    """Sources (one person, or one for each of the people named) on one video → one video; returns what was done."""
    target = request.targets[0]
    refuse_overwriting([request.output], [*request.sources, target, *request.people])
    source, swap = resolve_source(swapper, request)
    try:
        result = swap_video(swapper, target, request.output, source, swap, request.marks, encoding)
    except KeyboardInterrupt:
        _log.warning("simswap-jax: stopped; no output was written, and the same command resumes.")
        raise
    outcome.carried.append(result.carried)
    signed = MANIFEST in result.carried or not request.marks.c2pa or not c2pa.available()
    return _sentence(result, request) + ("" if signed else " C2PA knows no Matroska files: there is no manifest in it.")


def _sentence(result: VideoResult, request: SwapRequest) -> str:
    """What was done."""
    rate = result.frames / max(result.seconds, 1e-9)
    busiest = max(result.stages, key=lambda name: result.stages[name])
    return (
        f"Swapped {request.who()} ({result.faces} times) in {result.frames} frames into {request.output} in "
        f"{result.seconds:.1f} s ({rate:.1f} frames/s; most work: {busiest})."
    )
