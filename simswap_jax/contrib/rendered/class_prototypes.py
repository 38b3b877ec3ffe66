"""Class centres that are known and not learned: of rendered people, whose numbers say how they look.

An angular head that learns its centres keeps what tells people apart most cheaply, and that is skin and hair: exchange
two drawn people's brows or mouths and the vectors of such a network move by less than 0.02 (1 − cosine). No swap can
be taught by it to change them. With centres that are the people's own numbers, each number counts by its weight.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simswap_jax.contrib.rendered import dataset
from simswap_jax.errors import UserError

# How much of an identity each number is: standard deviations of the weighted numbers; OTHERS for those not named here.
# Colours, brows and lips can be re-drawn; outlines and cuts of hair can hardly, and a mole or a nose is next to nothing
# in 32×32 pixels.
WEIGHTS = {
    "skin_tone": 3.0,
    "skin_hue": 1.0,
    "brow_colour": 4.0,
    "brow_thickness": 3.0,
    "brow_height": 1.2,
    "brow_arch": 1.2,
    "brow_tilt": 2.0,
    "lip_colour": 7.0,
    "lip_fullness": 3.0,
    "mouth_width": 1.5,
    "mouth_height": 0.8,
    "hair_colour": 2.0,
    "hair_volume": 0.2,
    "hairline": 0.2,
    "hair_slant": 0.2,
    "hair_sides": 0.2,
    "hair_length_amount": 0.2,
    "hair_wave": 0.2,
    "face_width": 0.4,
    "face_length": 0.4,
    "jaw_width": 0.4,
    "ear_size": 0.3,
    "glasses_amount": 0.4,
    "nose_width": 0.3,
    "nose_length": 0.3,
    "mole_amount": 0.1,
    "mole_x": 0.1,
    "mole_y": 0.1,
}
OTHERS = 0.3


def class_prototypes(root: Path, names: Sequence[str], width: int) -> np.ndarray:
    """One centre a person: the weighted numbers, turned into ``width`` dimensions by a fixed rotation.

    Args:
      root: folder of rendered people (``contrib/rendered/dataset.py``).
      names: whose centres, in this order.
      width: of the identity vectors; at least the count of a person's numbers.

    Returns:
      float32 [people, width], of any length.

    Raises:
      UserError: the folder holds no rendered people, or ``width`` is too small.
    """
    if width < dataset.PERSON_SIZE:
        raise UserError(
            f"config.network.embedding is {width}, but known centres need at least {dataset.PERSON_SIZE}; raise it."
        )
    labels = dataset.read_labels(root)
    weights = np.array([WEIGHTS.get(number, OTHERS) for number in dataset.PERSON])
    spread = labels.people - labels.people.mean(axis=0)
    numbers = weights * spread / np.maximum(labels.people.std(axis=0), 1e-6)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(width, len(weights))))
    rows = [labels.names.index(name) for name in names]
    return (numbers[rows] @ turn.T).astype(np.float32)
