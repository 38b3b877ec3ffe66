"""The ``known`` protocol: held-out pictures of people who were trained on, the only ones that some methods can show."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from simswap_jax.data.dataset import held_out, list_people
from simswap_jax.errors import UserError
from simswap_jax.evaluation.candidates import ExternalResults, ModelCandidate
from simswap_jax.evaluation.protocols.pairs import draw_pairs, readable
from simswap_jax.evaluation.protocols.protocol import EvaluationProtocol, ProtocolData, Training
from simswap_jax.evaluation.request import HELD_OUT, UNSEEN, EvaluationRequest

DEFAULT_SHARE = 0.2  # of the pictures, where --people any and no model's training held any out


def prepare(request: EvaluationRequest, models: Sequence[ModelCandidate], size: int) -> ProtocolData:
    """Pairs of trained people, sources and targets both drawn among the pictures that no model was trained on.

    Raises:
      UserError: a training held no pictures out, or fewer than two people are left with one.
    """
    if request.people == UNSEEN:
        raise UserError(
            "--protocol known swaps people who were trained on; leave --people out, or say --people any.",
            "known-and-unseen",
        )
    share = picture_share(request.people, models)
    people = {name: files for name, files in list_people(request.data).items() if files}
    trained = trained_people(sorted(people), models, request)
    unseen = unseen_pictures(people, trained, share)
    if len(unseen) < 2:
        raise UserError(
            f"{len(unseen)} of the {len(trained)} trained people in {request.data} have a held-out picture, and "
            "swapping needs two; bring more pictures, or train with a larger config.data.held_out_pictures.",
            "too-few-held-out-pictures",
        )
    drawn = draw_pairs(unseen, sorted(unseen), request.pairs, request.seed)
    training = Training.OTHER_PICTURES if request.people == HELD_OUT and models else Training.PERHAPS
    read_external = partial(ExternalResults, pairs=len(drawn.pairs))
    return ProtocolData(request.data, people, drawn, read_external, training=training)


def picture_share(stated: str, models: Sequence[ModelCandidate]) -> float:
    """The share of their people's pictures that all trainings held out, by the models' cards.

    Args:
      stated: ``--people``; where it says "any", models that held none out may enter.
      models: the models.

    Raises:
      UserError: a training held none out.
    """
    shares = {model.key: _share(model, "held_out_pictures") for model in models}
    without = [key for key, share in shares.items() if not share]
    if without and stated == HELD_OUT:
        raise UserError(
            f"the training of '{without[0]}' held no pictures out (config.data.held_out_pictures), so it has seen "
            "those of its people; train it so, or say --people any to measure it on them all the same.",
            "no-pictures-held-out",
        )
    return min((share for share in shares.values() if share), default=DEFAULT_SHARE)


def trained_people(names: Sequence[str], models: Sequence[ModelCandidate], request: EvaluationRequest) -> list[str]:
    """Those whom every model was trained on: all but the held-out ones, by the cards or ``--held-out-fraction``.

    Where a model draws people by name, only those.
    """
    away = set(held_out(names, max((_share(model, "held_out") for model in models), default=0.0)))
    away |= set(held_out(names, request.held_out_fraction or 0.0, request.held_out_seed))
    drawn = [set(model.swapper.people) for model in models if model.swapper.people]
    return [name for name in names if name not in away and all(name in people for people in drawn)]


def unseen_pictures(people: Mapping[str, Sequence[Path]], names: Sequence[str], share: float) -> dict[str, list[str]]:
    """Of each of these people the pictures that were held out; whoever has none, or nothing but them, is left out."""
    found = {}
    for name in names:
        away = set(held_out([f"{name}/{file.name}" for file in people[name]], share))
        kept_out = [file for file in people[name] if f"{name}/{file.name}" in away]
        theirs = readable(kept_out) if len(kept_out) < len(people[name]) else []
        if theirs:
            found[name] = theirs
    return found


def _share(model: ModelCandidate, what: str) -> float:
    """What a card says; 0 where it says nothing that can be used."""
    share = model.swapper.model.card.get(what)
    return float(share) if isinstance(share, (int, float)) and 0 < share < 1 else 0.0


KNOWN = EvaluationProtocol("known", prepare)
