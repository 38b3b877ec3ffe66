"""Losses from outside: weighted, added and reported, or refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.contrib.small_models import split_batch
from simswap_jax.training import simswap
from simswap_jax.training.config import default_config
from simswap_jax.training.experiment import flat
from simswap_jax.training.extra_losses import extra_losses, with_extra_losses
from simswap_jax.training.schedules import loss_weights
from simswap_jax.training.step import generator_loss
from tests.support.errors import raises_user_error
from tests.support.small_method import small_batch, small_config, small_method

HERE = "tests.training.test_extra_losses"


def redness(inputs):
    """Mean red of the results: what a user would write."""
    assert inputs.result.shape == inputs.target.shape == (4, 32, 32, 3)
    assert inputs.identity.shape == inputs.result_identity.shape == (4, 8)
    return jnp.mean(inputs.result[..., 0])


def per_sample(inputs):
    return jnp.mean(inputs.result, (1, 2, 3))


def with_extra(**entries):
    config = small_config()
    for name, entry in entries.items():
        config.losses.extra[name] = entry
    return config


@pytest.mark.slow
def test_an_extra_loss_is_weighted_added_and_reported():
    config = with_extra(red={"function": f"{HERE}:redness", "weight": 5.0})
    config.losses.extra.red.weight = 3.0  # as --config.losses.extra.red.weight=3 does
    method = small_method(config, scales=1)
    weights = loss_weights(config, jnp.int32(0))

    @jax.jit
    def both(key):
        state = method.init(key)
        floats = method.decode(jax.tree.map(jnp.asarray, small_batch(0, 4)))
        arguments = (state, {**floats, "identity": jnp.eye(8)[:4]}, method.frozen)
        given = (state.networks["generator"].params, method.networks)
        added = with_extra_losses(generator_loss, extra_losses(config))
        return [each(*given, weights, *arguments) for each in (added, generator_loss)]

    (total, (result, _, terms)), (without, (_, _, former)) = both(jax.random.key(0))
    assert terms.keys() - former.keys() == {"extra/red"}
    assert float(terms["extra/red"]) == pytest.approx(float(np.mean(result[..., 0])), rel=1e-5)
    assert float(total - without) == pytest.approx(3.0 * float(terms["extra/red"]), rel=1e-4)
    assert float(terms["generator"]) == float(total)


def test_there_is_none_unless_asked_for():
    assert with_extra_losses(generator_loss, extra_losses(default_config())) is generator_loss
    assert not [name for name in flat(default_config().to_dict()) if "extra" in name]  # old workdirs fit


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"function": f"{HERE}:redness"}, "config-extra-loss"),
        ({"function": f"{HERE}:redness", "weight": "much"}, "config-extra-loss"),
        ({"function": f"{HERE}:redness", "weight": float("nan")}, "config-extra-loss"),
        ({"function": f"{HERE}:redness", "weight": 1.0, "wieght": 2.0}, "config-extra-loss"),
        (f"{HERE}:redness", "config-extra-loss"),
        ({"function": f"{HERE}:nothing", "weight": 1.0}, "config-cannot-be-imported"),
    ],
)
def test_an_entry_that_is_none_is_refused_before_anything_is_built(entry, code):
    with raises_user_error(code, "config.losses.extra.wrong"):
        simswap.check(with_extra(wrong=entry))


def test_a_loss_for_each_sample_is_refused_by_name():
    loss = extra_losses(with_extra(each={"function": f"{HERE}:per_sample", "weight": 1.0}))[0]
    with raises_user_error("extra-loss-not-scalar", "each", "(4,)"):
        loss.function(type("Inputs", (), {"result": np.zeros((4, 2, 2, 3))}))


def test_a_method_without_extra_losses_refuses_them():
    config = with_extra(red={"function": f"{HERE}:redness", "weight": 1.0})
    config.data.pairing, config.data.size = "mixed", 224
    with raises_user_error("split-batch-extra-losses", "red"):
        split_batch.check(config)
