"""What a compiled step moves between chips, and the least time that published peaks allow it."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from simswap_jax.training.chips import Chip, Slice

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
BITS = {"pred": 8, "bf16": 16, **{f"{kind}{bits}": bits for kind in "fsu" for bits in (8, 16, 32, 64)}}
# A gradient's collective can go on while others are computed. A batch norm's statistics, a few kilobytes, cannot: the
# next layer waits for them.
SMALL = 2**20
UNKNOWN = 2**62  # cycles; the compiler for v6e says 2^63 − 1 of a fusion that it cannot judge

_COLLECTIVE = re.compile(rf"= (\(.*?\)|\S+) ({'|'.join(KINDS)})(-start)?\(")
_ARRAY = re.compile(r"([a-z]+\d+|pred)\[([\d,]*)\]")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


@dataclass(frozen=True)
class Collective:
    """One exchange between chips.

    Attributes:
      kind: as XLA calls it.
      bytes: of its result on one chip.
      where: the operation of the step that asked for it, as JAX names it.
    """

    kind: str
    bytes: int
    where: str

    def seconds(self, among: Slice) -> float:
        """The least it can take on a slice: bytes over all of a chip's links, and the way to the farthest chip.

        An all-reduce moves every byte twice (reduce, then gather), the others once.
        """
        if among.chips == 1:
            return 0.0
        times = 2 if self.kind == "all-reduce" else 1
        moved = times * self.bytes * (among.chips - 1) / among.chips
        return moved / among.chip.link + among.hops * among.chip.hop


@dataclass(frozen=True)
class Bound:
    """An upper bound of the speed, from a lower bound of a step's time. Seconds, of one step.

    The step takes at least what its arithmetic takes at the peak, at least what its bytes take, at least what its large
    collectives take; the small ones come on top, because nothing can hide them.
    """

    arithmetic: float
    memory: float
    large_collectives: float
    small_collectives: float

    @property
    def seconds(self) -> float:
        """Of a step, at least."""
        return max(self.arithmetic, self.memory, self.large_collectives) + self.small_collectives

    @property
    def by(self) -> str:
        """What takes longest."""
        parts = {"arithmetic": self.arithmetic, "memory": self.memory, "interconnect": self.large_collectives}
        return max(parts, key=lambda name: parts[name])

    @property
    def exposed_share(self) -> float:
        """Part of the step that is spent on nothing but exchange."""
        rest = max(self.arithmetic, self.memory)
        return 1.0 - rest / self.seconds if self.seconds else 0.0


def array_bytes(text: str) -> int:
    """Bytes of the arrays that a type in HLO's notation names: ``(f32[4,2]{1,0}, bf16[8])`` → 48."""
    return sum(
        math.prod(int(length) for length in shape.split(",") if length) * BITS.get(kind, 32) // 8
        for kind, shape in _ARRAY.findall(text)
    )


def collectives(program: str, in_a_loop: int = 1) -> list[Collective]:
    """The collectives of a compiled program.

    Args:
      program: ``compiled.as_text()``.
      in_a_loop: how often what stands outside the entry computation runs: the micro-batches of a step.
    """
    found = []
    entered = False
    for line in program.splitlines():
        if line[:1] not in (" ", "}", ""):
            entered = line.startswith("ENTRY")
        if match := _COLLECTIVE.search(line):
            arrays, kind, start = match.groups()
            size = array_bytes(arrays)
            if start and kind != "all-reduce" and arrays.startswith("("):
                size = max((array_bytes(one) for one in re.findall(r"\w+\[[\d,]*\]", arrays)), default=0)
            name = re.search(r'op_name="([^"]*)"', line)
            one = Collective(kind, size, name[1] if name else "")
            found += [one] * (1 if entered else in_a_loop)
    return found


def estimated_cycles(program: str) -> int:
    """The TPU compiler's own estimate of the cycles of all fusions; 0 where it made none, or none for one of them."""
    estimates = [int(cycles) for cycles in _CYCLES.findall(program)]
    return 0 if any(cycles >= UNKNOWN for cycles in estimates) else sum(estimates)


def bound(flops: float, moved: float, exchanged: Iterable[Collective], among: Slice) -> Bound:
    """The least time of a step.

    Args:
      flops: of one chip.
      moved: bytes to and from one chip's memory.
      exchanged: the program's collectives.
      among: the slice that they go around.
    """
    exchanged = list(exchanged)
    return Bound(
        flops / among.chip.peak_flops,
        moved / among.chip.bandwidth,
        sum(one.seconds(among) for one in exchanged if one.bytes >= SMALL),
        sum(one.seconds(among) for one in exchanged if one.bytes < SMALL),
    )


def torus(chip: Chip, chips: int) -> tuple[int, ...]:
    """The most compact slice of so many chips (a power of two): as square, or cubic, as it can be."""
    lengths = [1] * chip.axes
    for _ in range(chips.bit_length() - 1):
        lengths[lengths.index(min(lengths))] *= 2
    return tuple(sorted(lengths))


def weak_scaling(
    flops: float, moved: float, exchanged: Iterable[Collective], like: Slice, chips: Iterable[int]
) -> list[dict[str, float]]:
    """The bound on other numbers of chips, each with the same part of the batch. On paper: nothing is compiled again.

    Returns:
      rows of chips, seconds a step, images a second and the share of the step that is spent on exchange only.
    """
    exchanged = list(exchanged)
    rows = []
    for count in chips:
        among = Slice(like.chip, torus(like.chip, count), like.batch_per_chip)
        least = bound(flops, moved, exchanged, among)
        rows.append(
            {
                "chips": count,
                "seconds": least.seconds,
                "images_per_second": count * like.batch_per_chip / least.seconds,
                "exchange_share": least.exposed_share,
            }
        )
    return rows
