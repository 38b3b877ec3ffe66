"""What preflight found, as an object, as JSON and as a table."""

import functools
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from simswap_jax.hardware import breakdown
from simswap_jax.hardware.collectives import Collective
from simswap_jax.hardware.costs import Cost
from simswap_jax.training.chips import Chip, Slice

# A gradient's collective can go on while others are computed. A batch norm's statistics, a few kilobytes, cannot: the
# next layer waits for them.
SMALL = 2**20


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


def bound(flops: float, moved: float, exchanged: Iterable[Collective], among: Slice) -> Bound:
    """The least time of a step.

    Args:
      flops: of one chip's step.
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
    """The most compact slice of so many chips (a power of two): as square, or cubic, as it can be; nodes of GPUs."""
    if not chip.is_tpu:
        return (chips,) if chips <= NODE else (chips // NODE, NODE)
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
NODE = 8  # GPUs that one switch joins
LIBRARY = 0.02  # of a chip's memory that its runtime keeps for itself, at least
JAX_SHARE = 0.75  # of a GPU's memory that JAX uses where XLA_PYTHON_CLIENT_MEM_FRACTION says nothing


@dataclass(frozen=True)
class Program:
    """The compiled step as one chip runs it. Sizes in bytes.

    Attributes:
      arguments: state, frozen network and batch, which stay in memory all the time.
      temporary: what the step needs beside them.
      flops, moved: as the TPU compiler counts them; on GPUs counted in the program's text.
      cycles: the compiler's own estimate, 0 without one.
      lowering, compiling: seconds.
      costs: of every operation.
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
    costs: tuple[Cost, ...] = ()


@dataclass(frozen=True)
class Report:
    """All that is said of a step on a slice. Sizes in bytes, a chip's; times in seconds, of a step.

    Attributes:
      growth: bytes that one more image takes, from compiling for two batches; 0 where only one was compiled.
    """

    where: Slice
    identity: str
    parameters: dict[str, int]
    state: int
    frozen: int
    batch: int
    model_flops: float
    program: Program
    growth: float = 0.0

    @property
    def flops(self) -> float:
        """A chip's FLOPs of a step in the bound: the larger of program and model, so that no bound is over 100 % MFU.

        A program may have fewer than the formula counts: gradients to pictures that nothing made need not be computed.
        """
        return max(self.program.flops, self.model_flops * self.where.batch_per_chip)

    @functools.cached_property
    def bound(self) -> Bound:
        """The least time of a step."""
        return bound(self.flops, self.program.moved, self.program.collectives, self.where)

    @property
    def memory(self) -> int:
        """What a chip must hold at once."""
        return self.program.arguments + self.program.temporary + self.program.code

    @property
    def available_memory(self) -> float:
        """What a chip can hold."""
        return self.where.chip.memory * (1.0 - LIBRARY)

    @property
    def fits(self) -> bool:
        """Whether the step runs on the slice."""
        return self.memory <= self.available_memory

    @property
    def memory_fraction(self) -> float | None:
        """What XLA_PYTHON_CLIENT_MEM_FRACTION must be at least, in hundredths; None where JAX's own share is enough."""
        share = self.memory / self.where.chip.memory
        needed = not self.where.chip.is_tpu and self.fits and share > JAX_SHARE
        return math.ceil(100 * share) / 100 if needed else None

    @property
    def largest_batch(self) -> int:
        """Images per chip. Without ``growth`` all temporary memory counts as growing: at least so many."""
        each = self.growth if self.growth > 0 else (self.program.temporary + self.batch) / self.where.batch_per_chip
        return max(0, math.floor((self.available_memory - self.memory) / each) + self.where.batch_per_chip)

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

    @property
    def one_by_one_seconds(self) -> float:
        """A step on GPUs if operations follow each other, each at its own bound; 0 where the compiler has cycles."""
        if self.where.chip.clock:
            return 0.0
        own = sum(cost.seconds(self.where.chip) for cost in self.program.costs)
        least = max(self.bound.arithmetic, self.bound.large_collectives)
        return max(own, least) + self.bound.small_collectives if own else 0.0

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
            "memory_fraction": self.memory_fraction,
            "largest_batch_per_chip": self.largest_batch,
            "bytes_per_image": self.growth or None,
            "flops_per_image": {"model": self.model_flops, "program": self.program.flops / self.where.batch_per_chip},
            "bytes_moved_per_chip": self.program.moved,
            "collectives": self._collectives(),
            "upper_bound": self._upper_bound(),
            "compiler_estimate": self._speed(self.compiler_seconds),
            "one_by_one": self._speed(self.one_by_one_seconds),
            "weak_scaling": self._weak_scaling(),
            "breakdown": breakdown.breakdown(self.program.costs, self.where.chip),
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
            "available": int(self.available_memory),
        }

    def _collectives(self) -> dict[str, dict[str, float]]:
        """Kind → how many, their bytes together, and what of it a chip sends: over its links and between hosts."""
        said: dict[str, dict[str, float]] = {}
        for one in self.program.collectives:
            links, network = one.sent(self.where)
            row = said.setdefault(one.kind, {"count": 0, "bytes": 0, "over_links": 0.0, "over_network": 0.0})
            for name, value in (("count", 1), ("bytes", one.bytes), ("over_links", links), ("over_network", network)):
                row[name] += value
        return said

    def _upper_bound(self) -> dict[str, Any]:
        return {
            **asdict(self.bound),
            "seconds": self.bound.seconds,
            "by": self.bound.by,
            "images_per_second": self.images_per_second,
            "mfu": self.mfu(self.bound.seconds),
            "exchange_share": self.bound.exposed_share,
        }

    def _speed(self, seconds: float) -> dict[str, float] | None:
        """What a step of so many seconds means; None for 0."""
        if not seconds:
            return None
        images = self.where.batch_per_chip * self.where.chips
        return {"seconds": seconds, "images_per_second": images / seconds, "mfu": self.mfu(seconds)}

    def _weak_scaling(self) -> list[dict[str, float]]:
        program = self.program
        # One chip's program exchanges nothing and says nothing of more; what FSDP splits depends on how many there are.
        kinds = {one.kind for one in program.collectives}
        numbers = PAPER_CHIPS if self.where.chips > 1 and "reduce-scatter" not in kinds else ()
        return weak_scaling(self.flops, program.moved, program.collectives, self.where, numbers)


def table(report: Report) -> str:
    """The report as aligned lines, the breakdown below."""
    said = report.as_dict()
    rows = [*_memory_rows(report, said), *_work_rows(report, said), *_speed_rows(report, said)]
    lines = [f"{name:<24}{value}" for name, value in rows]
    return "\n".join([*lines, "", breakdown.table(said["breakdown"])] if report.program.costs else lines)


Rows = list[tuple[str, str]]


def _memory_rows(report: Report, said: dict[str, Any]) -> Rows:
    memory, where = said["memory_per_chip"], report.where
    how = "by compiling for two batches" if report.growth > 0 else "by proportion; at least"
    return [
        ("slice", f"{where.topology}, {where.chips} × {where.chip.name}; {where.batch_per_chip} images per chip"),
        ("identity network", report.identity),
        ("parameters", " · ".join(f"{name} {number / 1e6:.1f} M" for name, number in report.parameters.items())),
        *[(f"{name} per chip", mebi(memory[name])) for name in ("state", "frozen", "batch", "temporary", "code")],
        ("memory per chip", f"{mebi(memory['total'])} of {mebi(memory['available'])}"),
        ("largest batch per chip", f"{report.largest_batch} ({how})"),
    ]


def _work_rows(report: Report, said: dict[str, Any]) -> Rows:
    of_program = said["flops_per_image"]["program"]
    rows = [
        ("FLOPs per image", f"model {report.model_flops / 1e9:.1f} G · program {of_program / 1e9:.1f} G"),
        ("bytes moved per chip", f"{report.program.moved / 1e9:.2f} GB"),
    ]
    for kind, numbers in said["collectives"].items():
        network = numbers["over_network"]
        sent = mebi(numbers["over_links"]) + (f", between hosts {mebi(network)}" if network else "")
        rows.append((kind, f"{numbers['count']} × , {mebi(numbers['bytes'])} in all; a chip sends {sent}"))
    return rows


def _speed_rows(report: Report, said: dict[str, Any]) -> Rows:
    upper, by_compiler = said["upper_bound"], said["compiler_estimate"]
    whose = ", of the model's FLOPs" if report.flops > report.program.flops else ""
    hidden = "the longest of the three" if upper["by"] == "interconnect" else "hidden behind the longest of the three"
    rows = [
        ("arithmetic at peak", f"{1e3 * upper['arithmetic']:.2f} ms{whose}"),
        ("memory at peak", f"{1e3 * upper['memory']:.2f} ms"),
        ("large collectives", f"{1e3 * upper['large_collectives']:.2f} ms, {hidden}"),
        ("small collectives", f"{1e3 * upper['small_collectives']:.2f} ms, on top"),
        ("UPPER BOUND", f"{_speed(upper)}, bound by {upper['by']}"),
    ]
    if by_compiler:
        rows.append(("compiler's cycles", _speed(by_compiler)))
    elif said["one_by_one"]:
        rows.append(("operations one by one", f"{_speed(said['one_by_one'])}: each at its own bound"))
    for row in said["weak_scaling"]:
        share = 100 * row["exchange_share"]
        speed = f"≤ {row['images_per_second']:.0f} images/s, exchange {share:.1f} % of the step"
        rows.append((f"on paper, {row['chips']} chips", speed))
    fraction = said["memory_fraction"]
    setting = f", with XLA_PYTHON_CLIENT_MEM_FRACTION={fraction} or more" if fraction else ""
    return [
        *rows,
        ("compiled in", f"{said['seconds']['lowering']:.0f} + {said['seconds']['compiling']:.0f} s"),
        ("fits", f"yes{setting}" if report.fits else "NO"),
    ]


def _speed(estimate: dict[str, Any]) -> str:
    return f"{estimate['images_per_second']:.0f} images/s, {100 * estimate['mfu']:.1f} % MFU"


def mebi(size: float) -> str:
    """Bytes for people."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
