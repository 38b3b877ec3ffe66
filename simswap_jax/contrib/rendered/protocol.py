"""The ``synthetic`` protocol: a rendered set, where the true answer of every pair can be drawn."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from simswap_jax.contrib.rendered import scoring
from simswap_jax.contrib.rendered.dataset import Labels
from simswap_jax.contrib.rendered.pose_judge import WEIGHTS, PoseRegressor
from simswap_jax.evaluation.candidates import Chunk, ControlRow
from simswap_jax.evaluation.protocols.pairs import Protocol
from simswap_jax.weights import registry

LADDER = (0.25, 0.5, 0.75)  # of the way from the target to the true answer


class RenderedPose:
    """The pose judge of rendered faces that ships, as a judge of `sight.Judges`."""

    name = "pose_regressor"

    def __init__(self) -> None:
        self._regressor = PoseRegressor.pretrained()
        self.sha256 = registry.file_sha256(Path(__file__).parents[2] / WEIGHTS)

    def angles(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, 3]: yaw, pitch and roll in degrees."""
        return self._regressor(np.stack(pictures))


def truths_of(labels: Labels, plan: Protocol, size: int) -> Callable[[Sequence[int]], list[np.ndarray]]:
    """Numbers of pairs → their true answers, uint8 [size, size, 3]; a KeyError for unknown files."""

    def draw(numbers: Sequence[int]) -> list[np.ndarray]:
        source = [labels.row(plan.pairs[i].source) for i in numbers]
        target = [labels.row(plan.pairs[i].target) for i in numbers]
        people, attributes = labels.people[labels.person[source]], labels.attributes[target]
        return list(scoring.true_swap(people, attributes, size))

    return draw


def _known(chunk: Chunk) -> list[np.ndarray]:
    if chunk.truths is None:
        raise ValueError("this row needs the true answers, which only rendered faces have.")
    return chunk.truths


def _part_of_the_way(share: float) -> Callable[[Chunk], list[np.ndarray]]:
    def mixed(chunk: Chunk) -> list[np.ndarray]:
        pairs = zip(chunk.targets, _known(chunk))
        return [np.round((1.0 - share) * target + share * truth).astype(np.uint8) for target, truth in pairs]

    return mixed


def _colours(chunk: Chunk) -> list[np.ndarray]:
    return list(scoring.colour_shift(np.stack(chunk.targets), np.stack(chunk.sources)))


CONTROLS = (
    ControlRow("truth", "true answer (ceiling)", _known),
    ControlRow("colour", "target in the source's colours", _colours),
)
RUNGS = tuple(
    ControlRow(f"mix_{share:g}", f"{share:.0%} of the way to it", _part_of_the_way(share)) for share in LADDER
)
