"""The protocols of rendered people, where the ground truth of every pair can be rendered.

``synthetic`` swaps held-out identities; ``synthetic_known`` held-out pictures of people who were trained on.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from simswap_jax.contrib.rendered import identity_judge
from simswap_jax.contrib.rendered.dataset import Labels, read_labels, render_ground_truth
from simswap_jax.contrib.rendered.face_parameters import ATTRIBUTES
from simswap_jax.contrib.rendered.landmarks import geometry_of
from simswap_jax.contrib.rendered.pose_judge import WEIGHTS, PoseRegressor
from simswap_jax.contrib.rendered.scoring import colour_shift
from simswap_jax.evaluation.candidates import GROUND_TRUTH, TARGET, Baseline, ModelCandidate, PairBatch, interpolated
from simswap_jax.evaluation.protocols import known, pairs
from simswap_jax.evaluation.protocols.protocol import EvaluationProtocol, GroundTruth, PairList, ProtocolData
from simswap_jax.evaluation.request import EvaluationRequest
from simswap_jax.weights import registry

LADDER = tuple(interpolated(fraction) for fraction in (0.25, 0.5, 0.75))
YAW = ATTRIBUTES.index("yaw")
# What of a target a swap keeps and a warped source does not have: attribute → the numbers that say how it looks.
KEPT = {"gaze": ("gaze_x", "gaze_y"), "mouth": ("mouth_open", "smile", "mouth_skew")}


class RenderedPose:
    """The pose network of rendered faces that ships, as a `PoseEstimator`."""

    name = "pose_regressor"

    def __init__(self) -> None:
        self._regressor = PoseRegressor.pretrained()
        self.sha256 = registry.file_sha256(WEIGHTS)

    def angles(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, 3]: yaw, pitch and roll in degrees."""
        return self._regressor(np.stack(pictures))


class RenderedTruth:
    """The ground truth of pairs of rendered people: the source's identity with the target's attributes."""

    def __init__(self, labels: Labels, drawn: PairList) -> None:
        self._labels, self._pairs = labels, drawn.pairs

    def pictures(self, indices: Sequence[int], size: int) -> np.ndarray:
        """uint8 RGB [n, size, size, 3]; a KeyError for unknown files."""
        return render_ground_truth(*self._parameters(indices), size)

    def turned(self, indices: Sequence[int], size: int, degrees: float) -> np.ndarray:
        """The same with the head turned by ``degrees`` of yaw, towards the front first: it stays drawable."""
        people, attributes = self._parameters(indices)
        yaw = attributes[:, YAW]
        attributes[:, YAW] += np.where(yaw > 0, -degrees, degrees)
        return render_ground_truth(people, attributes, size)

    def altered(self, numbers: Sequence[str], indices: Sequence[int], size: int) -> np.ndarray:
        """The same with some numbers of the attributes as the source's picture has them."""
        people, attributes = self._parameters(indices)
        columns = [ATTRIBUTES.index(number) for number in numbers]
        rows = [self._labels.row(self._pairs[i].source) for i in indices]
        attributes[:, columns] = self._labels.attributes[rows][:, columns]
        return render_ground_truth(people, attributes, size)

    def _parameters(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Person and attribute vectors of the answers, [n, P] and [n, A]."""
        source = [self._labels.row(self._pairs[i].source) for i in indices]
        target = [self._labels.row(self._pairs[i].target) for i in indices]
        return self._labels.people[self._labels.person[source]], self._labels.attributes[target]


def _recoloured(batch: PairBatch) -> list[np.ndarray]:
    return list(colour_shift(np.stack(batch.targets), np.stack(batch.sources)))


COLOUR = Baseline(
    "colour",
    "target in the source's colours",
    _recoloured,
    shows_source=False,
    about="the cheapest swap there is: the target with the mean and spread of the source's colours",
)


def prepare(request: EvaluationRequest, models: Sequence[ModelCandidate], size: int) -> ProtocolData:
    """Pairs drawn as by the ``pairs`` protocol, with their ground truth, landmarks and poses."""
    return with_truth(pairs.prepare(request, models, size), read_labels(request.data))


def prepare_known(request: EvaluationRequest, models: Sequence[ModelCandidate], size: int) -> ProtocolData:
    """Pairs drawn as by the ``known`` protocol, with the same."""
    return with_truth(known.prepare(request, models, size), read_labels(request.data))


def with_truth(data: ProtocolData, labels: Labels) -> ProtocolData:
    """What a protocol prepared, with the ground truth, landmarks and poses of rendered people."""
    truth = RenderedTruth(labels, data.pairs)
    ladder = [TARGET.key, *(rung.key for rung in LADDER), GROUND_TRUTH.key]
    altered = {name: partial(truth.altered, numbers) for name, numbers in KEPT.items()}
    answers = GroundTruth(truth.pictures, truth.turned, (GROUND_TRUTH, COLOUR, *LADDER), ladder, altered)
    return replace(data, ground_truth=answers, geometry=geometry_of(labels))


SYNTHETIC = EvaluationProtocol("synthetic", prepare, recogniser=identity_judge.pretrained, pose=RenderedPose)
SYNTHETIC_KNOWN = replace(SYNTHETIC, name="synthetic_known", prepare=prepare_known)
