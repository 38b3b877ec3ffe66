"""Does a metric order pictures as their error against the ground truth does? Asked where the ground truth is known.

For each pair there are pictures that are worse and worse in one way (a ladder), and Spearman's rank correlation between
metric and true error over its rungs; 1 means that the metric never takes the worse picture for the better one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from simswap_jax.evaluation.judges.networks import PoseEstimator
from simswap_jax.evaluation.metrics import reconstruction, regions
from simswap_jax.evaluation.metrics.intervals import Estimate, estimate, rank_correlation
from simswap_jax.evaluation.metrics.summary import PerPair, Summary
from simswap_jax.evaluation.protocols.protocol import GroundTruth
from simswap_jax.io.html_report import Table

PAIRS = 64  # of the protocol, whose ground truth is turned and blurred
TURNS = (0.0, 5.0, 10.0, 20.0)  # degrees of yaw
BLURS = (0.0, 0.5, 1.0, 2.0)  # sigma in pixels of 64


def within_all_pairs(
    truth: GroundTruth, pose: PoseEstimator | None, size: int, per_pair: PerPair, groups: np.ndarray
) -> dict[str, Estimate]:
    """Rank correlation within the pairs: metric → estimate.

    Args:
      truth: the ground truth.
      pose: the pose network, if there is one.
      size: side in pixels.
      per_pair: the metrics of each candidate and pair.
      groups: [K], the sources' people, for the intervals.
    """
    found = {"identity": identity_agreement(per_pair, truth.ladder, groups)} if truth.ladder else {}
    indices, some = range(min(PAIRS, len(groups))), groups[:PAIRS]
    if pose is not None and truth.turned is not None:
        found["pose"] = pose_agreement(truth, pose, size, indices, some)
    found["sharpness"] = sharpness_agreement(truth, size, indices, some)
    return found


def within_pairs(metric: np.ndarray, error: np.ndarray, groups: np.ndarray) -> Estimate:
    """Spearman over the rungs, averaged over the pairs.

    Args:
      metric: float [R, K], larger where worse.
      error: float [R, K], against the ground truth.
      groups: [K], for the interval.
    """
    return estimate(np.array([rank_correlation(m, e) for m, e in zip(metric.T, error.T)]), groups)


def identity_agreement(per_pair: PerPair, ladder: Sequence[str], groups: np.ndarray) -> Estimate:
    """The cosine to the source, over the candidates of the ladder."""
    metric = np.stack([-per_pair[key]["cosine_source"] for key in ladder])
    return within_pairs(metric, np.stack([per_pair[key]["truth_l1"] for key in ladder]), groups)


def pose_agreement(
    truth: GroundTruth, pose: PoseEstimator, size: int, indices: Sequence[int], groups: np.ndarray
) -> Estimate:
    """The pose error, over ground truth that is turned to the side more and more."""
    if truth.turned is None:
        raise ValueError("this ground truth cannot be turned.")
    answers = truth.pictures(indices, size)
    wanted = pose.angles(list(answers))
    metric, error = [], []
    for degrees in TURNS:
        turned = truth.turned(indices, size, degrees)
        metric.append(np.linalg.norm(pose.angles(list(turned)) - wanted, axis=1))
        error.append(reconstruction.l1(turned, answers))
    return within_pairs(np.stack(metric), np.stack(error), groups)


def sharpness_agreement(truth: GroundTruth, size: int, indices: Sequence[int], groups: np.ndarray) -> Estimate:
    """The lack of Laplacian energy, over ground truth that is blurred more and more."""
    answers = truth.pictures(indices, size)
    masks = regions.face_masks(None, len(answers), size)
    metric, error = [], []
    for sigma in BLURS:
        pictures = np.stack([cv2.GaussianBlur(t, (0, 0), sigma * size / 64) if sigma else t for t in answers])
        metric.append(-regions.laplacian_energy(pictures, masks))
        error.append(reconstruction.l1(pictures, answers))
    return within_pairs(np.stack(metric), np.stack(error), groups)


def across_candidates(summary: Summary) -> dict[str, float]:
    """Spearman over candidates between each metric's mean and the mean error against the ground truth, turned so that 1
    is perfect agreement; only for three candidates or more.
    """
    worse = {"retrieval": -1, "cosine_source": -1, "pose_error": 1, "expression_error": 1, "sharpness": -1, "fid": 1}
    keys = [key for key in summary if "truth_l1" in summary[key]]
    if len(keys) < 3:
        return {}
    found = {}
    for name, sign in worse.items():
        if all(name in summary[key] for key in keys):
            metric = np.array([sign * summary[key][name].mean for key in keys])
            value = rank_correlation(metric, np.array([summary[key]["truth_l1"].mean for key in keys]))
            if np.isfinite(value):
                found[name] = value
    return found


def described(within: Mapping[str, Estimate], over: Mapping[str, float]) -> tuple[dict[str, Any], Table]:
    """Both for the JSON and as a table."""
    lines = {
        "identity": ("cosine to source: on the way to the ground truth", "cosine_source"),
        "pose": ("pose error: turned to the side", "pose_error"),
        "sharpness": ("sharpness (Laplacian energy): blurred", "sharpness"),
    }
    rows = [
        [title, within[name].text(), f"{over[metric]:.2f}" if metric in over else ""]
        for name, (title, metric) in lines.items()
        if name in within
    ]
    table = Table(
        "Agreement with the error against the ground truth: Spearman's rank correlation (1 = the metric orders "
        "pictures as their true error does).",
        ["", "within a pair, rung by rung", "over the candidates of this table"],
        rows,
    )
    return {"within_pairs": {name: vars(value) for name, value in within.items()}, "over_rows": over}, table
