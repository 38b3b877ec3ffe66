"""Padding and resizing against plain formulas and PyTorch's definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.models.ops import resize
from simswap_jax.models.ops.convolution import convolve
from simswap_jax.models.ops.upsampling import in_phases
from tests.models.test_layers import gradients_agree, random, same


def test_doubling_is_half_pixel_bilinear_and_so_is_its_gradient():
    def reference(x):
        return jax.image.resize(x, (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3]), "bilinear")

    gradients_agree(resize.upsample_bilinear, reference, random(2, 5, 3, 4))
    gradients_agree(resize.upsample_bilinear, reference, random(1, 1, 2, 1))


@pytest.mark.parametrize("size", [5, 16, 23])
def test_bicubic_is_torchs(size):
    x = random(1, 11, 11, 1)

    def cubic(t):
        t, a = abs(t), -0.75
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0

    # Torch clamps the index of a tap beyond the edge; no anti-aliasing.
    weights = np.zeros((size, 11))
    for i in range(size):
        centre = (i + 0.5) * 11 / size - 0.5
        for tap in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            weights[i, np.clip(tap, 0, 10)] += cubic(centre - tap)
    with jax.default_matmul_precision("highest"):
        same(resize.resize_bicubic(x, size, size)[0, :, :, 0], weights @ np.asarray(x)[0, :, :, 0] @ weights.T)
    same(resize._bicubic_matrix(11, size), weights)


def test_bicubic_halving_is_bicubic_resizing():
    def reference(x):
        return jax.image.resize(x, (2, 8, 6, 3), "cubic-pytorch", antialias=False)

    gradients_agree(lambda x: resize.resize_bicubic(x, 8, 6), reference, random(2, 16, 12, 3))


@pytest.mark.parametrize(("height", "width"), [(5, 4), (2, 2), (1, 3)])
def test_a_convolution_by_phases_is_that_of_the_doubled_map(height, width):
    def upsampled_first(x, kernel):
        return convolve(resize.upsample_bilinear(x), kernel, 1, 1)

    gradients_agree(in_phases, upsampled_first, random(2, height, width, 3), random(3, 3, 3, 4, seed=1))


def test_nearest_takes_the_floor():
    x = jnp.arange(224.0).reshape(1, 224, 1, 1) * jnp.ones((1, 1, 5, 1))
    np.testing.assert_array_equal(resize.resize_nearest(x, 112, 5)[0, :, 0, 0], np.arange(112) * 2)
    np.testing.assert_array_equal(resize.resize_nearest(x, 150, 5)[0, :, 0, 0], np.arange(150) * 224 // 150)


def test_aligned_corners():
    x = random(1, 4, 6, 2)
    y = resize.resize_bilinear_corners(x, 13, 16)
    same(y[:, ::4, ::3], x)
    same(y[0, 2, 0], (x[0, 0, 0] + x[0, 1, 0]) / 2)


def test_space_to_depth_keeps_a_square_together():
    x = random(2, 6, 4, 3)
    folded = resize.pixel_unshuffle(x, 2)
    assert folded.shape == (2, 3, 2, 12)
    same(folded[0, 0, 0].reshape(2, 2, 3), x[0, :2, :2])


def test_a_map_too_small_to_mirror_is_named():
    with pytest.raises(ValueError, match="2×9 cannot be mirrored by 3"):
        resize.reflect_pad(jnp.zeros((1, 2, 9, 1)), 3)
