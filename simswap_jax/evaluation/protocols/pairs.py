"""Which swaps are judged: pairs of held-out people, drawn once from a seed and kept as JSON for others to repeat."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.io.atomic import write_text


@dataclass(frozen=True)
class Pair:
    """One swap to judge; files are named as ``person/picture`` under the data's root.

    Attributes:
      source: gives the identity.
      target: is re-drawn.
      witness: another picture of the source's person, which shows how near a real photo comes; None if there is none.
    """

    source: str
    target: str
    witness: str | None


@dataclass(frozen=True)
class Protocol:
    """The swaps of one evaluation.

    Attributes:
      seed: of the drawing.
      people: names of the held-out people.
      pairs: what is swapped.
    """

    seed: int
    people: tuple[str, ...]
    pairs: tuple[Pair, ...]


def draw(pictures: Mapping[str, Sequence[str]], names: Sequence[str], count: int, seed: int = 0) -> Protocol:
    """Draw pairs of different people.

    Every person is source equally often (give or take one), and target equally often; pictures are drawn at random.

    Args:
      pictures: person → names of their picture files.
      names: the held-out people, all of them in ``pictures``.
      count: how many pairs.
      seed: of the drawing.

    Raises:
      UserError: fewer than two people, or no pair asked for.
    """
    names = sorted(names)
    if len(names) < 2:
        raise UserError(f"{len(names)} of the people are held out; swapping needs two: hold out a larger part.")
    if count < 1:
        raise UserError(f"{count} pairs were asked for; ask for at least one.")
    random = np.random.default_rng(seed)
    pairs: list[Pair] = []
    while len(pairs) < count:
        # A random cycle through everybody: each once source, once target, never both.
        order = [names[i] for i in random.permutation(len(names)).tolist()]
        for source, target in zip(order, order[1:] + order[:1]):
            files = [pictures[source][i] for i in random.permutation(len(pictures[source]))[:2].tolist()]
            face = pictures[target][int(random.integers(len(pictures[target])))]
            witness = f"{source}/{files[1]}" if len(files) > 1 else None
            pairs.append(Pair(f"{source}/{files[0]}", f"{target}/{face}", witness))
    return Protocol(seed, tuple(names), tuple(pairs[:count]))


def save(path: str | Path, protocol: Protocol) -> None:
    """Write a protocol as JSON, whole or not at all."""
    write_text(path, json.dumps(asdict(protocol), indent=1) + "\n")


def load(path: str | Path) -> Protocol:
    """Read a protocol.

    Raises:
      UserError: the file is missing or not a protocol.
    """
    try:
        read = json.loads(Path(path).read_text(encoding="utf-8"))
        return Protocol(int(read["seed"]), tuple(read["people"]), tuple(Pair(**pair) for pair in read["pairs"]))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); name a protocol that an evaluation wrote."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a protocol ({error}); name one that an evaluation wrote.") from error
