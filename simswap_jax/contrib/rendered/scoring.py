"""Metrics of swaps of rendered faces, whose ground truth is known: the source's identity, the target's attributes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from simswap_jax.contrib.rendered.dataset import PERSON, Labels, pose, render_ground_truth
from simswap_jax.evaluation.metrics.reconstruction import psnr
from simswap_jax.evaluation.metrics.regions import nearer
from simswap_jax.evaluation.protocols.pairs import draw_pairs

# Parts of a face, and how the names of the parameters begin that say how they look.
PARTS = {
    "skin": ("skin_", "blush_", "freckles_"),
    "brows": ("brow_",),
    "mouth": ("mouth_", "lip_"),
    "hair": ("hair",),
}


@dataclass(frozen=True)
class RenderedPairs:
    """Swaps to evaluate, as rows of the labels' pictures.

    source, target: int [N], the picture that gives the identity and the one that is swapped; of different people.
    source_person, target_person: int [N], rows of the labels' people.
    truth_person: float32 [N, P] and truth_attributes: float32 [N, A], from which the ground truth is rendered.
    kept_person: float32 [N, P], the target's, of whom nothing should be left.
    """

    source: np.ndarray
    target: np.ndarray
    source_person: np.ndarray
    target_person: np.ndarray
    truth_person: np.ndarray
    truth_attributes: np.ndarray
    kept_person: np.ndarray

    def ground_truth(self, size: int) -> np.ndarray:
        """The ground truth: uint8 [N, size, size, 3]."""
        return render_ground_truth(self.truth_person, self.truth_attributes, size)

    def pose(self) -> np.ndarray:
        """The targets' yaw, pitch and roll, which a swap keeps: degrees [N, 3]."""
        return pose(self.truth_attributes)

    def __len__(self) -> int:
        return len(self.source)


def draw_rendered_pairs(labels: Labels, names: Sequence[str], count: int, seed: int = 0) -> RenderedPairs:
    """Draw `count` pairs of different people among the held-out `names`, each person source and target equally often.

    Raises:
        UserError: fewer than two people or no pair asked for.
    """
    pictures: dict[str, list[str]] = {name: [] for name in names}
    for file in labels.files:
        name, picture = file.split("/")
        if name in pictures:
            pictures[name].append(picture)
    drawn = draw_pairs(pictures, names, count, seed).pairs
    source = np.array([labels.row(pair.source) for pair in drawn])
    target = np.array([labels.row(pair.target) for pair in drawn])
    return RenderedPairs(
        source=source,
        target=target,
        source_person=labels.person[source],
        target_person=labels.person[target],
        truth_person=labels.people[labels.person[source]],
        truth_attributes=labels.attributes[target],
        kept_person=labels.people[labels.person[target]],
    )


def colour_shift(targets: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """What a swap must beat: each target with the mean and spread of every channel moved to its source picture's.

    uint8 [N, H, W, 3] twice → uint8 [N, H, W, 3].
    """
    target, source = np.asarray(targets, np.float64), np.asarray(sources, np.float64)
    spread = source.std(axis=(1, 2), keepdims=True) / np.maximum(target.std(axis=(1, 2), keepdims=True), 1e-3)
    shifted = (target - target.mean(axis=(1, 2), keepdims=True)) * spread + source.mean(axis=(1, 2), keepdims=True)
    return np.clip(np.round(shifted), 0, 255).astype(np.uint8)


def pose_r2(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Pose accuracy: R² of yaw, pitch and roll, averaged; degrees [N, 3] twice, N ≥ 2.

    1 − Σ (predicted − truth)² / Σ (truth − mean truth)²: 1 for a perfect prediction, 0 for always the mean.
    """
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    unexplained = ((predicted - truth) ** 2).sum(axis=0)
    total = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    return float((1 - unexplained / total).mean())


def truth_metrics(
    results: np.ndarray,
    sources: np.ndarray,
    targets: np.ndarray,
    pairs: RenderedPairs,
    read_pose: Callable[[np.ndarray], np.ndarray],
) -> dict[str, float]:
    """Reconstruction and pose metrics against the labels.

    Args:
        results: uint8 [N, H, H, 3], one per pair, as are
        sources: uint8 [N, H, H, 3] and
        targets: uint8 [N, H, H, 3].
        pairs: the pairs.
        read_pose: uint8 pictures → degrees [N, 3], e.g. `PoseRegressor.pretrained()`.

    Returns:
        `psnr_result`, `psnr_target`, `psnr_colour_shift`: dB to the ground truth, averaged over the pairs, of the
        result, of the untouched target and of the target in the source's colours; `pose_r2`: of the results' pose.
    """
    truths = pairs.ground_truth(results.shape[1])
    return {
        "psnr_result": float(psnr(results, truths).mean()),
        "psnr_target": float(psnr(targets, truths).mean()),
        "psnr_colour_shift": float(psnr(colour_shift(targets, sources), truths).mean()),
        "pose_r2": pose_r2(read_pose(results), pairs.pose()),
    }


def attribute_transfer(results: np.ndarray, pairs: RenderedPairs) -> dict[str, float]:
    """Which attributes were transferred from the source: skin, brows, mouth and hair, measured without a network.

    Beside the ground truth a second picture is rendered that has this one part from the target's person. Where the two
    differ, is the result nearer to the ground truth?

    Args:
        results: uint8 [N, H, H, 3], one per pair.
        pairs: the pairs.

    Returns:
        by the name of the part, the share of the pairs in which it is, in [0, 1]; NaN where the two show no difference
        in any pair. 0.5 is chance; the untouched target scores less.
    """
    size = results.shape[1]
    wanted = pairs.ground_truth(size)
    shares = {}
    for part, beginnings in PARTS.items():
        person = pairs.truth_person.copy()
        columns = [i for i, name in enumerate(PERSON) if name.startswith(beginnings)]
        person[:, columns] = pairs.kept_person[:, columns]
        unwanted = render_ground_truth(person, pairs.truth_attributes, size)
        judged = nearer(results, wanted, unwanted)
        shares[part] = float(np.nanmean(judged)) if np.isfinite(judged).any() else float("nan")
    return shares
