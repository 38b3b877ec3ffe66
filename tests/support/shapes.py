"""Checks the shapes that annotations name (jaxtyping), by beartype, in every call that the tests make."""

import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import AbstractArray

SHAPED = re.compile(r"\b(Shaped|Num|Real|Inexact|Float|Integer|Int|UInt|Bool|Key|Complex)\d*\[")
# An int may be given for a float, and a NumPy array for JAX's, as in every call of jax.numpy.
LENIENT = BeartypeConf(
    is_pep484_tower=True, hint_overrides=FrozenDict({jax.Array: jax.Array | np.ndarray | np.generic})
)


def names_shapes(function: Callable[..., Any]) -> bool:
    """Whether one of a function's annotations is an array with its shape."""
    return any(mentions(hint) for hint in getattr(function, "__annotations__", {}).values())


def mentions(hint: Any) -> bool:
    """Whether a hint is an array with its shape, or holds one: ``tuple[Float[Array, "b d"], ...]``."""
    if isinstance(hint, str):  # `from __future__ import annotations`
        return bool(SHAPED.search(hint))
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(mentions, getattr(hint, "__args__", ())))


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its arguments and result checked, if its annotations name shapes; else as it is."""
    return beartype(function, conf=LENIENT) if names_shapes(function) else function
