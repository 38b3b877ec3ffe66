"""The choice between forms of one operation: some compilers need another order of the same sums."""

from collections.abc import Callable
from typing import Any

from jax import lax


def by_platform(
    *arguments: Any,
    default: Callable[..., Any],
    cpu: Callable[..., Any] | None = None,
    tpu: Callable[..., Any] | None = None,
) -> Any:
    """``default(*arguments)``, or on a CPU or TPU the form written for it.

    All forms are traced; a program keeps only that of the platform it is lowered for, whatever this machine has.
    """
    forms = {name: form for name, form in (("cpu", cpu), ("tpu", tpu)) if form is not None}
    return lax.platform_dependent(*arguments, default=default, **forms)
