"""Validation while training: fixed swaps of held-out identities, measured by the networks that an experiment names.

Training finds it by name (``config.validation.evaluator``). The swaps are the first ones that the ``pairs``
protocol draws of up to `PEOPLE` held-out identities, measured by the same code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import ml_collections
import numpy as np

from simswap_jax.data.dataset import People
from simswap_jax.errors import UserError
from simswap_jax.evaluation.candidates import MODEL, TARGET, PairBatch
from simswap_jax.evaluation.gallery import Gallery, gallery_of
from simswap_jax.evaluation.geometry import crop_template
from simswap_jax.evaluation.judges.evaluators import Evaluators, Predictions
from simswap_jax.evaluation.judges.networks import OnnxPose, open_recogniser
from simswap_jax.evaluation.metrics.expression import FaceShapes
from simswap_jax.evaluation.metrics.summary import PairIndex, attribute_metrics, face_shapes, identity_metrics
from simswap_jax.evaluation.protocols.pairs import draw_pairs
from simswap_jax.evaluation.protocols.protocol import PairList
from simswap_jax.evaluation.runner import joined, measure_batch, pair_chunks
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.training.method import Method
from simswap_jax.training.state import TrainState
from simswap_jax.training.validation import Measured
from simswap_jax.weights import registry
from simswap_jax.weights.model_folder import ModelFolder
from simswap_jax.weights.onnx_network import open_landmarks

PEOPLE = 256  # of the gallery at most, those held out first
PICTURES = 8  # of each of them, beside those of the pairs
SHOWN = 8  # pairs on the sheet
OF_IDENTITY = ("retrieval", "cosine_source", "cosine_target")
OF_SELF_SWAPS = ("self_l1", "self_psnr")


def build(config: ml_collections.ConfigDict, people: People, held_out: Sequence[str]) -> "HeldOutEvaluator":
    """Draw the pairs and open the networks of ``config.validation``.

    Args:
      config: an experiment.
      people: everybody; who is not held out is only searched among.
      held_out: the names of those who are swapped.

    Raises:
      UserError: no recogniser is named, a network cannot be opened, or fewer than two people are held out.
    """
    fields = config.validation
    if not fields.recognition:
        raise UserError(
            "config.validation.every asks for validation, and config.validation.recognition is empty; name a "
            "face-recognition network that is independent of the training, or set config.validation.every to 0.",
            "validation-without-recognition",
        )
    evaluators = Evaluators(
        open_recogniser(network_file(fields.recognition, "recognition"), config.data.alignment),
        OnnxPose(network_file(fields.pose, "pose")) if fields.pose else None,
        open_landmarks(network_file(fields.landmarks, "landmarks")) if fields.landmarks else None,
    )
    names = sorted(held_out)[:PEOPLE]
    pictures = pictures_of(people)
    pairs = draw_pairs({name: list(pictures[name]) for name in names}, names, fields.pairs)
    template = crop_template(config.data.alignment, config.data.size)
    return HeldOutEvaluator(pairs, people, evaluators, config.data.size, template)


def network_file(name: str, field: str) -> Path:
    """Where a network of ``config.validation`` lies.

    Raises:
      UserError: it is missing.
    """
    return registry.find_network(name, f"validation (config.validation.{field})")


def pictures_of(people: People) -> dict[str, dict[str, int]]:
    """Person → name of a picture → its index."""
    found: dict[str, dict[str, int]] = {name: {} for name in people.names}
    for index, file in enumerate(people.files):
        person, _, picture = file.rpartition("/")
        found[person][picture] = index
    return found


class Drawn:
    """What a model drew of the pairs, as a candidate of an evaluation: pictures by the index of their pair."""

    key = title = "model"
    kind, shows_source, sha256 = MODEL, True, ""

    def __init__(self, swaps: Sequence[np.ndarray], self_swaps: Sequence[np.ndarray]) -> None:
        self._swaps, self._self_swaps = swaps, self_swaps

    def results(self, batch: PairBatch) -> list[np.ndarray]:
        """Each target with its source's identity."""
        return [self._swaps[index] for index in batch.indices]

    def self_swaps(self, batch: PairBatch) -> list[np.ndarray]:
        """Each target with its own."""
        return [self._self_swaps[index] for index in batch.indices]


@dataclass(frozen=True)
class Reference:
    """What does not change from one validation to the next.

    Attributes:
      batches: the pairs, read.
      gallery, index: among whom identities are retrieved, and where the pairs are in it.
      targets: predictions for the untouched targets.
      shapes: of the people's faces, where there is a landmark network.
    """

    batches: Sequence[PairBatch]
    gallery: Gallery
    index: PairIndex
    targets: Predictions
    shapes: FaceShapes | None


class HeldOutEvaluator:
    """Swaps the pairs and measures them. The networks are shared by all validations of a run, compiled once.

    Args:
      pairs: what is swapped.
      people: everybody.
      evaluators: the networks.
      size: side in pixels of the crops.
      template: as of `crop_template`.
    """

    def __init__(
        self, pairs: PairList, people: People, evaluators: Evaluators, size: int, template: np.ndarray | None = None
    ) -> None:
        self._pairs, self._people, self._evaluators, self._size = pairs, people, evaluators, size
        self._template = template
        self._pictures = pictures_of(people)
        self._swapper: FaceSwapper | None = None
        self._vectors: tuple[np.ndarray, np.ndarray] | None = None

    def check(self, method: Method) -> None:
        """A UserError for a method whose states cannot be measured."""
        check_makes_swaps(method)

    def measure(self, method: Method, state: TrainState) -> Measured:
        """Measure a state of a method that makes model folders in memory (``method.model(state)``).

        Raises:
          UserError: the method makes none, or the landmark network finds no face at all.
        """
        reference = self.reference
        drawn = self._drawn(model_of(method, state))
        results = joined([measure_batch(self._evaluators, drawn, batch) for batch in reference.batches])
        values = identity_metrics(reference.gallery, reference.index, results["vectors"])
        attributes = attribute_metrics(self._pairs, results, reference.targets, reference.shapes, True)
        shown = {name: values[name] for name in OF_IDENTITY} | attributes
        shown |= {name: results[name] for name in OF_SELF_SWAPS}
        means = {name: float(np.nanmean(array)) for name, array in shown.items() if np.isfinite(array).any()}
        means["sharpness"] = float(results["laplacian"].sum() / reference.targets["laplacian"].sum())
        return Measured(means, *self._sheet(drawn, shown))

    @cached_property
    def reference(self) -> Reference:
        """Pairs, gallery and targets, read and measured at the first validation."""
        batches = [self._batch(indices) for indices in pair_chunks(len(self._pairs.pairs))]
        gallery = self._gallery()
        source, target = (
            gallery.rows([getattr(pair, side) for pair in self._pairs.pairs]) for side in ("source", "target")
        )
        nobody = np.full(len(source), -1)
        index = PairIndex(source, target, gallery.person[source], nobody, nobody, np.nan, source)
        targets = joined([measure_batch(self._evaluators, TARGET, batch) for batch in batches])
        return Reference(batches, gallery, index, targets, self._shapes(gallery))

    def _picture(self, name: str, size: int | None) -> np.ndarray:
        person, _, picture = name.rpartition("/")
        return self._people.picture(self._pictures[person][picture], size)

    def _batch(self, indices: Sequence[int]) -> PairBatch:
        pairs = [self._pairs.pairs[index] for index in indices]
        sources = [self._picture(pair.source, self._size) for pair in pairs]
        targets = [self._picture(pair.target, self._size) for pair in pairs]
        five_points, template = self._evaluators.five_points, self._template
        return PairBatch(indices, sources, targets, five_points(sources, template), five_points(targets, template))

    def _gallery(self) -> Gallery:
        """The pairs' pictures and the first of everybody, those held out first; as they lie on disk, like theirs."""
        used = {name for pair in self._pairs.pairs for name in (pair.source, pair.target)}
        others = [name for name in self._people.names if name not in self._pairs.people]
        chosen = [
            (person, Path(picture))
            for person in [*self._pairs.people, *others][:PEOPLE]
            for number, picture in enumerate(self._pictures[person])
            if number < PICTURES or f"{person}/{picture}" in used
        ]
        vectors = []
        for indices in pair_chunks(len(chosen)):
            names = [f"{person}/{file}" for person, file in (chosen[index] for index in indices)]
            vectors.append(self._evaluators.recogniser.embed([self._picture(name, None) for name in names]))
        return gallery_of(chosen, np.concatenate(vectors))

    def _shapes(self, gallery: Gallery) -> FaceShapes | None:
        if self._evaluators.landmarks is None:
            return None
        names = gallery.pictures(self._pairs.people)
        parts = [self._evaluators.predict([self._picture(name, self._size)], identity=False) for name in names]
        return face_shapes({**joined(parts), "name": np.array(names)})

    def _drawn(self, model: ModelFolder) -> Drawn:
        """The swaps and self-swaps of a model; its identity network is asked once, for it does not change."""
        swapper = (
            FaceSwapper(model, runtime="jax")
            if self._swapper is None
            else self._swapper.with_generator(model.variables)
        )
        self._swapper = swapper
        targets = [target for batch in self.reference.batches for target in batch.targets]
        if self._vectors is None:
            sources = [source for batch in self.reference.batches for source in batch.sources]
            self._vectors = swapper.source_vectors(sources), swapper.source_vectors(targets)
        swaps, self_swaps = (swapper.swap_faces(targets, vectors) for vectors in self._vectors)
        return Drawn(swaps, self_swaps)

    def _sheet(self, drawn: Drawn, shown: Predictions) -> tuple[dict[str, list[np.ndarray]], list[str]]:
        """Source, target and result of the first pairs, and what was measured of each."""
        first = self.reference.batches[0]
        columns = {
            "source": first.sources[:SHOWN],
            "target": first.targets[:SHOWN],
            "result": drawn.results(first)[:SHOWN],
        }
        captions = []
        for row in range(len(columns["source"])):
            pose = f", pose {shown['pose_error'][row]:.1f} deg" if "pose_error" in shown else ""
            cosines = f"source {shown['cosine_source'][row]:.2f}, target {shown['cosine_target'][row]:.2f}"
            captions.append(f"{'found' if shown['retrieval'][row] else 'not found'}: {cosines}{pose}")
        return columns, captions


def model_of(method: Method, state: TrainState) -> ModelFolder:
    """The model folder that a method would export, in memory.

    Raises:
      UserError: the method has no ``model``.
    """
    check_makes_swaps(method)
    model: ModelFolder = cast(Any, method).model(state)
    return model


def check_makes_swaps(method: Method) -> None:
    """A UserError for a method that trains no generator."""
    if not hasattr(method, "model"):
        raise UserError(
            f"config.validation.every asks for swaps, and {type(method).__name__} trains no generator; set it to 0, or "
            "name another config.validation.evaluator.",
            "validation-makes-no-swaps",
        )
