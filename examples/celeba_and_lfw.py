"""The people that the experiment faces_112 trains on: CelebA's and LFW's crops in one folder, dark faces more often.

    python examples/celeba_and_lfw.py CELEBA_CROPS LFW_CROPS runs/people

Both hold ``<person>/<picture>``, aligned to `simswap-frontal`. LFW's people come as ``lfw_<person>`` if they have two
pictures or more. Few of 1,833 people have dark skin, and swaps on dark skin were the worst; ``--often 4`` adds every
person whose face is dark in the median picture, by its skin or by its light, four times more. Identities that
faces_112 holds out are the same as without, and none of them is added again.
"""

import argparse
import shutil
from pathlib import Path

import cv2
import numpy as np

from simswap_jax.data.dataset import held_out, list_people
from simswap_jax.errors import UserError
from simswap_jax.experiments import faces_112

DARK = 3.0  # degrees of individual typology angle (Chardon et al. 1991); in good light skin is called brown below 10
HELD_OUT = faces_112.get_config().data.held_out
# Cheeks, bridge of the nose and forehead of a crop: top, bottom, left, right, in 112ths.
SKIN = ((62, 78, 32, 46), (62, 78, 66, 80), (52, 66, 50, 62), (26, 38, 42, 70))


def typology_angle(picture: Path) -> float:
    """The individual typology angle of a face in degrees, atan((L* − 50) / b*): the less, the darker."""
    read = cv2.imread(str(picture), cv2.IMREAD_COLOR)
    if read is None:
        raise SystemExit(f"{picture} is not a picture; take it out.")
    lab = cv2.cvtColor(read.astype(np.float32) / 255.0, cv2.COLOR_BGR2LAB)
    scale = lab.shape[0] / 112
    parts = [
        lab[int(top * scale) : int(bottom * scale), int(left * scale) : int(right * scale)].reshape(-1, 3)
        for top, bottom, left, right in SKIN
    ]
    light, _, yellow = np.median(np.concatenate(parts), axis=0)
    return float(np.degrees(np.arctan2(light - 50.0, max(yellow, 1e-3))))


def gather(celeba: Path, lfw: Path) -> dict[str, list[Path]]:
    """Name → pictures of every person who is taken."""
    people = {name: pictures for name, pictures in list_people(celeba).items() if pictures}
    return people | {f"lfw_{name}": pictures for name, pictures in list_people(lfw).items() if len(pictures) >= 2}


def names_of_copies(person: str, count: int) -> list[str]:
    """So many names for a person who is trained on, none of which is held out."""
    names: list[str] = []
    number = 0
    while len(names) < count:
        names += [name for name in [f"dark{number}_{person}"] if not held_out([name], HELD_OUT)]
        number += 1
    return names


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("celeba", type=Path)
    parser.add_argument("lfw", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--often", type=int, default=4, help="times that dark faces are added again (default 4)")
    args = parser.parse_args()
    if args.output.is_dir() and any(args.output.iterdir()):
        raise SystemExit(f"{args.output} is not empty; name another folder.")
    try:
        people = gather(args.celeba, args.lfw)
    except UserError as error:
        raise SystemExit(str(error)) from error
    dark = [
        name
        for name, pictures in people.items()
        if not held_out([name], HELD_OUT) and np.median([typology_angle(each) for each in pictures]) < DARK
    ]
    for name, pictures in people.items():
        for written in [name, *(names_of_copies(name, args.often) if name in dark else [])]:
            (args.output / written).mkdir(parents=True, exist_ok=True)
            for picture in pictures:
                shutil.copy2(picture, args.output / written / picture.name)
    print(f"{len(people)} people in {args.output}, {len(dark)} of them {1 + args.often} times")


if __name__ == "__main__":
    main()
