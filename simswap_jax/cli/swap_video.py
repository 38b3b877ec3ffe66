"""What `simswap-jax swap` does when the target is a video."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.inference.photo import BLENDS, THRESHOLD
from simswap_jax.inference.photo_options import whom
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.io.progress import to_terminal
from simswap_jax.provenance.certificates import Credentials
from simswap_jax.provenance.label_xmp import marks_of_files
from simswap_jax.provenance.writer import refuse_overwriting
from simswap_jax.video.decode import SUFFIXES, av_package
from simswap_jax.video.encode import CRF, video_format
from simswap_jax.video.pipeline import FilmMarks, FilmResult, swap_film


def is_film(path: Path) -> bool:
    """Whether a file's ending says that it is a video."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def add_film_options(parse: argparse.ArgumentParser) -> None:
    """Add the arguments that only videos have."""
    parse.add_argument("--crf", type=int, help=f"quality of a video, 0 (lossless) to 51 (default {CRF})")


def check_film_options(options: argparse.Namespace) -> None:
    """A UserError for what does not go with a video, or only goes with one, before a model is loaded."""
    films = [path for path in options.target if is_film(path)]
    if options.crf is not None and not films:
        raise UserError("--crf is for videos; leave it out, or say --quality.")
    if not films:
        return
    if options.grid or options.aligned:
        raise UserError(f"{films[0]} is a video; leave out {'--grid' if options.grid else '--aligned'}.")
    if options.crf is not None and not 0 <= options.crf <= 51:
        raise UserError(f"--crf is {options.crf}; it goes from 0 (lossless) to 51 (worst).")
    if not 0.0 <= options.strength <= 1.0:
        raise UserError(
            f"--strength is {options.strength}; it goes from 0 (the target's own identity) to 1 (the source's)."
        )
    video_format(options.output)
    if options.output.is_dir():
        raise UserError(f"{options.output} is a folder; name the video to write.")
    av_package()


def swap_video(
    swapper: FaceSwapper, options: argparse.Namespace, faces: Sequence[np.ndarray], credentials: Credentials | None
) -> FilmResult:
    """Sources (aligned faces, one person or one for each --person) on one video → one video."""
    target = options.target[0]
    refuse_overwriting([options.output], [*options.source, target, *(options.person or [])])
    vector, chosen = whom(swapper, options, faces)
    try:
        return swap_film(
            swapper,
            target,
            options.output,
            vector,
            chosen,
            marks=marks_of_files(options.source, [target]),
            threshold=THRESHOLD if options.threshold is None else options.threshold,
            strength=options.strength,
            match_colour=options.match_colour,
            keep=options.keep,
            blend=options.blend or BLENDS[0],
            batch_size=options.batch_size,
            crf=CRF if options.crf is None else options.crf,
            film_marks=FilmMarks(
                visible_label=not options.no_visible_label,
                metadata=not options.no_metadata,
                c2pa=not options.no_c2pa_manifest,
                invisible_mark=not options.no_invisible_mark,
                credentials=credentials,
            ),
            sink=to_terminal,
        )
    except KeyboardInterrupt:
        to_terminal("simswap-jax: stopped; no output was written, and the same command goes on from here.")
        raise


def said(result: FilmResult, who: str, output: Path) -> str:
    """What was done, in a sentence."""
    rate = result.frames / max(result.seconds, 1e-9)
    busiest = max(result.stages, key=lambda name: result.stages[name])
    return (
        f"Swapped {who} ({result.faces} times) in {result.frames} frames into {output} in {result.seconds:.1f} s "
        f"({rate:.1f} frames/s; most work: {busiest})."
    )
