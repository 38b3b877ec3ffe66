"""What a training may run on: published peaks of the chips and the slices of ``configs/hardware``."""

import functools
import importlib.resources
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from simswap_jax.errors import UserError

FOLDER = importlib.resources.files("simswap_jax.configs") / "hardware"
CHIPS = "chips.yaml"


@dataclass(frozen=True)
class Chip:
    """Published peaks of one accelerator; units as ``configs/hardware/chips.yaml`` says."""

    name: str
    kinds: tuple[str, ...]
    peak_flops: float
    memory: float
    bandwidth: float
    link: float
    hop: float
    source: str
    clock: float = 0.0
    axes: int = 1
    libtpu: Mapping[str, str] = field(default_factory=dict)
    network: float = 0.0
    target: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_tpu(self) -> bool:
        """Whether libtpu compiles for it."""
        return self.kinds[0].startswith("TPU")


@dataclass(frozen=True)
class Slice:
    """Chips that train together.

    Attributes:
      torus: chips along each axis; of GPUs how many a node has, or nodes and GPUs of each.
      batch_per_chip: pictures that a chip gets of each batch, unless the command says otherwise.
    """

    chip: Chip
    torus: tuple[int, ...]
    batch_per_chip: int

    @property
    def chips(self) -> int:
        """How many."""
        return math.prod(self.torus)

    @property
    def hosts(self) -> int:
        """Nodes of GPUs, which a network joins; 1 for a TPU slice, which is one network."""
        return 1 if self.chip.is_tpu else math.prod(self.torus[:-1])

    @property
    def topology(self) -> str:
        """As libtpu calls it: ``v5e:16x16``."""
        return f"{self.chip.name}:{'x'.join(str(length) for length in self.torus)}"

    @property
    def hops(self) -> int:
        """Chips that a number passes on its way to the farthest chip of the torus and back, as a ring reduction."""
        if not self.chip.is_tpu:  # a switch joins them
            return 2 * len(self.torus) if self.chips > 1 else 0
        return sum(2 * (length // 2) for length in self.torus)


@functools.cache
def chips() -> dict[str, Chip]:
    """The chips of ``configs/hardware/chips.yaml``, by name."""
    rows = yaml.safe_load((FOLDER / CHIPS).read_text(encoding="utf-8"))
    return {name: Chip(name, **{**row, "kinds": tuple(row["kinds"])}) for name, row in rows.items()}


def chip_of(device_kind: str) -> Chip | None:
    """The chip that JAX calls so, or None: nothing is known of its peaks (a CPU, say)."""
    return next((chip for chip in chips().values() if device_kind in chip.kinds), None)


def read(source: str | Path) -> Slice:
    """A slice.

    Args:
      source: a YAML file with ``chip``, ``topology`` and ``batch_per_chip``, or as libtpu calls it, ``v5e:16x16``.

    Raises:
      UserError: there is no such file, chip or field.
    """
    if match := re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", str(source)):
        return _slice({"chip": match[1], "topology": match[2], "batch_per_chip": 16}, str(source))
    path = Path(source).expanduser()
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(sorted(Path(entry.name).stem for entry in FOLDER.iterdir() if entry.name != CHIPS))
        raise UserError(
            f"there is no hardware file {source}; name one of configs/hardware ({known}) or a slice such as v5e:16x16.",
            "hardware-file-missing",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"the hardware file {source} is no YAML; it needs chip, topology, batch_per_chip.", "hardware-file-damaged"
        ) from error
    return _slice(described, str(source))


def _slice(described: Any, source: str) -> Slice:
    wanted = ("chip", "topology", "batch_per_chip")
    if not isinstance(described, dict) or sorted(described) != sorted(wanted):
        raise UserError(
            f"{source} is no hardware file; it needs exactly the fields {', '.join(wanted)}.", "hardware-fields"
        )
    chip = chips().get(described["chip"])
    if chip is None:
        raise UserError(
            f"{source} names the chip '{described['chip']}'; choose one of {', '.join(chips())}.", "hardware-chip"
        )
    torus = str(described["topology"])
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", torus):
        raise UserError(
            f"{source} has the topology '{torus}'; write chips along each axis, such as 4x4x8.", "hardware-topology"
        )
    batch = described["batch_per_chip"]
    if not isinstance(batch, int) or batch < 1:
        raise UserError(f"{source} has batch_per_chip {batch!r}; give a whole number from 1 on.", "hardware-batch")
    return Slice(chip, tuple(int(length) for length in torus.split("x")), batch)
