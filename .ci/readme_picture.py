"""The README's picture: example people swapped by the model that ships. `python .ci/readme_picture.py` draws it again.

Run it when the shipped model changes, and look at what comes out.
"""

from pathlib import Path

from simswap_jax.inference import example_people
from simswap_jax.inference.swapper import DEFAULT_MODEL, PRETRAINED, FaceSwapper
from simswap_jax.io.contact_sheet import contact_sheet
from simswap_jax.io.images import resized
from simswap_jax.provenance.label_xmp import draw_label
from simswap_jax.provenance.writer import write_sheet
from simswap_jax.weights import model_folder

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "real_faces.jpg"
SIDE = 224
ROWS = (((7, 8), (3, 9)), ((2, 4), (9, 3)))  # (source, target), numbers of the example people; two triples a row
FACE = (slice(40, 250), slice(55, 265))  # of their photos


def main() -> None:
    """Write source, target and result of four swaps, with all marks."""
    swapper = FaceSwapper(model_folder.read(PRETRAINED / DEFAULT_MODEL, with_identity=False))
    people = example_people.read_people(swapper.model)
    rows = []
    for triples in ROWS:
        row = []
        for source, target in triples:
            photo = people[target].smiling
            result = example_people.swap(swapper, people[source], photo)
            pictures = (people[source].neutral.read(), photo.read(), result)
            shown = [resized(picture[FACE], SIDE) for picture in pictures]
            row += [*shown[:2], draw_label(shown[2])]
        rows.append(row)
    write_sheet(PICTURE, contact_sheet(rows, ["source", "target", "result"] * 2))


if __name__ == "__main__":
    main()
