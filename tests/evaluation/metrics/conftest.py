"""Rendered people for the metrics."""

import numpy as np
import pytest

from simswap_jax.contrib.rendered import dataset


@pytest.fixture(scope="module")
def drawn():
    """Eight rendered people with six pictures each: pictures, whose, and their attributes."""
    who = np.repeat(dataset.sample_people(5, 8), 6, axis=0)
    attributes = dataset.sample_attributes(6, len(who))
    return dataset.render(who, attributes, 64), np.repeat(np.arange(8), 6), attributes
