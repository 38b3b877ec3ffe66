"""What preflight found, as an object, as JSON and as a table."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from simswap_jax.hardware.roofline import Bound, Collective, weak_scaling
from simswap_jax.training.chips import Slice

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
