"""``simswap-jax prepare``: photos of people → aligned faces, records and identity vectors."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from simswap_jax.cli import command_parser
from simswap_jax.errors import UserError
from simswap_jax.faces.alignment import TEMPLATES
from simswap_jax.preparation.prepare import DETECTOR, PrepareRequest, prepare
from simswap_jax.preparation.sources import FORMATS, Dataset, Settings, dataset, datasets

EPILOG = """\
folders of people:   simswap-jax prepare --photos FOLDER --output prepared --identity mobilefacenet_casia.ckpt --vectors
a flat folder:       simswap-jax prepare --photos FOLDER --names names.csv --output prepared   (lines: file,person)
a public data set:   simswap-jax prepare --dataset vggface2 --photos VGGFace2 --output prepared
what is known of it: simswap-jax prepare --about vggface2

Interrupted at any time, the same command resumes. Then:
  simswap-jax train … --config.data.root=prepared/faces --config.data.cache=prepared/records \\
      --config.data.precompute_embeddings=True
"""
HELP = {
    "size": "side of the faces in pixels",
    "template": "what they are aligned to",
    "format": "of the faces' files",
    "least_picture": "pixels of the shorter side of a photo",
    "least_score": "confidence of the detector",
    "most_enlarged": "times that a face may be enlarged",
    "most_turned": "distance of the landmarks from the template, of the face's side",
    "least_sharpness": "fine detail of a face",
    "rival": "area of the second face over the largest from which a photo is left out",
    "keep_duplicates": "leave the same shot in more than once",
    "wrong_below": "cosine to a person's other photos under which a face is somebody else's (of the network)",
}
MADE = ("size", "template", "format")
# Names that other programs give these flags; the field's own is understood, too.
USUAL = {
    "least_picture": ("min_size",),
    "least_score": ("min_score",),
    "most_enlarged": ("max_upscale",),
    "most_turned": ("max_pose",),
    "least_sharpness": ("min_sharpness",),
    "rival": ("max_second_face",),
    "wrong_below": ("min_similarity",),
}


def main(arguments: Sequence[str]) -> int:
    """Run ``simswap-jax prepare``."""
    options = parser().parse_args(arguments)
    if options.about:
        print(dataset(options.about).about())
        return 0
    prepare(request_of(options))
    return 0


def request_of(options: argparse.Namespace) -> PrepareRequest:
    """What a command line asks for.

    Raises:
      UserError: a folder is missing, a number out of range, or the data set is not known.
    """
    if options.photos is None or options.output is None:
        sentence = "--photos and --output are needed; name the folder of photos and the one to write."
        raise UserError(sentence, "photos-and-output-needed")
    if options.processes < 1 or options.batch_size < 1:
        raise UserError("--processes and --batch-size must be at least 1.", "at-least-one")
    known = dataset(options.dataset) if options.dataset else None
    if known is not None:
        print(known.about())
    photos, names = known.places(options.photos) if known else (options.photos, None)
    return PrepareRequest(
        photos=photos,
        output=options.output,
        names=options.names or names,
        settings=settings_of(options, known),
        detector=options.detector,
        identity=options.identity,
        vectors=options.vectors,
        processes=options.processes,
        batch_size=options.batch_size,
    )


def settings_of(options: argparse.Namespace, known: Dataset | None) -> Settings:
    """The settings: those given, else the data set's, else the usual ones."""
    given = {field.name: getattr(options, field.name) for field in fields(Settings)}
    values = {name: value for name, value in given.items() if value is not None}
    return Settings(**{**(known.settings if known else {}), **values})


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parse = command_parser(
        "prepare", "Photos of people → aligned faces, records and identity vectors for training.", EPILOG
    )
    add = parse.add_argument_group("photos in, faces out").add_argument
    add("--photos", type=Path, metavar="FOLDER", help="<folder>/<person>/<picture>, or any folder with --names")
    add("--names", type=Path, metavar="FILE", help="whose photo each file of the folder is: lines file,person")
    add("--output", type=Path, metavar="FOLDER", help="gets faces, records, lists and the report")
    add("--dataset", metavar="NAME", help=f"a public data set that lies in --photos: {', '.join(datasets())}")
    add("--about", metavar="NAME", help="say what is known of a public data set, and do nothing")
    add = parse.add_argument_group("networks").add_argument
    add("--identity", default="", metavar="NAME", help="identity network that checks names and makes vectors")
    add("--vectors", action="store_true", help="leave identity vectors for training beside the records")
    add("--detector", default=DETECTOR, metavar="FILE", help=f"finds faces (default {DETECTOR})")
    add = parse.add_argument_group("speed").add_argument
    add("--processes", type=int, default=os.cpu_count() or 1, help="that cut out faces (default: one a core)")
    add("--batch-size", type=int, default=64, help="faces at once in the identity network (default 64)")
    add_settings(parse)
    return parse


def add_settings(parse: argparse.ArgumentParser) -> None:
    """A flag for each field of `Settings`: its usual name, then its own."""
    made = parse.add_argument_group("the faces that are made")
    kept = parse.add_argument_group("which photos are left out")
    choices = {"template": tuple(TEMPLATES), "format": FORMATS}
    for field in fields(Settings):
        assert field.default is not MISSING
        add = (made if field.name in MADE else kept).add_argument
        flags = [f"--{name.replace('_', '-')}" for name in (*USUAL.get(field.name, ()), field.name)]
        if field.default is False:
            add(*flags, dest=field.name, action="store_true", default=None, help=HELP[field.name])
            continue
        words = f"{HELP[field.name]} (default {field.default})"
        kind: dict[str, Any] = {"type": type(field.default), "choices": choices.get(field.name)}
        metavar = None if field.name in choices else {int: "N", float: "X", str: "TEXT"}[type(field.default)]
        add(*flags, dest=field.name, default=None, help=words, metavar=metavar, **kind)
