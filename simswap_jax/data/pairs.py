"""Which source with which target: a pure function of seed and index, the same on every machine and after every restart.

Sample number `index` of a training run is slot ``index % batch_size`` of step ``index // batch_size``. Its target is
drawn evenly over all pictures, or over those that may be targets, with replacement. A same-person source is another
picture of the target's person, drawn evenly (the same picture where there is only one). A different person's source is
drawn evenly over the other people, then over that person's pictures, so that people with many pictures do not crowd out
the rest.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from simswap_jax.errors import UserError


@dataclass(frozen=True)
class Pair:
    """One sample: which pictures, and whether each is mirrored."""

    target: int
    source: int
    same_person: bool
    flip_target: bool
    flip_source: bool


@dataclass(frozen=True)
class PairingOptions:
    """How a training run pairs its pictures.

    ``"alternate"`` is the paper's: even steps are all of same-person pairs, odd steps all of different people.
    ``"mixed"``: the first ``round(same_fraction * batch_size)`` samples of every step are same-person.

    Attributes:
      seed: another seed, other pairs.
      batch_size: samples a step over all hosts; at least 2.
      mode: how same-person pairs are spread over steps.
      same_fraction: of ``"mixed"``; 0 to 1.
      flip: mirror every target and every source with probability ½, independently.
      same: ``"person"``, SimSwap's: the source of a same-person pair is another picture of that person; ``"picture"``,
        FaceShifter's: it is the target itself.

    Raises:
      UserError: a batch of one, an unknown mode, a fraction out of range.
    """

    seed: int
    batch_size: int
    mode: Literal["alternate", "mixed"] = "alternate"
    same_fraction: float = 0.5
    flip: bool = True
    same: Literal["person", "picture"] = "person"

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            sentence = f"The batch size is {self.batch_size}, and batch norm needs two or more; set batch_size higher."
            raise UserError(sentence, "batch-too-small")
        if self.mode not in ("alternate", "mixed"):
            sentence = f"There is no pairing mode {self.mode!r}; choose 'alternate' or 'mixed'."
            raise UserError(sentence, "no-pairing-mode")
        if not 0 <= self.same_fraction <= 1:
            raise UserError(f"same_fraction is {self.same_fraction}; set it between 0 and 1.", "same-fraction-range")

    @property
    def same_samples(self) -> int:
        """Same-person samples in each step of ``"mixed"``."""
        return round(self.same_fraction * self.batch_size)


class Pairing:
    """The pairs of a training run, shared out over hosts.

    Host h of n sees slots h·B/n to (h+1)·B/n − 1 of every step: the hosts' batches, one after the other, are the batch
    of a single host.
    """

    def __init__(
        self,
        person: np.ndarray,
        options: PairingOptions,
        *,
        host_index: int = 0,
        host_count: int = 1,
        targets: np.ndarray | None = None,
    ) -> None:
        """Args:
          person: int [N], whose each picture is, counted from 0.
          options: how they are paired.
          host_index, host_count: which part of each batch this host sees.
          targets: int [M], M > 0, the pictures that targets are drawn from; None for all. Sources are drawn from all.

        Raises:
          UserError: fewer than two people, or a batch that the hosts cannot share evenly.
        """
        self.person = np.asarray(person, np.int64)
        self.options, self.host_index, self.host_count = options, host_index, host_count
        self.targets = np.arange(len(self.person)) if targets is None else np.asarray(targets, np.int64)
        self.order = np.argsort(self.person, kind="stable")  # the pictures, person after person
        self.counts = np.bincount(self.person)
        self.starts = np.cumsum(self.counts) - self.counts
        self.people = np.flatnonzero(self.counts)
        self.rank = np.empty_like(self.order)  # of a picture among its person's
        self.rank[self.order] = np.arange(len(self.order)) - self.starts[self.person[self.order]]
        if len(self.people) < 2:
            sentence = (
                f"Pairs of different people need at least two people, and there are {len(self.people)}; "
                "add people or hold out fewer."
            )
            raise UserError(sentence, "too-few-people")
        check_shared_evenly(options.batch_size, host_index, host_count)

    @property
    def local_batch_size(self) -> int:
        """Samples a step on this host."""
        return self.options.batch_size // self.host_count

    def global_index(self, local: int) -> int:
        """The index of this host's sample number `local`."""
        step, slot = divmod(local, self.local_batch_size)
        return step * self.options.batch_size + self.host_index * self.local_batch_size + slot

    def is_same_person(self, index: int) -> bool:
        """Whether sample `index` is to be a same-person pair."""
        step, slot = divmod(index, self.options.batch_size)
        return step % 2 == 0 if self.options.mode == "alternate" else slot < self.options.same_samples

    def pair(self, index: int) -> Pair:
        """Sample `index` of the run, counted over all hosts; any order, any number of times.

        Args:
          index: 0 or more.
        """
        # The second word is drawn and not used: the pairs of former versions stay as they are.
        target_draw, _, source_draw, other_draw, target_coin, source_coin = random_words(self.options.seed, index, 6)
        target = int(self.targets[below(target_draw, len(self.targets))])
        person = int(self.person[target])
        same = self.is_same_person(index)
        flips = [self.options.flip and bool(below(coin, 2)) for coin in (target_coin, source_coin)]
        if same and self.options.same == "picture":
            return Pair(target, target, same, flips[0], flips[0])
        if same:
            source = self._another(target, person, source_draw)
        else:
            source = self._of_another_person(person, other_draw, source_draw)
        return Pair(target, source, same, *flips)

    def _picture(self, person: int, rank: int) -> int:
        return int(self.order[self.starts[person] + rank])

    def _another(self, picture: int, person: int, draw: int) -> int:
        count = int(self.counts[person])
        if count == 1:
            return picture
        rank = below(draw, count - 1)
        return self._picture(person, rank + (rank >= int(self.rank[picture])))

    def _of_another_person(self, person: int, other_draw: int, draw: int) -> int:
        own = int(np.searchsorted(self.people, person))
        chosen = below(other_draw, len(self.people) - 1)
        other = int(self.people[chosen + (chosen >= own)])
        return self._picture(other, below(draw, int(self.counts[other])))


def check_shared_evenly(batch_size: int, host_index: int, host_count: int) -> None:
    """Raise a UserError where hosts cannot share a batch evenly, or this is none of them."""
    if batch_size % host_count or not 0 <= host_index < host_count:
        sentence = (
            f"A batch of {batch_size} does not divide evenly over {host_count} hosts (this is host {host_index}); "
            f"set batch_size to a multiple of {host_count}."
        )
        raise UserError(sentence, "batch-indivisible")


def random_words(seed: int, index: int, count: int) -> list[int]:
    """The first `count` uniform 64-bit numbers that belong to (seed, index). Philox is a counter: there is no state
    to carry.
    """
    words = np.random.Philox(key=seed % 2**64, counter=[0, index, 0, 0]).random_raw(count)
    return [int(word) for word in words]


def below(word: int, count: int) -> int:
    """A uniform 64-bit number as one of 0 … count − 1 (biased by less than count / 2⁶⁴)."""
    return word * count >> 64
