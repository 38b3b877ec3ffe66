"""What preflight found, as an object, as JSON and as a table."""

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

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


PAPER_CHIPS = tuple(2**i for i in range(2, 10))  # of the weak scaling on paper: 4 … 512
NODE = 8  # GPUs that one switch joins; nothing is published of what lies between nodes
LIBRARY = 0.02  # of a chip's memory that its runtime keeps for itself, at least


@dataclass(frozen=True)
class Program:
    """The compiled step as one chip runs it. Sizes in bytes.

    Attributes:
      arguments: state, frozen network and batch, which stay in memory all the time.
      temporary: what the step needs beside them.
      flops, moved: as the compiler counts them; ``moved`` is 0 where the count is of another machine.
      cycles: the compiler's own estimate, 0 without one.
      lowering, compiling: seconds.
    """

    arguments: int
    temporary: int
    code: int
    flops: float
    moved: float
    cycles: int
    collectives: tuple[Collective, ...]
    lowering: float
    compiling: float


@dataclass(frozen=True)
class Report:
    """All that is said of a step on a slice. Sizes in bytes, a chip's; times in seconds, of a step."""

    where: Slice
    identity: str
    parameters: dict[str, int]
    state: int
    frozen: int
    batch: int
    model_flops: float
    program: Program
    bound: Bound

    @property
    def memory(self) -> int:
        """What a chip must hold at once."""
        return self.program.arguments + self.program.temporary + self.program.code

    @property
    def room(self) -> float:
        """What a chip can hold."""
        return self.where.chip.memory * (1.0 - LIBRARY)

    @property
    def fits(self) -> bool:
        """Whether the step runs on the slice."""
        return self.memory <= self.room

    @property
    def largest_batch(self) -> int:
        """Images per chip, if temporary memory grows with the batch; in truth a part of it does not, so at least."""
        each = (self.program.temporary + self.batch) / self.where.batch_per_chip
        return max(0, int((self.room - self.memory) / each) + self.where.batch_per_chip)

    @property
    def images_per_second(self) -> float:
        """Of the whole slice, at most."""
        return self.where.batch_per_chip * self.where.chips / self.bound.seconds

    def mfu(self, seconds: float) -> float:
        """Model FLOPs over what the chip could have done in that time."""
        return self.model_flops * self.where.batch_per_chip / (seconds * self.where.chip.peak_flops)

    @property
    def compiler_seconds(self) -> float:
        """A step by the TPU compiler's estimate of its fusions, and the collectives that nothing hides; 0 without."""
        clock = self.where.chip.clock
        return self.program.cycles / clock + self.bound.small_collectives if clock and self.program.cycles else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what the table shows, in bytes, seconds and FLOPs."""
        return {
            "hardware": self.where.topology,
            "chips": self.where.chips,
            "batch_per_chip": self.where.batch_per_chip,
            "identity_network": self.identity,
            "parameters": self.parameters,
            "memory_per_chip": self._memory_per_chip(),
            "fits": self.fits,
            "largest_batch_per_chip": self.largest_batch,
            "flops_per_image": {"model": self.model_flops, "program": self.program.flops / self.where.batch_per_chip},
            "bytes_moved_per_chip": self.program.moved,
            "collectives": self._collectives(),
            "upper_bound": self._upper_bound(),
            "compiler_estimate": self._compiler_estimate(),
            "weak_scaling": self._weak_scaling(),
            "seconds": {"lowering": self.program.lowering, "compiling": self.program.compiling},
        }

    def _memory_per_chip(self) -> dict[str, int]:
        return {
            "state": self.state,
            "frozen": self.frozen,
            "batch": self.batch,
            "temporary": self.program.temporary,
            "code": self.program.code,
            "total": self.memory,
            "available": int(self.room),
        }

    def _collectives(self) -> dict[str, dict[str, int]]:
        """Kind → how many, and their bytes together."""
        kinds = Counter[str]()
        sizes = Counter[str]()
        for one in self.program.collectives:
            kinds[one.kind] += 1
            sizes[one.kind] += one.bytes
        return {kind: {"count": kinds[kind], "bytes": sizes[kind]} for kind in kinds}

    def _upper_bound(self) -> dict[str, Any]:
        return {
            **asdict(self.bound),
            "seconds": self.bound.seconds,
            "by": self.bound.by,
            "images_per_second": self.images_per_second,
            "mfu": self.mfu(self.bound.seconds),
            "exchange_share": self.bound.exposed_share,
        }

    def _compiler_estimate(self) -> dict[str, float] | None:
        seconds = self.compiler_seconds
        if not seconds:
            return None
        images = self.where.batch_per_chip * self.where.chips
        return {"seconds": seconds, "images_per_second": images / seconds, "mfu": self.mfu(seconds)}

    def _weak_scaling(self) -> list[dict[str, float]]:
        numbers = [chips for chips in PAPER_CHIPS if self.where.chip.is_tpu or chips <= NODE]
        program = self.program
        return weak_scaling(program.flops, program.moved, program.collectives, self.where, numbers)


def table(report: Report) -> str:
    """The report as aligned lines."""
    said = report.as_dict()
    memory, where = said["memory_per_chip"], report.where
    upper, by_compiler = said["upper_bound"], said["compiler_estimate"]
    rows = [
        (
            "slice",
            f"{where.topology}, {where.chips} × {where.chip.name}; {where.batch_per_chip} images per chip",
        ),
        ("identity network", report.identity),
        ("parameters", " · ".join(f"{name} {number / 1e6:.1f} M" for name, number in report.parameters.items())),
        *[(f"{name} per chip", mebi(memory[name])) for name in ("state", "frozen", "batch", "temporary", "code")],
        ("memory per chip", f"{mebi(memory['total'])} of {mebi(memory['available'])}"),
        ("largest batch per chip", f"{report.largest_batch} (by proportion; at least)"),
        (
            "FLOPs per image",
            f"model {report.model_flops / 1e9:.1f} G · program {said['flops_per_image']['program'] / 1e9:.1f} G",
        ),
        ("bytes moved per chip", f"{report.program.moved / 1e9:.2f} GB" if report.program.moved else "not known"),
    ]
    for kind, numbers in said["collectives"].items():
        rows.append((kind, f"{numbers['count']} × , {mebi(numbers['bytes'])} in all"))
    rows += [
        ("arithmetic at peak", f"{1e3 * upper['arithmetic']:.2f} ms"),
        ("memory at peak", f"{1e3 * upper['memory']:.2f} ms" if report.program.moved else "not known"),
        ("large collectives", f"{1e3 * upper['large_collectives']:.2f} ms, hidden behind the arithmetic"),
        ("small collectives", f"{1e3 * upper['small_collectives']:.2f} ms, on top"),
        (
            "UPPER BOUND",
            f"{upper['images_per_second']:.0f} images/s, {100 * upper['mfu']:.1f} % MFU, bound by {upper['by']}",
        ),
    ]
    if by_compiler:
        rows.append(
            (
                "compiler's cycles",
                f"{by_compiler['images_per_second']:.0f} images/s, {100 * by_compiler['mfu']:.1f} % MFU",
            )
        )
    for row in said["weak_scaling"]:
        rows.append(
            (
                f"on paper, {row['chips']} chips",
                f"≤ {row['images_per_second']:.0f} images/s, exchange {100 * row['exchange_share']:.1f} % of the step",
            )
        )
    rows.append(("compiled in", f"{said['seconds']['lowering']:.0f} + {said['seconds']['compiling']:.0f} s"))
    rows.append(("fits", "yes" if report.fits else "NO"))
    return "\n".join(f"{name:<24}{value}" for name, value in rows)


def mebi(size: float) -> str:
    """Bytes for people."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
