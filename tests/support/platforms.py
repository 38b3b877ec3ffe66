"""Runs on this machine the forms of operations that are written for other platforms."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from simswap_jax.models.ops import convolution, resize


@contextmanager
def other_platforms_forms(name: str = "default") -> Iterator[None]:
    """Traces made inside hold every operation's form for ``"tpu"``, or the plain one; jit new functions in it."""

    def chosen(*arguments: Any, default: Callable[..., Any], **forms: Callable[..., Any]) -> Any:
        return forms.get(name, default)(*arguments)

    with patch.object(convolution, "by_platform", chosen), patch.object(resize, "by_platform", chosen):
        yield
