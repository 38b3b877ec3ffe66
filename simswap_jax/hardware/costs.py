"""What each operation of a compiled program costs: bytes, FLOPs, the TPU compiler's cycles, and the least time."""

import math
import re
from dataclasses import dataclass

from simswap_jax.hardware.program import Computation, Operation, ProgramText, array_bytes, arrays, awaited
from simswap_jax.training.chips import Chip

UNKNOWN = 2**62  # cycles; the compiler for v6e says 2^63 − 1 of a fusion that it cannot judge
SLICES = frozenset(("slice", "dynamic-slice", "gather"))

_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


@dataclass(frozen=True)
class Cost:
    """What one operation of a program costs, all its runs in a step together.

    Attributes:
      kind: as HLO calls it, or the library function: ``fusion``, ``__cudnn$convForward`` …
      asked_by: the operation of the traced step: ``jit(step)/jvp(Generator)/up1/conv/…``; empty where the compiler
        added it.
      line: of this package, as ``ProgramText.made_by`` says it.
      bytes: read and written.
      flops: of convolutions and matrix products.
      cycles: the TPU compiler's estimate; 0 without one.
    """

    name: str
    kind: str
    asked_by: str
    line: str
    bytes: int
    flops: int
    cycles: int

    def seconds(self, chip: Chip) -> float:
        """By the compiler's cycles; without them the longer of arithmetic and bytes at the chip's peaks."""
        if chip.clock:
            return self.cycles / chip.clock
        return max(self.flops / chip.peak_flops, self.bytes / chip.bandwidth)

    @property
    def scope(self) -> str:
        """Where in the traced step it belongs, whatever line numbers are: ``asked_by`` up to its layer."""
        return self.asked_by.rpartition("/")[0] or self.asked_by or f"(compiler's {self.kind})"


def costs(program: ProgramText, loops: int = 1) -> list[Cost]:
    """Costs of all operations that a program runs.

    Args:
      loops: iterations of a loop for which the compiler states none: the micro-batches of a step.
    """
    return [
        Cost(
            name=operation.name,
            kind=operation.target or operation.kind,
            asked_by=operation.asked_by,
            line=program.made_by(operation),
            bytes=times * moved(program, computation, operation),
            flops=times * flops(program, computation, operation),
            cycles=times * cycles(operation),
        )
        for computation, operation, times in program.run(loops)
    ]


def cycles(operation: Operation) -> int:
    """The TPU compiler's estimate; 0 where it made none."""
    match = _CYCLES.search(operation.rest)
    number = int(match[1]) if match else 0
    return number if number < UNKNOWN else 0


def estimated_cycles(program: str) -> int:
    """The TPU compiler's own estimate of the cycles of all fusions; 0 where it made none, or none for one of them."""
    estimates = [int(number) for number in _CYCLES.findall(program)]
    return 0 if any(number >= UNKNOWN for number in estimates) else sum(estimates)


def moved(program: ProgramText, computation: Computation, operation: Operation) -> int:
    """Bytes that an operation reads and writes: results and operands, once each.

    A cuDNN or cuBLAS call's workspace is not counted; of an operand that a fusion takes slices of, only they are.
    """
    written = array_bytes(operation.result)
    if operation.kind.endswith("-start") and operation.kind != "all-reduce-start":  # its result names the operand again
        written = array_bytes(awaited(operation.result))
    elif operation.target.startswith("__cu"):
        written = array_bytes(re.sub(r", [us]8\[\d+\]\{0\}\)$", ")", operation.result))
    sliced = _sliced(program, operation)
    return written + sum(
        sliced.get(operation.operands.index(name), array_bytes(computation[name].result))
        for name in dict.fromkeys(operation.operands)
        if name in computation
    )


def _sliced(program: ProgramText, operation: Operation) -> dict[int, int]:
    """Number of an operand → bytes of its slices, for operands that a fusion reads nothing else of."""
    if operation.kind != "fusion" or not operation.calls:
        return {}
    inner = program.computations.get(operation.calls[0], {})
    found: dict[int, int] = {}
    for parameter in (each for each in inner.values() if each.kind == "parameter"):
        readers = [each for each in inner.values() if parameter.name in each.operands]
        number = re.match(r"\d+", parameter.rest)
        if number and readers and all(each.kind in SLICES and each.operands[0] == parameter.name for each in readers):
            read = sum(array_bytes(each.result) for each in readers)
            found[int(number[0])] = min(read, array_bytes(parameter.result))
    return found


def flops(program: ProgramText, computation: Computation, operation: Operation) -> int:
    """FLOPs of the convolutions and matrix products of an operation, those inside a fusion included."""
    return 2 * (products(computation, operation) + sum(products(*inner) for inner in program.inside(operation)))


def products(computation: Computation, operation: Operation) -> int:
    """Multiply-adds of a convolution or matrix product, as HLO's own operation or as a library call; else 0."""
    if operation.kind == "convolution" or operation.target.startswith("__cudnn$conv"):
        return _convolution(computation, operation)
    if operation.kind == "dot" or operation.target.startswith("__cublas$"):
        return _product(computation, operation)
    return 0


def _shape(computation: Computation, name: str) -> tuple[int, ...]:
    found = arrays(computation[name].result) if name in computation else []
    return found[0][1] if found else ()


def _convolution(computation: Computation, operation: Operation) -> int:
    """Numbers of the map that the convolution makes forward times numbers of a filter, whichever of the three it is."""
    made = arrays(operation.result)[0][1]
    first, second = (_shape(computation, name) for name in operation.operands[:2])
    output, kernel = made, second
    if "BackwardFilter" in operation.target:
        output, kernel = second, made
    elif "BackwardInput" in operation.target:
        output = first
    labels = re.search(r"dim_labels=\w+_(\w+)->", operation.rest)
    if not labels or len(labels[1]) != len(kernel):
        return 0
    # A transposed convolution's input has zeros between its numbers, which are not multiplied.
    dilation = re.search(r"lhs_dilate=([\dx]+)", operation.rest)
    zeros = math.prod(map(int, dilation[1].split("x"))) if dilation else 1
    return math.prod(output) * math.prod(kernel) // max(1, kernel[labels[1].index("o")] * zeros)


def _product(computation: Computation, operation: Operation) -> int:
    """Numbers of the result times the length that is summed over."""
    numbers = operation.notes.get("gemm_backend_config", {}).get("dot_dimension_numbers", {})
    axes = [int(axis) for axis in numbers.get("lhs_contracting_dimensions", ())]
    if match := re.search(r"lhs_contracting_dims=\{([\d,]*)\}", operation.rest):
        axes = [int(axis) for axis in match[1].split(",") if axis]
    left = _shape(computation, operation.operands[0])
    return math.prod(arrays(operation.result)[0][1]) * math.prod(left[axis] for axis in axes if axis < len(left))
