"""Rendered faces with known identity and attributes: the embedded data set.

A person is a vector, a picture's attributes another (both are named in `face_parameters`), so the ground truth of a
swap can be rendered: the source's person with the target's attributes.
"""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from simswap_jax.contrib.rendered.face_parameters import (
    ATTRIBUTE_SIZE,
    ATTRIBUTES,
    PERSON,
    PERSON_SIZE,
    pose,
    sample_attributes,
    sample_people,
)
from simswap_jax.contrib.rendered.renderer import BATCH, render
from simswap_jax.errors import UserError
from simswap_jax.io.atomic import replacing_folder
from simswap_jax.io.progress import Progress, to_terminal

__all__ = [
    "ATTRIBUTES",
    "ATTRIBUTE_SIZE",
    "PERSON",
    "PERSON_SIZE",
    "Labels",
    "person_names",
    "pose",
    "read_labels",
    "render",
    "render_ground_truth",
    "sample_attributes",
    "sample_people",
    "write_people",
]

LABELS = "labels.npz"


def render_ground_truth(source_people: np.ndarray, target_attributes: np.ndarray, size: int) -> np.ndarray:
    """Render the ground truth of a swap: the source's person with the target's attributes: uint8 [B, size, size, 3]."""
    return render(source_people, target_attributes, size)


def person_names(count: int) -> list[str]:
    """`p0000`, `p0001`, …"""
    return [f"p{index:04d}" for index in range(count)]


@dataclass(frozen=True)
class Labels:
    """What a folder of rendered people shows.

    names: the people's. people: float32 [people, PERSON_SIZE]. files: `<person>/<picture>.png`, one per picture.
    person: int32 [pictures], index into names. attributes: float32 [pictures, ATTRIBUTE_SIZE].
    """

    names: list[str]
    people: np.ndarray
    files: list[str]
    person: np.ndarray
    attributes: np.ndarray

    def row(self, file: str) -> int:
        """A picture's row, from the last two parts of its path; KeyError where it is unknown."""
        return self._rows["/".join(Path(file).parts[-2:])]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rows", {file: row for row, file in enumerate(self.files)})

    _rows: dict[str, int] = None  # type: ignore[assignment]


def read_labels(root: str | os.PathLike[str]) -> Labels:
    """Read what `write_people` wrote beside its pictures.

    Raises:
        UserError: no labels there, or those of another version of the renderer.
    """
    path = Path(root) / LABELS
    try:
        with np.load(path) as stored:
            labels = Labels(
                names=stored["names"].tolist(),
                people=stored["people"],
                files=stored["files"].tolist(),
                person=stored["person"],
                attributes=stored["attributes"],
            )
            known = stored["person_numbers"].tolist() == list(PERSON)
            known = known and stored["attribute_numbers"].tolist() == list(ATTRIBUTES)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; render the people again (write_people).", "labels-missing") from None
    except (OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); render the people again (write_people).", "labels-unreadable"
        ) from None
    if not known:
        raise UserError(
            f"{path} was written by another version of the renderer; render the people again.", "labels-outdated"
        )
    return labels


def _write_batch(root: Path, files: Sequence[str], pictures: np.ndarray) -> None:
    for file, picture in zip(files, pictures, strict=True):
        _, encoded = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        (root / file).write_bytes(encoded.tobytes())


def write_people(
    root: str | os.PathLike[str],
    people: np.ndarray,
    names: Sequence[str],
    pictures_per_person: int | Sequence[int],
    seed: int,
    size: int,
) -> Labels:
    """Render pictures of people into `<root>/<person>/<picture>.png`, and `labels.npz` beside them.

    Args:
        root: a folder that does not exist yet or is empty; it appears only once it is complete.
        people: float32 [N, PERSON_SIZE].
        names: the people's, N different ones.
        pictures_per_person: each with attributes of its own; a number for each person, or one for all.
        seed: fixes the attributes.
        size: height and width in pixels.

    Raises:
        UserError: the folder holds something, or cannot be written.
    """
    root = Path(root)
    if len(names) != len(people) or len(set(names)) != len(names):
        raise ValueError(
            f"write_people() got {len(people)} people and {len(set(names))} different names; give one each."
        )
    counts: np.ndarray = np.broadcast_to(pictures_per_person, len(people))
    person: np.ndarray = np.repeat(np.arange(len(people), dtype=np.int32), counts)
    digits = max(3, len(str(counts.max() - 1)))
    files = [f"{name}/{index:0{digits}d}.png" for name, count in zip(names, counts.tolist()) for index in range(count)]
    labels = Labels(list(names), np.asarray(people, np.float32), files, person, sample_attributes(seed, len(files)))
    with replacing_folder(root, what="folder of rendered people", sync=False) as fresh:
        for name in names:
            (fresh / name).mkdir(parents=True)
        _write_pictures(fresh, labels, size)
        np.savez(
            fresh / LABELS,
            names=np.array(labels.names),
            people=labels.people,
            files=np.array(labels.files),
            person=labels.person,
            attributes=labels.attributes,
            person_numbers=np.array(PERSON),
            attribute_numbers=np.array(ATTRIBUTES),
        )
    return labels


def _write_pictures(root: Path, labels: Labels, size: int) -> None:
    """Render in this thread, encode and write in others, a few batches ahead at most."""
    total = len(labels.files)
    progress = Progress(total, "faces rendered", to_terminal)
    with ThreadPoolExecutor(max_workers=2) as writers:
        waiting: list[Future[None]] = []
        for start in range(0, total, BATCH):
            rows = slice(start, min(start + BATCH, total))
            pictures = render(labels.people[labels.person[rows]], labels.attributes[rows], size)
            waiting.append(writers.submit(_write_batch, root, labels.files[rows], pictures))
            if len(waiting) > 4:
                waiting.pop(0).result()
            progress.add(len(pictures))
        for batch in waiting:
            batch.result()


# How much of an identity each number is: standard deviations of the weighted numbers; OTHERS for those not named here.
# Colours, brows and lips can be transferred; outlines and cuts of hair can hardly, and a mole or a nose is next to
# nothing in 32×32 pixels.
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
    if width < PERSON_SIZE:
        raise UserError(
            f"config.network.embedding is {width}, but fixed class prototypes need at least {PERSON_SIZE}; raise it.",
            "prototypes-need-dimensions",
        )
    labels = read_labels(root)
    weights = np.array([WEIGHTS.get(number, OTHERS) for number in PERSON])
    spread = labels.people - labels.people.mean(axis=0)
    numbers = weights * spread / np.maximum(labels.people.std(axis=0), 1e-6)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(width, len(weights))))
    rows = [labels.names.index(name) for name in names]
    return (numbers[rows] @ turn.T).astype(np.float32)
