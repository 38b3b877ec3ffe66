"""A model on the 102 adults of the Face Research Lab London Set, whose faces may be shown (CC BY 4.0).

    python examples/london_set.py LONDON_CC_BY runs/london --model faces --judge mobileface_v2.onnx

LONDON_CC_BY holds ``<person>/neutral.jpg``, ``<person>/smiling.jpg`` and ``info.csv``. 24 pairs, each of a source
with a neutral face and another person, smiling, as the target, are swapped in whole photos: ``pairs/NN.png`` shows
source, target and result, ``sheet.png`` all of them. With a recogniser every adult becomes the target of ``--each``
others, too, and ``groups.md`` compares groups of people, by what they said of themselves, with 95 % intervals over
people.
"""

import argparse
import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from simswap_jax.evaluation.judges.networks import Recogniser, open_recogniser
from simswap_jax.evaluation.metrics.intervals import estimate
from simswap_jax.inference.example_people import CREDIT
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.io.atomic import write_bytes, write_text
from simswap_jax.io.contact_sheet import contact_sheet
from simswap_jax.io.images import encode_png, read_picture
from simswap_jax.provenance.label_xmp import draw_label
from simswap_jax.weights import registry

PAIRS, IN_A_ROW = 24, 3
Person = dict[str, str]  # a row of info.csv


def read_people(root: Path) -> list[Person]:
    """The rows of ``info.csv`` whose two photos are there."""
    with (root / "info.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if (root / row["face_id"] / "smiling.jpg").is_file()]


def choose_pairs(people: list[Person], count: int) -> list[tuple[Person, Person]]:
    """So many (source, target), no target twice; every group of people in its turn, so that small ones are seen."""
    random = np.random.default_rng(0)
    groups: dict[str, list[Person]] = {}
    for i in random.permutation(len(people)):
        groups.setdefault(people[i]["face_eth"].split("/")[0], []).append(people[i])
    targets: list[Person] = []
    while len(targets) < min(count, len(people)):
        targets += [group.pop() for group in groups.values() if group]
    return [(_another(people, target, random), target) for target in targets[:count]]


def _another(people: list[Person], target: Person, random: np.random.Generator) -> Person:
    """Somebody else of the target's gender, drawn at random."""
    others = [one for one in people if one["face_gender"] == target["face_gender"] and one is not target]
    return others[random.integers(len(others))]


def photo(root: Path, person: Person, expression: str) -> np.ndarray:
    """One of a person's two photos, uint8 RGB."""
    return read_picture(root / person["face_id"] / f"{expression}.jpg")


def draw_pairs(swapper: FaceSwapper, root: Path, pairs: list[tuple[Person, Person]], output: Path) -> None:
    """Swap each pair; write its three photos beside each other, and the sheet of all."""
    tiles = []
    for number, (source, target) in enumerate(pairs):
        before, shown = photo(root, source, "neutral"), photo(root, target, "smiling")
        result = swapper.swap(shown, swapper.identity(before))
        row = [before, shown, draw_label(result)]
        (output / "pairs").mkdir(parents=True, exist_ok=True)
        write_bytes(output / "pairs" / f"{number:02d}.png", encode_png(np.hstack(row)))
        tiles += [tile[::2, ::2] for tile in row]
    rows = [tiles[i : i + 3 * IN_A_ROW] for i in range(0, len(tiles), 3 * IN_A_ROW)]
    sheet = contact_sheet(rows, ["source", "target", "result"] * IN_A_ROW, title=CREDIT, smallest_tile=0)
    write_bytes(output / "sheet.png", encode_png(sheet))


def measure(
    swapper: FaceSwapper, judge: Recogniser, root: Path, people: list[Person], each: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Every adult, smiling, as the target of ``each`` others of the same gender.

    Returns:
      which person each target is, [K]; and by name, [K]: cosine to the source's other photo (``source``) and to the
      target (``target``), and whether the source is the nearest of all people (``retrieval``).
    """
    random, crops = np.random.default_rng(1), {}
    for expression in ("neutral", "smiling"):
        for person in people:
            picture = photo(root, person, expression)
            crops[person["face_id"], expression] = swapper.photos.find_faces(picture)[0].crop(picture)
    neutral = [crops[person["face_id"], "neutral"] for person in people]
    smiling = [crops[person["face_id"], "smiling"] for person in people]
    vectors, known = swapper.identity_vectors(neutral), judge.embed(smiling)
    where = {person["face_id"]: i for i, person in enumerate(people)}
    targets = np.repeat(np.arange(len(people)), each)
    sources = np.array([where[_another(people, people[i], random)["face_id"]] for i in targets])
    results = judge.embed(list(swapper.swap_faces([smiling[i] for i in targets], vectors[sources])))
    cosines = results @ known.T
    rows = np.arange(len(targets))
    return targets, {
        "retrieval": (np.argmax(cosines, axis=1) == sources).astype(float),
        "source": cosines[rows, sources],
        "target": cosines[rows, targets],
    }


def table(people: list[Person], targets: np.ndarray, values: Mapping[str, np.ndarray]) -> str:
    """Groups of targets in Markdown: mean and 95 % interval, resampled by person."""
    lines = [
        "| targets | people | ID retrieval, top-1 | cosine to source | cosine to target |",
        "|---|---|---|---|---|",
    ]
    labels = {"all": np.ones(len(people), bool)}
    for field in ("face_gender", "face_eth"):
        for name in sorted({person[field] for person in people}):
            labels[name.replace("_", " ")] = np.array([person[field] == name for person in people])
    for name, members in labels.items():
        kept = members[targets]
        cells = [estimate(values[key][kept], targets[kept]).text() for key in ("retrieval", "source", "target")]
        lines.append(f"| {name} | {members.sum()} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the arguments; swap, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="faces")
    parser.add_argument("--judge", help="recogniser (.onnx), no part of the training")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--each", type=int, default=5)
    arguments = parser.parse_args()
    people, swapper = read_people(arguments.root), FaceSwapper.from_pretrained(arguments.model)
    draw_pairs(swapper, arguments.root, choose_pairs(people, arguments.pairs), arguments.output)
    if arguments.judge:
        network = registry.find_network(arguments.judge, "evaluating")
        judge = open_recogniser(network, swapper.model.alignment)
        written = table(people, *measure(swapper, judge, arguments.root, people, arguments.each))
        write_text(arguments.output / "groups.md", written)
        print(written)


if __name__ == "__main__":
    main()
