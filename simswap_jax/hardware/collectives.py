"""What the chips of a slice exchange in a step, read from the program's text, and the least time that it takes."""

import math
import re
from dataclasses import dataclass

import numpy as np

from simswap_jax.hardware.program import Operation, ProgramText, array_bytes, awaited
from simswap_jax.training.chips import Slice

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")

_LISTED = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_COUNTED = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\] *\{([^}]*)\}")


@dataclass(frozen=True)
class Collective:
    """One exchange between chips.

    Attributes:
      kind: as XLA calls it.
      bytes: of its result on one chip.
      where: the operation of the step that asked for it, as JAX names it.
      group: the chips that exchange with the first one; empty for all of the slice.
    """

    kind: str
    bytes: int
    where: str
    group: tuple[int, ...] = ()

    def chips(self, among: Slice) -> tuple[int, int]:
        """(chips of a host, hosts) that take part; a TPU slice is one network."""
        if among.hosts == 1:
            return len(self.group) or among.chips, 1
        each = among.chips // among.hosts
        hosts = len({number // each for number in self.group}) or among.hosts
        return (len(self.group) or among.chips) // hosts, hosts

    def sent(self, among: Slice) -> tuple[float, float]:
        """Bytes that a chip sends over the links of its host or slice, and over the network between hosts.

        An all-reduce moves every byte twice (reduce, then gather), the others once. Between hosts each chip moves its
        own part of what its host has reduced.
        """
        each, hosts = self.chips(among)
        moved = (2 if self.kind == "all-reduce" else 1) * self.bytes
        moved *= each * hosts if self.kind == "reduce-scatter" else 1  # its result is one chip's part
        return moved * (each - 1) / each, moved / each * (hosts - 1) / hosts

    def seconds(self, among: Slice) -> float:
        """The least it can take: bytes over all of a chip's links, and the way to the farthest chip."""
        if among.chips == 1 or len(self.group) == 1:
            return 0.0
        links, network = self.sent(among)
        between = network / among.chip.network if network else 0.0
        return max(links / among.chip.link, between) + among.hops * among.chip.hop


def collectives(program: ProgramText, loops: int = 1) -> list[Collective]:
    """The collectives that a compiled program runs, those inside a fusion included.

    Args:
      loops: iterations of a loop for which the compiler states none: the micro-batches of a step.
    """
    found = []
    for _, operation, times in program.run(loops):
        for each in (operation, *(inner for _, inner in program.inside(operation))):
            if each.kind.removesuffix("-start") in KINDS:
                found += [_collective(each)] * times
    return found


def _collective(operation: Operation) -> Collective:
    kind = operation.kind.removesuffix("-start")
    waits = kind != operation.kind and kind != "all-reduce"  # its result names the operand again
    size = array_bytes(awaited(operation.result) if waits else operation.result)
    return Collective(kind, size, operation.asked_by, group_of(operation.rest))


def group_of(line: str) -> tuple[int, ...]:
    """The first of an operation's ``replica_groups``; empty for all.

    They are listed, counted (``[2,4]<=[4,2]T(1,0)``), or axes of a mesh (``mesh['a'=4,'b'=2] {'b'}``).
    """
    if match := _LISTED.search(line):
        return _integers(match[1])
    if match := _COUNTED.search(line):
        shape, counted = _integers(match[1]), _integers(match[2])
        numbers = np.arange(math.prod(counted)).reshape(counted)
        numbers = numbers.transpose(_integers(match[3])) if match[3] else numbers
        return tuple(int(number) for number in numbers.reshape(shape)[0])
    if match := _MESH.search(line):
        lengths = {name: int(length) for name, length in re.findall(r"'(\w+)'=(\d+)", match[1])}
        numbers = np.arange(math.prod(lengths.values())).reshape(tuple(lengths.values()))
        along = re.findall(r"'(\w+)'", match[2])
        return tuple(int(number) for number in numbers[tuple(slice(None) if n in along else 0 for n in lengths)].flat)
    return ()


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))
