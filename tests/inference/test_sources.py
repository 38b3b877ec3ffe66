"""Sources of generators that take pictures, as rows of numbers that may be scaled."""

import numpy as np

from simswap_jax.inference import sources


def test_rows_of_any_scale_are_the_pictures_again():
    pictures = np.random.default_rng(0).uniform(size=(3, 12)).astype(np.float32)
    rows = np.concatenate([pictures, np.ones((3, 1), np.float32)], axis=1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(sources.unscaled(rows), pictures, atol=1e-6)
    points = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    given = sources.with_target_points(rows, points)
    np.testing.assert_allclose(given, np.concatenate([pictures, points.reshape(3, 8)], axis=1), atol=1e-6)
