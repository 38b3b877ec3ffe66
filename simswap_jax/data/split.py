"""Which people are held out: decided by each name alone, so that adding people moves nobody from one side to the
other.
"""

import zlib
from collections.abc import Iterable


def held_out(names: Iterable[str], fraction: float, seed: int = 0) -> list[str]:
    """The names that are kept from training, in the order given.

    A person is held out when ``crc32(f"{seed}/{name}") / 2**32 < fraction``.

    Args:
      names: people's names.
      fraction: about what part of them, 0 to 1.
      seed: another seed, another choice.

    Raises:
      ValueError: when the fraction is not between 0 and 1.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"The held-out fraction is {fraction}; give one between 0 and 1.")
    return [name for name in names if _position(name, seed) < fraction]


def _position(name: str, seed: int) -> float:
    return zlib.crc32(f"{seed}/{name}".encode("utf-8", "surrogateescape")) / 2**32
