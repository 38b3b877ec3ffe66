"""Face recognition of rendered people: the identity method, trained on people that nobody else is trained on.

Its weights ship in ``contrib/rendered/pretrained/judges/identity`` (they are ours: Apache-2.0). To train it again:
``python -m simswap_jax.contrib.rendered.cli identity-judge --workdir runs/rendered_judge``.
"""

from pathlib import Path

from simswap_jax.contrib.rendered import dataset
from simswap_jax.evaluation.judges.networks import Recogniser, open_recogniser
from simswap_jax.training import identity
from simswap_jax.training.loop import train

FOLDER = Path(__file__).parent / "pretrained" / "judges" / "identity"
PEOPLE_SEED, ATTRIBUTE_SEED = 8_800_001, 8_800_002
PEOPLE, EACH, SIZE = 700, 40, 64


def pretrained() -> Recogniser:
    """The recogniser that ships with the package."""
    return open_recogniser(FOLDER)


def train_judge(workdir: Path) -> None:
    """Render other people, train, and leave the recogniser in ``<workdir>/training/model``."""
    people = workdir / "people"
    if not people.exists():
        who, names = dataset.sample_people(PEOPLE_SEED, PEOPLE), dataset.person_names(PEOPLE)
        dataset.write_people(people, who, names, EACH, ATTRIBUTE_SEED, SIZE)
    config = identity.default_config()
    config.data.root = str(people)
    # Another shape than the network that the demo trains, so that the two do not share their blind spots.
    config.network.widths = (24, 48, 64, 96)
    config.network.margin = 0.3
    config.steps, config.batch_size = 1400, 64
    config.network.margin_ramp = 700
    train(config, workdir / "training")
