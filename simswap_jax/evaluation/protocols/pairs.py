"""The ``pairs`` protocol: pairs of held-out identities, drawn from a seed; and pairs read from a file."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from simswap_jax.data.dataset import held_out, list_people
from simswap_jax.errors import UserError
from simswap_jax.evaluation.candidates import ExternalResults, ModelCandidate
from simswap_jax.evaluation.protocols.protocol import (
    EvaluationProtocol,
    Pair,
    PairList,
    ProtocolData,
    Training,
    load_pairs,
)
from simswap_jax.evaluation.request import HELD_OUT, UNSEEN, EvaluationRequest
from simswap_jax.io.images import read_picture

DEFAULT_FRACTION = 0.12  # of the people is evaluated where no model says what its training held out


def draw_pairs(pictures: Mapping[str, Sequence[str]], names: Sequence[str], count: int, seed: int = 0) -> PairList:
    """Draw pairs of different people.

    Every person is source equally often (give or take one), and target equally often; pictures are drawn at random.

    Args:
      pictures: person → names of their picture files.
      names: the held-out identities, all of them in ``pictures``.
      count: how many pairs.
      seed: of the random numbers.

    Raises:
      UserError: fewer than two people, or no pair asked for.
    """
    names = sorted(names)
    if len(names) < 2:
        raise UserError(
            f"{len(names)} of the people are held out; swapping needs two: hold out a larger part.", "too-few-people"
        )
    if count < 1:
        raise UserError(f"{count} pairs were asked for; ask for at least one.", "pairs-below-one")
    random = np.random.default_rng(seed)
    pairs: list[Pair] = []
    while len(pairs) < count:
        # A random cycle through everybody: each once source, once target, never both.
        order = [names[i] for i in random.permutation(len(names)).tolist()]
        for source, target in zip(order, order[1:] + order[:1]):
            files = [pictures[source][i] for i in random.permutation(len(pictures[source]))[:2].tolist()]
            face = pictures[target][int(random.integers(len(pictures[target])))]
            genuine = f"{source}/{files[1]}" if len(files) > 1 else None
            pairs.append(Pair(f"{source}/{files[0]}", f"{target}/{face}", genuine))
    return PairList(seed, tuple(names), tuple(pairs[:count]))


def prepare(request: EvaluationRequest, models: Sequence[ModelCandidate], size: int) -> ProtocolData:
    """Pairs drawn among the people that the models' trainings held out."""
    people = list_people(request.data)
    shares = held_out_shares(models) if request.people == HELD_OUT else {}
    everybody = 1.0 if request.people != HELD_OUT else DEFAULT_FRACTION
    fraction = evaluated_fraction(request.held_out_fraction, min(shares.values(), default=0.0), everybody)
    with_pictures = {name: files for name, files in people.items() if files}
    chosen = held_out_people(with_pictures, request.data, fraction, request.held_out_seed)
    pictures = {name: readable(with_pictures[name]) for name in chosen}
    drawn = draw_pairs(pictures, [name for name in chosen if pictures[name]], request.pairs, request.seed)
    return _on(request, models, with_pictures, drawn)


def prepare_file(request: EvaluationRequest, models: Sequence[ModelCandidate], size: int) -> ProtocolData:
    """The pairs of a file that an evaluation wrote."""
    people = {name: files for name, files in list_people(request.data).items() if files}
    return _on(request, models, people, load_pairs(request.protocol))


def _on(
    request: EvaluationRequest,
    models: Sequence[ModelCandidate],
    people: Mapping[str, Sequence[Path]],
    drawn: PairList,
) -> ProtocolData:
    read_external = partial(ExternalResults, pairs=len(drawn.pairs))
    names = {picture.partition("/")[0] for pair in drawn.pairs for picture in (pair.source, pair.target)}
    training = trained_on(request.people, models, sorted(names))
    return ProtocolData(request.data, people, drawn, read_external, training=training)


def held_out_shares(models: Sequence[ModelCandidate]) -> dict[str, float]:
    """Model → the share of its people that its training held out, where its card says so.

    Raises:
      UserError: a training held nobody out.
    """
    cards = {model.key: model.swapper.model.card.get("held_out") for model in models}
    shares = {key: float(share) for key, share in cards.items() if isinstance(share, (int, float)) and 0 <= share <= 1}
    for key, share in shares.items():
        if not share:
            raise UserError(
                f"the training of '{key}' held nobody out, so it may have seen these people; say --people unseen where "
                "none of them took part in it, or --people any to measure it on people it may have been trained on.",
                "nobody-held-out",
            )
    return shares


def as_stated(stated: str) -> Training:
    """What the request says of whether the models were trained on these people (``--people``)."""
    return {UNSEEN: Training.STATED_UNSEEN, HELD_OUT: Training.UNKNOWN}.get(stated, Training.PERHAPS)


def trained_on(stated: str, models: Sequence[ModelCandidate], names: Sequence[str]) -> Training:
    """What is known of whether the models were trained on these people.

    Raises:
      UserError: a model's card says that it may have been.
    """
    if stated != HELD_OUT:
        return as_stated(stated)
    shares = held_out_shares(models)
    for key, share in shares.items():
        unseen = set(held_out(names, share))
        seen = [name for name in names if name not in unseen]
        if seen:
            raise UserError(
                f"the training of '{key}' held out {share:g} of its people, and {len(seen)} of these {len(names)} are "
                f"not among them ('{seen[0]}'); draw new pairs, or say --people unseen where none of them took part.",
                "pairs-of-trained-on-people",
            )
    return Training.HELD_OUT if models and len(shares) == len(models) else Training.UNKNOWN


def evaluated_fraction(asked: float | None, trained_without: float, default: float = DEFAULT_FRACTION) -> float:
    """The part of the people to evaluate.

    Args:
      asked: for by the user.
      trained_without: what the training held out; 0: unknown.
      default: where neither is known.

    Raises:
      UserError: people whom the model was trained on would be evaluated as if it had never seen them.
    """
    if asked is None:
        return trained_without or default
    if trained_without and asked > trained_without:
        raise UserError(
            f"--held-out-fraction is {asked}, but the model's training held out {trained_without}: identities that it "
            "was trained on would be evaluated; leave it out, or say --people unseen where none took part.",
            "trained-on-people",
        )
    return asked


def held_out_people(people: Mapping[str, Sequence[Path]], root: Path, fraction: float, seed: int) -> list[str]:
    """Names of the held-out identities.

    Raises:
      UserError: there are fewer than two.
    """
    names = held_out(sorted(people), fraction, seed)
    if len(names) < 2:
        raise UserError(
            f"{len(names)} of the {len(people)} people in {root} are held out, and swapping needs two; "
            "raise --held-out-fraction.",
            "too-few-people",
        )
    return names


def readable(files: Sequence[Path]) -> list[str]:
    """The names of the files that are pictures indeed; the others are named when the gallery is embedded."""
    names = []
    for file in files:
        try:
            read_picture(file)
        except UserError:
            continue
        names.append(file.name)
    return names


PAIRS = EvaluationProtocol("pairs", prepare)
PAIRS_FILE = EvaluationProtocol("pairs", prepare_file)
