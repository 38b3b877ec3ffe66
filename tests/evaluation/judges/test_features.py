"""Feature networks named by a path."""

import numpy as np
import pytest

from simswap_jax.evaluation.judges.networks import open_features
from tests.support.onnx_networks import onnx_network
from tests.support.small_model import faces


@pytest.mark.parametrize(("values", "centre", "spread"), [("255", 0, 1), ("unit", 0, 255), ("symmetric", 127.5, 127.5)])
def test_a_feature_network_gets_the_values_it_wants_and_maps_are_averaged(tmp_path, values, centre, spread):
    path = onnx_network(tmp_path / "maps.onnx", [("Identity", ["image"], ["out"], {})], ["n", 3, 4, 4])
    pictures = faces(5, 4)
    wanted = ((pictures.astype(np.float64) - centre) / spread).mean(axis=(1, 2))
    np.testing.assert_allclose(open_features(path, values).features(list(pictures)), wanted, rtol=1e-4, atol=1e-5)
    assert open_features(path, values).sha256.endswith(values)
