"""Losses from outside: weighted, added and reported, or refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.contrib.small_models import split_batch
from simswap_jax.errors import UserError
from simswap_jax.training import simswap
from simswap_jax.training.config import default_config
from simswap_jax.training.experiment import flat
from simswap_jax.training.extra_losses import extra_losses, try_extra_losses, with_extra_losses
from simswap_jax.training.loop import train
from simswap_jax.training.schedules import loss_weights
from simswap_jax.training.step import generator_loss
from tests.support.errors import raises_user_error
from tests.support.small_method import small_batch, small_config, small_method
from tests.support.small_run import small_identity

HERE = "tests.training.test_extra_losses"


def redness(inputs):
    """Mean red of the results: what a user would write."""
    assert inputs.result.shape == inputs.target.shape == (4, 32, 32, 3)
    assert inputs.identity.shape == inputs.result_identity.shape == (4, 8)
    return jnp.mean(inputs.result[..., 0])


def per_sample(inputs):
    return jnp.mean(inputs.result, (1, 2, 3))


def raises(inputs):
    return jnp.mean(inputs.result @ np.ones((7, 7), np.float32))


def silent(inputs):
    raise AssertionError


def of_another_shape(inputs):
    raise ValueError(f"{inputs.result.shape} {inputs.result_identity.shape}\nand more")


def branches(inputs):
    return inputs.result.mean() if inputs.result.mean() > 0 else 0.0


def without_gradient(inputs):
    total = jnp.mean(inputs.result)
    return jax.lax.while_loop(lambda x: x < 1.0, lambda x: x + total, total)


def two_arguments(inputs, weight):
    return weight * jnp.mean(inputs.result)


def nothing_given(inputs):
    jnp.mean(inputs.result)


def counted(inputs):
    return jnp.sum(inputs.same_person)


def complex_number(inputs):
    return jnp.fft.fft2(inputs.result).mean()


@functools.cache
def kept():
    return jnp.ones(3)


def keeps(inputs):
    return jnp.mean(inputs.result * kept().reshape(1, 1, 1, 3))


def over_devices(inputs):
    return jax.lax.pmean(jnp.mean(inputs.result), "data")


def interrupted(inputs):
    raise KeyboardInterrupt


def told(inputs):
    raise UserError("set VGG16_WEIGHTS.", "of-the-users-own")


ours = 0.5


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


def try_one(function):
    try_extra_losses(extra_losses(with_extra(mine={"function": f"{HERE}:{function}", "weight": 1.0})), 4, 32, 8)


@pytest.mark.parametrize(
    ("function", "code", "named"),
    [
        ("raises", "extra-loss-raised", ["TypeError: dot_general requires"]),
        ("silent", "extra-loss-raised", ["raised AssertionError; it is given one LossInputs"]),
        ("of_another_shape", "extra-loss-raised", ["ValueError: (4, 32, 32, 3) (4, 8); it is given"]),
        ("branches", "extra-loss-raised", ["TracerBoolConversionError"]),
        ("without_gradient", "extra-loss-raised", ["while_loop"]),
        ("two_arguments", "extra-loss-raised", ["missing 1 required positional argument: 'weight'"]),
        ("ours", "extra-loss-raised", ["'float' object is not callable"]),
        ("per_sample", "extra-loss-not-scalar", ["(4,)"]),
        ("nothing_given", "extra-loss-not-scalar", ["NoneType"]),
        ("counted", "extra-loss-not-float", ["int32"]),
        ("complex_number", "extra-loss-not-float", ["complex64"]),
        ("keeps", "extra-loss-keeps-arrays", ["NumPy"]),
        ("told", "of-the-users-own", ["VGG16_WEIGHTS"]),
    ],
)
def test_what_a_loss_does_wrong_is_one_sentence_before_the_training(function, code, named):
    with raises_user_error(code, *([] if function == "told" else ["'mine'", f"{HERE}:{function}"]), *named):
        try_one(function)


def test_what_is_right_passes_and_ctrl_c_stays_ctrl_c():
    try_one("redness")
    with pytest.raises(KeyboardInterrupt):
        try_one("interrupted")


@pytest.mark.parametrize(("devices", "accumulate", "axis_name", "seen"), [(0, 2, None, 8), (2, 2, "data", 4)])
def test_a_method_tries_its_losses_on_the_shapes_of_its_step(devices, accumulate, axis_name, seen):
    config = with_extra(mine={"function": f"{HERE}:of_another_shape", "weight": 1.0})
    config.devices, config.accumulate = devices, accumulate
    config.generator.preset, config.generator.widths, config.generator.blocks = "", (4, 8), 1
    identity = small_method(small_config()).identity
    with raises_user_error("extra-loss-raised", f"({seen}, 32, 32, 3) ({seen}, 8)"):
        simswap.from_networks(config, identity, axis_name)


def test_a_loss_may_average_over_the_mapped_axis_and_over_no_other():
    config = with_extra(mine={"function": f"{HERE}:over_devices", "weight": 1.0})
    config.devices, config.generator.preset, config.generator.widths, config.generator.blocks = 2, "", (4, 8), 1
    identity = small_method(small_config()).identity
    assert simswap.from_networks(config, identity, "data").extra
    for axis_name in (None, "other"):
        with raises_user_error("extra-loss-raised", "NameError", "data"):
            simswap.from_networks(config, identity, axis_name)


def test_a_loss_that_fails_leaves_no_workdir(tmp_path):
    config = with_extra(mine={"function": f"{HERE}:raises", "weight": 1.0})
    config.generator.preset, config.generator.widths, config.generator.blocks = "", (4, 8), 1
    config.discriminator.widths = (4, 4)
    config.data.root, config.identity.weights = str(tmp_path / "not there"), small_identity(tmp_path / "identity")
    with raises_user_error("extra-loss-raised", "mine"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_module_that_does_not_compile_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "broken_losses.py").write_text("def loss(inputs:\n")
    monkeypatch.syspath_prepend(tmp_path)
    with raises_user_error("config-cannot-be-imported", "config.losses.extra.mine.function", "SyntaxError"):
        simswap.check(with_extra(mine={"function": "broken_losses:loss", "weight": 1.0}))


def test_a_method_without_extra_losses_refuses_them():
    config = with_extra(red={"function": f"{HERE}:redness", "weight": 1.0})
    config.data.pairing, config.data.size = "mixed", 224
    with raises_user_error("split-batch-extra-losses", "red"):
        split_batch.check(config)
