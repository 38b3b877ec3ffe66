"""What `simswap-jax swap` is told about whole photos: whose faces, by which pictures, how alike."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.inference.photo import BLENDS, CHOICES, KEEP, THRESHOLD
from simswap_jax.inference.swapper import DETECTOR, LEAST_ALIKE, Faces, FaceSwapper
from simswap_jax.io.images import read_picture


def add_options(parse: argparse.ArgumentParser) -> None:
    """Add the arguments that only photos have; None where they are not given."""
    add = parse.add_argument
    add("--faces", choices=CHOICES, help="which faces of a photo (default largest; best: the most confident)")
    add(
        "--person",
        type=Path,
        nargs="+",
        metavar="PHOTO",
        help="only the person of this photo; of several, each gets the source in the same place",
    )
    add("--threshold", type=float, help=f"cosine from which a face is a --person (default {THRESHOLD})")
    add("--match-colour", action="store_true", help="give results the colours of the faces that they replace")
    add("--keep", nargs="+", choices=KEEP, default=[], help="of the target: its mouth, hairline, what is in front")
    add("--blend", choices=BLENDS, help="how results go into the photo (default feather)")
    add("--detector", metavar="FILE", help=f"YuNet or an SCRFD with landmarks, in ONNX (default {DETECTOR})")


def check_options(options: argparse.Namespace) -> None:
    """A UserError for arguments that do not go together, before a model is loaded."""
    given = {
        "--faces": options.faces is not None,
        "--person": options.person is not None,
        "--threshold": options.threshold is not None,
        "--match-colour": options.match_colour,
        "--keep": bool(options.keep),
        "--blend": options.blend is not None,
        "--detector": options.detector is not None,
    }
    for name in (name for name, here in given.items() if here):
        if options.aligned or options.grid:
            raise UserError(
                f"{name} is for whole photos; leave it out with {'--aligned' if options.aligned else '--grid'}."
            )
    if options.person is None:
        if options.threshold is not None:
            raise UserError("--threshold says how alike a --person must be; name one.")
        return
    if options.faces is not None:
        raise UserError("--faces and --person both say whom to swap; give one of the two.")
    for path in options.person:
        if not path.is_file():
            raise UserError(f"there is no picture {path}; --person takes photos.")
    people, sources = len(options.person), len(options.source)
    if people > 1 and (people != sources or any(path.is_dir() for path in options.source)):
        raise UserError(f"there are {people} people and {sources} sources; name one source picture for each --person.")


def naming(path: Path, action: Callable[[], np.ndarray]) -> np.ndarray:
    """What ``action`` gives; the sentence of its UserError begins with the file."""
    try:
        return action()
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def face_in(swapper: FaceSwapper, path: Path, role: str) -> np.ndarray:
    """The largest face of a photo file, aligned as the model wants it, or a UserError that names the file."""
    photo = read_picture(path)
    return naming(path, lambda: swapper.largest_face(photo, role))


def whom(
    swapper: FaceSwapper, options: argparse.Namespace, faces: Sequence[np.ndarray]
) -> tuple[np.ndarray | None, Faces]:
    """The ``vector`` and ``faces`` of `FaceSwapper.swap`, from the arguments and the sources' aligned faces."""
    if options.person is None:
        return source_vector(swapper, options.source, faces), options.faces or CHOICES[0]
    people = swapper.identity_vectors([face_in(swapper, path, "person") for path in options.person])
    if len(people) == 1:
        return source_vector(swapper, options.source, faces), people[0]
    return None, list(zip(people, swapper.identity_vectors(faces)))


def source_vector(swapper: FaceSwapper, paths: Sequence[Path], faces: Sequence[np.ndarray]) -> np.ndarray:
    """The identity of one person's source faces, averaged; those of somebody else are named and left out."""
    vector, cosines = swapper.one_identity(faces)
    for path, cosine in zip(paths, cosines):
        if cosine < LEAST_ALIKE:
            print(
                f"simswap-jax: left out: {path} shows somebody else than the other sources (cosine {cosine:.2f}).",
                file=sys.stderr,
            )
    return vector


def redraw_photo(
    swapper: FaceSwapper, options: argparse.Namespace, path: Path, vector: np.ndarray | None, faces: Faces
) -> np.ndarray:
    """A photo file with its faces re-drawn, uint8 RGB [H, W, 3], or a UserError that names the file."""
    photo = read_picture(path)
    return naming(
        path,
        lambda: swapper.swap(
            photo,
            vector,
            faces,
            threshold=THRESHOLD if options.threshold is None else options.threshold,
            strength=options.strength,
            match_colour=options.match_colour,
            keep=options.keep,
            blend=options.blend or BLENDS[0],
            batch_size=options.batch_size,
        ),
    )
