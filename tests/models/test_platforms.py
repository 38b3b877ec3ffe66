"""What is lowered for a GPU or a TPU gives the numbers of what is lowered for a CPU, and so do its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.models.ops import resize
from simswap_jax.models.ops.platform import lowering_for, traced_for


def both(platform, function, *arguments):
    """(value, gradients) traced for a CPU and for another platform, run here."""
    results = []
    for each in ("cpu", platform):
        with lowering_for(each):
            # A new function each time: what was traced for one platform must not serve the other.
            results.append(
                jax.jit(jax.value_and_grad(lambda *a: function(*a), tuple(range(len(arguments)))))(*arguments)
            )
    return results


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
@pytest.mark.parametrize(
    "layer",
    [
        resize.upsample_bilinear,
        lambda x: resize.reflect_pad(x, 3),
        lambda x: resize.resize_bicubic(x, 3, 4),
        lambda x: resize.resize_bicubic(x, 5, 3),
    ],
)
@pytest.mark.parametrize(("dtype", "away"), [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_a_layer_gives_the_same_numbers(layer, dtype, away, platform):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 8, 3)), dtype)
    wanted = layer(x)
    with lowering_for(platform):
        np.testing.assert_allclose(jnp.float32(layer(x)), jnp.float32(wanted), atol=3 * away)
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(wanted.shape), jnp.float32)
    (a, (da,)), (b, (db,)) = both(platform, lambda x: jnp.sum(layer(x) * weights), x)
    assert abs(a - b) <= 100 * away
    np.testing.assert_allclose(jnp.float32(da), jnp.float32(db), atol=8 * away)


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize("size", [3, 5, 8])
def test_a_step_may_be_traced_while_nothing_may_be_sent_to_a_device(size, platform):
    """As the first step of a training is."""
    x = jnp.ones((1, 6, 6, 3))
    slope = jax.jit(traced_for(platform, jax.grad(lambda x: jnp.sum(resize.resize_bicubic(x, size, size) ** 2))))
    with jax.transfer_guard("disallow"):
        slope(x).block_until_ready()


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_a_padded_map_is_the_same_to_the_bit(platform):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 6, 5, 2)), jnp.float32)
    with lowering_for(platform):
        np.testing.assert_array_equal(resize.reflect_pad(x, 2), np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), "reflect"))


@pytest.mark.parametrize("layer", [resize.upsample_bilinear, lambda x: resize.reflect_pad(x, 3)])
def test_a_program_lowered_for_a_tpu_holds_matrix_products(layer):
    with lowering_for(None):
        slope = jax.jit(jax.grad(lambda x: jnp.sum(layer(x) ** 2))).trace(jnp.ones((2, 5, 7, 3)))
    programs = {name: slope.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda", "tpu")}
    assert [name for name, text in programs.items() if "dot_general" in text] == ["tpu"]
