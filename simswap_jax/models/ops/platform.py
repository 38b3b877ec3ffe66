"""The choice between forms of one operation: some compilers need another order of the same sums."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

from jax import lax

_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)


@contextlib.contextmanager
def lowering_for(platform: str | None) -> Iterator[None]:
    """Traces made inside hold only the forms for ``platform``: "cpu", "gpu", "tpu" or "", the plain ones, whatever
    this machine has; or, for None, those of all platforms, as outside of any such context.
    """
    token = _chosen.set(platform)
    try:
        yield
    finally:
        _chosen.reset(token)


def traced_for(platform: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its trace holding only the forms for a platform; for whoever compiles for a known one.

    The trace is smaller. And the gradient of a parameter that is used several times stays the same to the last bit as
    if there were one form only: with all forms in the trace, JAX sums the parts of each use before it adds the uses.
    """

    @functools.wraps(function)
    def traced(*arguments: Any, **named: Any) -> Any:
        with lowering_for(platform):
            return function(*arguments, **named)

    return traced


def by_platform(
    *arguments: Any,
    default: Callable[..., Any],
    cpu: Callable[..., Any] | None = None,
    gpu: Callable[..., Any] | None = None,
    tpu: Callable[..., Any] | None = None,
) -> Any:
    """``default(*arguments)``, the plain form; or on a CPU, GPU or TPU the one written for it.

    Inside `lowering_for` that platform's form is traced. Elsewhere all are, and a program keeps that of the platform
    it is lowered for.
    """
    forms = {name: form for name, form in (("cpu", cpu), ("gpu", gpu), ("tpu", tpu)) if form is not None}
    platform = _chosen.get()
    if platform is not None:
        return forms.get(platform, default)(*arguments)
    named = {name: form for key, form in forms.items() for name in (("cuda", "rocm") if key == "gpu" else (key,))}
    return lax.platform_dependent(*arguments, default=default, **named)
