"""A convolution gives the library's numbers, and so do its derivatives of the first and second order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from simswap_jax.models.ops.convolution import convolution


def plain(x, kernel, stride, padding):
    pads = ((padding, padding), (padding, padding))
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def slopes_of(function):
    """A scalar of a convolution, and a penalty on its slopes to both arguments."""

    def smooth(x, kernel):
        return jnp.sum(jnp.tanh(function(x, kernel)))

    def penalty(x, kernel):
        to_x, to_kernel = jax.grad(smooth, (0, 1))(x, kernel)
        return jnp.sum(jnp.sin(to_x)) + jnp.sum(jnp.square(to_kernel))

    return smooth, penalty


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(4, 2, 1), (3, 2, 1), (3, 2, 0), (3, 1, 1), (7, 1, 0), (1, 2, 0)]
)
def test_numbers_and_derivatives_are_the_librarys(kernel, stride, padding):
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 9, 8, 3)))
        weights = jnp.asarray(np.random.default_rng(1).standard_normal((kernel, kernel, 3, 5)))
        ours = slopes_of(lambda x, k: convolution(x, k, stride, padding))
        theirs = slopes_of(lambda x, k: plain(x, k, stride, padding))
        for one, other in zip(ours, theirs, strict=True):
            (a, da), (b, db) = (jax.jit(jax.value_and_grad(f, (0, 1)))(x, weights) for f in (one, other))
            np.testing.assert_allclose(a, b, rtol=1e-12)
            for ga, gb in zip(da, db, strict=True):
                np.testing.assert_allclose(ga, gb, atol=1e-11)


def test_no_result_is_turned_round():
    """What libtpu's compiler for v5p fell over, and what XLA's CPU back end is slow at."""
    x, kernel = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32), jax.ShapeDtypeStruct((4, 4, 3, 5), jnp.float32)
    _, ours = slopes_of(lambda x, k: convolution(x, k, 2, 1))
    _, theirs = slopes_of(lambda x, k: plain(x, k, 2, 1))

    def turned(function):
        """How many results of convolutions are reversed; kernels may be."""
        program = jax.jit(jax.grad(function, (0, 1))).lower(x, kernel).as_text()
        reversed_names = [
            line.split("reverse ")[1].split(",")[0] for line in program.splitlines() if ".reverse " in line
        ]
        made = [line.split("=")[0].strip() for line in program.splitlines() if "stablehlo.convolution" in line]
        return sum(name in made for name in reversed_names)

    assert turned(ours) == 0
    assert turned(theirs) > 0
