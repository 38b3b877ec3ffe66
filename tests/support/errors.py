"""What tests say of a UserError: its code and the values it names; its wording stands in one snapshot only."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from simswap_jax.errors import UserError


@contextmanager
def raises_user_error(code: str, *named: object) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """Expect a UserError of this code whose sentence names these values."""
    with pytest.raises(UserError) as caught:
        yield caught
    assert caught.value.code == code, f"code {caught.value.code!r}: {caught.value}"
    for value in named:
        assert str(value) in str(caught.value)
