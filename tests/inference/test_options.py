"""Options of a swap as people write them."""

import pytest

from simswap_jax import SwapOptions


@pytest.mark.parametrize("given", [{"keep": "mouth", "source_faces": 2}, {"keep": ["mouth"], "source_faces": [2]}])
def test_one_alone_needs_no_tuple(given):
    options = SwapOptions(**given)
    assert (options.keep, options.source_faces) == (("mouth",), (2,))
