"""Checks the shapes that annotations name (jaxtyping), by beartype, in every call that the tests make."""

import functools
import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

SHAPED = re.compile(r"\b(Shaped|Num|Real|Inexact|Float|Integer|Int|UInt|Bool|Key|Complex)\d*\[")
LENIENT = BeartypeConf(is_pep484_tower=True)  # an int may be given for a float


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
    """The function with its arguments and result checked, if its annotations name shapes; else as it is.

    A network's NumPy arrays are handed on as JAX's, as every function of jax.numpy does.
    """
    if not names_shapes(function):
        return function
    strict = beartype(function, conf=LENIENT)
    if function.__module__.startswith("simswap_jax.faces"):  # geometry is NumPy's
        return strict

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        given = [jnp.asarray(value) if isinstance(value, np.ndarray) else value for value in arguments]
        return strict(*given, **{key: jnp.asarray(v) if isinstance(v, np.ndarray) else v for key, v in named.items()})

    return call
