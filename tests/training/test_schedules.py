"""The weights of the losses by step."""

from dataclasses import asdict

import jax.numpy as jnp
import pytest

from simswap_jax.training.config import default_config
from simswap_jax.training.schedules import loss_weights


def weights_at(step, **losses):
    """The weights of the paper's losses at a step, by name."""
    config = default_config()
    config.losses.update(losses)
    return asdict(loss_weights(config, jnp.asarray(step, jnp.int32)))


@pytest.mark.parametrize(("step", "share"), [(0, 0.1), (5, 0.55), (10, 1.0), (99, 1.0)])
def test_the_generators_other_weights_grow_from_a_tenth(step, share):
    constant = weights_at(step)
    for name in ("reconstruction", "adversarial", "feature_matching"):
        constant[name] *= share
    assert weights_at(step, rest_ramp=10) == pytest.approx(constant)


@pytest.mark.parametrize(("step", "share"), [(0, 0.1), (4, 0.5), (9, 1.0), (99, 1.0)])
def test_the_identity_weight_grows_from_nothing(step, share):
    constant = weights_at(step)
    constant["identity"] *= share
    assert weights_at(step, identity_ramp=10) == pytest.approx(constant)


def test_the_papers_weights_are_constant():
    assert weights_at(0) == weights_at(10**6)
    assert min(weights_at(0)[name] for name in ("identity", "reconstruction", "adversarial", "feature_matching")) > 0
