"""What a protocol is: which swaps are evaluated and on what data. Protocols are found by name.

Another package brings its own as ``--protocol package.module:attribute``, an `EvaluationProtocol`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from importlib import import_module
from pathlib import Path

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.candidates import Baseline, Candidate, ModelCandidate
from simswap_jax.evaluation.geometry import KnownGeometry
from simswap_jax.evaluation.judges.networks import PoseEstimator, Recogniser
from simswap_jax.evaluation.request import EvaluationRequest
from simswap_jax.io.atomic import write_text

PROTOCOLS = {
    "pairs": "simswap_jax.evaluation.protocols.pairs:PAIRS",
    "known": "simswap_jax.evaluation.protocols.known:KNOWN",
    "faceforensics": "simswap_jax.evaluation.protocols.faceforensics:FACEFORENSICS",
    "synthetic": "simswap_jax.contrib.rendered.protocol:SYNTHETIC",
    "synthetic_known": "simswap_jax.contrib.rendered.protocol:SYNTHETIC_KNOWN",
}
DEFAULT_ALIGNMENT = "simswap-frontal"  # template of the crops, where no model says one
PAIRS_FILE = "simswap_jax.evaluation.protocols.pairs:PAIRS_FILE"  # the protocol of FILE.json


@dataclass(frozen=True)
class Pair:
    """One swap to evaluate; files are named as ``person/picture`` under the data's root.

    Attributes:
      source: gives the identity.
      target: gives everything else.
      genuine: another picture of the source's person, the upper bound of identity metrics; None if there is none.
    """

    source: str
    target: str
    genuine: str | None


@dataclass(frozen=True)
class PairList:
    """The swaps of one evaluation.

    Attributes:
      seed: they were drawn with.
      people: names of the people whom they were drawn among; where pairs are few, some are in none.
      pairs: what is swapped.
    """

    seed: int
    people: tuple[str, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class GroundTruth:
    """Known answers of the swaps.

    Attributes:
      pictures: indices of pairs, side in pixels → the answers, uint8 RGB squares.
      turned: the same with the head turned by so many degrees of yaw; None where that cannot be made.
      baselines: further candidates.
      ladder: keys of candidates from the untouched target to the ground truth, ever nearer to it.
      altered: attribute → as ``pictures``, but with this one attribute as the source's picture has it.
    """

    pictures: Callable[[Sequence[int], int], np.ndarray]
    turned: Callable[[Sequence[int], int, float], np.ndarray] | None = None
    baselines: Sequence[Baseline] = ()
    ladder: Sequence[str] = ()
    altered: Mapping[str, Callable[[Sequence[int], int], np.ndarray]] = field(default_factory=dict)


class Training(StrEnum):
    """What is known of whether the models were trained on the evaluated people."""

    HELD_OUT = "held out"  # they were not: the models' cards say so
    STATED_UNSEEN = "not trained on, as stated"  # --people unseen
    PERHAPS = "perhaps trained on"  # --people any
    OTHER_PICTURES = "trained on, in other pictures"  # the protocol `known`
    UNKNOWN = "not known"


@dataclass(frozen=True)
class ProtocolData:
    """What a protocol has prepared.

    Attributes:
      root: of the aligned crops, ``ROOT/PERSON/PICTURE``.
      people: person → picture files, the gallery.
      pairs: what is swapped.
      read_external: name and folder → another program's results of these pairs.
      exclude_source: whether retrieval by the nearest picture leaves the source picture out; the paper does not.
      ground_truth: where the answers are known.
      training: whether the models were trained on these people.
      geometry: landmarks and pose of the pictures, where the protocol knows them.
    """

    root: Path
    people: Mapping[str, Sequence[Path]]
    pairs: PairList
    read_external: Callable[[str, Path], Candidate]
    exclude_source: bool = True
    ground_truth: GroundTruth | None = None
    training: Training = Training.UNKNOWN
    geometry: KnownGeometry | None = None


def alignment_of(request: EvaluationRequest, models: Sequence[ModelCandidate]) -> str:
    """The one template of the crops, a name of `faces.alignment.TEMPLATES` or of faces without one.

    Raises:
      UserError: the models were trained on several.
    """
    wanted = {model.key: model.swapper.model.alignment for model in models}
    if len({*wanted.values()}) > 1:
        told = ", ".join(f"'{key}' as '{alignment}'" for key, alignment in wanted.items())
        raise UserError(
            f"the models were trained on faces aligned in different ways ({told}), and all get the same crops; "
            "evaluate them apart, each on crops of its own.",
            "models-of-several-alignments",
        )
    return request.alignment or next(iter(wanted.values()), DEFAULT_ALIGNMENT)


@dataclass(frozen=True)
class EvaluationProtocol:
    """One way to evaluate.

    Attributes:
      name: in the JSON.
      prepare: the request, its models and the side in pixels → data and pairs.
      recogniser: opens the recogniser where the request names none; None: the public one is taken.
      pose: opens the pose network where the request names none; None: pose is not measured then.
    """

    name: str
    prepare: Callable[[EvaluationRequest, Sequence[ModelCandidate], int], ProtocolData]
    recogniser: Callable[[], Recogniser] | None = None
    pose: Callable[[], PoseEstimator] | None = None


def find_protocol(name: str) -> EvaluationProtocol:
    """A protocol by its name in `PROTOCOLS`, a pairs.json, or ``package.module:attribute``.

    Raises:
      UserError: there is none of that name.
    """
    address = PAIRS_FILE if name.endswith(".json") else PROTOCOLS.get(name, name)
    module, _, attribute = address.partition(":")
    try:
        if not attribute:
            raise ImportError("it is not written as package.module:attribute")
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"there is no protocol '{name}' ({error}); choose {', '.join(PROTOCOLS)}, a pairs.json, or "
            "package.module:attribute.",
            "protocol-unknown",
        ) from error
    if not isinstance(found, EvaluationProtocol):
        raise UserError(f"'{name}' is no EvaluationProtocol but {type(found).__name__}.", "protocol-of-another-type")
    return found


def save_pairs(path: str | Path, pairs: PairList) -> None:
    """Write pairs as JSON, whole or not at all. The genuine picture is called ``witness`` there."""
    content = asdict(pairs)
    for pair in content["pairs"]:
        pair["witness"] = pair.pop("genuine")
    write_text(path, json.dumps(content, indent=1) + "\n")


def load_pairs(path: str | Path) -> PairList:
    """Read pairs.

    Raises:
      UserError: the file is missing or no list of pairs.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        pairs = [Pair(pair["source"], pair["target"], pair["witness"]) for pair in content["pairs"]]
        return PairList(int(content["seed"]), tuple(content["people"]), tuple(pairs))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); name a pairs.json that an evaluation wrote.", "pairs-unreadable"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no list of pairs ({error}); name one that an evaluation wrote.", "pairs-invalid"
        ) from error
