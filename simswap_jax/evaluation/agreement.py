"""Does a measure order pictures as their error against the true answer does? Asked on rendered faces, rung by rung.

For each pair there are pictures that are worse and worse in one way, and Spearman's rank correlation between measure
and true error over these rungs; 1 means that the measure never takes the worse picture for the better one.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from simswap_jax.contrib.rendered.dataset import Labels
from simswap_jax.contrib.rendered.face_parameters import ATTRIBUTES
from simswap_jax.contrib.rendered.scoring import true_swap
from simswap_jax.evaluation.judges.predictions import Judges
from simswap_jax.evaluation.metrics import reconstruction, regions
from simswap_jax.evaluation.metrics.intervals import Estimate, estimate, rank_correlation
from simswap_jax.evaluation.protocols.pairs import Protocol
from simswap_jax.evaluation.report.tables import Summary

PAIRS = 64  # of the protocol, on which it is asked
TURNS = (0.0, 5.0, 10.0, 20.0)  # degrees of yaw that the true answer is turned by
BLURS = (0.0, 0.5, 1.0, 2.0)  # sigma in pixels of 64


def within_pairs(measure: np.ndarray, error: np.ndarray, groups: np.ndarray) -> Estimate:
    """Spearman over the rungs, averaged over the pairs.

    Args:
      measure: float [R, K], larger where worse.
      error: float [R, K], against the true answer.
      groups: [K], for the interval.
    """
    return estimate(np.array([rank_correlation(m, e) for m, e in zip(measure.T, error.T)]), groups)


def of_identity(each: Mapping[str, Mapping[str, np.ndarray]], rungs: Sequence[str], groups: np.ndarray) -> Estimate:
    """The cosine to the source, over ``rungs``: rows from the untouched target to the true answer."""
    measure = np.stack([-each[key]["cosine_source"] for key in rungs])
    return within_pairs(measure, np.stack([each[key]["truth_l1"] for key in rungs]), groups)


def of_pose(judges: Judges, labels: Labels, plan: Protocol, size: int) -> Estimate | None:
    """The pose error, over true answers that are turned to the side more and more; None without a judge of it."""
    if judges.pose is None:
        return None
    people, attributes, groups = _drawn(labels, plan)
    truths = true_swap(people, attributes, size)
    wanted = judges.pose.angles(list(truths))
    measure, error = [], []
    for turn in TURNS:
        turned = attributes.copy()
        yaw = ATTRIBUTES.index("yaw")
        turned[:, yaw] += np.where(turned[:, yaw] > 0, -turn, turn)  # towards the front first: it stays drawable
        pictures = true_swap(people, turned, size)
        measure.append(np.linalg.norm(judges.pose.angles(list(pictures)) - wanted, axis=1))
        error.append(reconstruction.l1(pictures, truths))
    return within_pairs(np.stack(measure), np.stack(error), groups)


def of_sharpness(labels: Labels, plan: Protocol, size: int) -> Estimate:
    """The lack of Laplacian energy, over true answers that are blurred more and more."""
    people, attributes, groups = _drawn(labels, plan)
    truths = true_swap(people, attributes, size)
    masks = regions.face_masks(None, len(truths), size)
    measure, error = [], []
    for sigma in BLURS:
        pictures = np.stack([cv2.GaussianBlur(t, (0, 0), sigma * size / 64) if sigma else t for t in truths])
        measure.append(-regions.laplacian_energy(pictures, masks))
        error.append(reconstruction.l1(pictures, truths))
    return within_pairs(np.stack(measure), np.stack(error), groups)


def across_rows(summary: Summary, keys: Sequence[str]) -> dict[str, float]:
    """Spearman over rows (models, controls) between each measure's mean and the mean error against the true answer,
    turned so that 1 is perfect agreement; only for three rows or more.
    """
    worse = {"retrieval": -1, "cosine_source": -1, "pose_error": 1, "expression_error": 1, "sharpness": -1, "fid": 1}
    if len(keys) < 3:
        return {}
    found = {}
    for name, sign in worse.items():
        if all(name in summary[key] for key in keys):
            measure = np.array([sign * summary[key][name].mean for key in keys])
            value = rank_correlation(measure, np.array([summary[key]["truth_l1"].mean for key in keys]))
            if np.isfinite(value):
                found[name] = value
    return found


def _drawn(labels: Labels, plan: Protocol) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source people, target attributes and source numbers of the first pairs."""
    pairs = plan.pairs[:PAIRS]
    person = labels.person[[labels.row(pair.source) for pair in pairs]]
    return labels.people[person], labels.attributes[[labels.row(pair.target) for pair in pairs]], person
