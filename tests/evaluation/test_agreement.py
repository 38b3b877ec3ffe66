"""Agreement of a metric with the true error."""

import numpy as np
import pytest

from simswap_jax.evaluation.agreement import within_pairs


def test_the_correlation_is_averaged_over_the_pairs():
    worse = within_pairs(np.array([[0, 0], [1, 2], [2, 1.0]]), np.array([[0, 0], [1, 1], [2, 2.0]]), [0, 1])
    assert worse.mean == pytest.approx(0.75)
