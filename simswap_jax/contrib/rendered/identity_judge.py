"""The recogniser that judges rendered faces: the identity method, trained on people that nobody else sees.

Its weights ship in ``pretrained/rendered_judges/identity`` (they are ours: Apache-2.0). To train it again:
``python -m simswap_jax.contrib.rendered.identity_judge --workdir runs/rendered_judge``.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from simswap_jax.contrib.rendered import dataset
from simswap_jax.evaluation.judges.recognition import Recogniser, open_recogniser
from simswap_jax.training import identity
from simswap_jax.training.loop import train

FOLDER = "pretrained/rendered_judges/identity"
PEOPLE_SEED, ATTRIBUTE_SEED = 8_800_001, 8_800_002
PEOPLE, EACH, SIZE = 700, 40, 64


def pretrained() -> Recogniser:
    """The judge that ships with the package."""
    with resources.as_file(resources.files("simswap_jax").joinpath(FOLDER)) as folder:
        return open_recogniser(folder)


def main(arguments: Sequence[str]) -> int:
    """Render other people, train, and leave the judge in ``<workdir>/training/model``."""
    parse = argparse.ArgumentParser("rendered_judge", description=__doc__)
    parse.add_argument("--workdir", type=Path, required=True)
    workdir = parse.parse_args(arguments).workdir
    people = workdir / "people"
    if not people.exists():
        dataset.write_people(
            people,
            dataset.sample_people(PEOPLE_SEED, PEOPLE),
            dataset.person_names(PEOPLE),
            EACH,
            ATTRIBUTE_SEED,
            SIZE,
        )
    config = identity.default_config()
    config.data.root = str(people)
    # Another shape than the network that the demo trains, so that the two do not share their blind spots.
    config.network.widths = (24, 48, 64, 96)
    config.network.margin = 0.3
    config.steps, config.batch_size = 1400, 64
    config.network.margin_ramp = 700
    train(config, workdir / "training")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
