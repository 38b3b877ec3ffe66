"""What stands around an update: micro-batches, and the guard against numbers that are not finite."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simswap_jax.io.atomic import write_text
from simswap_jax.models.ops.platform import lowering_for
from simswap_jax.training.metrics import JsonLines, Progress
from simswap_jax.training.state import NetworkState, TrainState
from simswap_jax.training.update import (
    SKIPPED,
    NonFiniteMonitor,
    accumulated_gradients,
    exponential_moving_average,
    in_given_layout,
    micro_batches,
    per_sample_random,
    skip_nonfinite_update,
)
from tests.support.small_method import small_batch, small_config, small_method


@pytest.fixture
def state():
    """One network of one weight, with a statistic that counts."""
    optimizer = optax.adam(0.1)
    params = {"w": jnp.asarray([2.0])}
    network = NetworkState(params, {"batch_stats": {"seen": jnp.zeros(())}}, optimizer.init(params))
    return TrainState.create(jax.random.PRNGKey(0), {"net": network}, {"w": jnp.asarray([2.0])})


def take(state, batch):
    """Gradient of the mean of (w·x)², the number of values seen so far, the loss."""
    network = state.networks["net"]
    value, slope = jax.value_and_grad(lambda p: jnp.mean(jnp.square(p["w"] * batch["x"])))(network.params)
    seen = network.collections["batch_stats"]["seen"] + batch["x"].size
    return {"net": slope}, {"net": {"batch_stats": {"seen": seen}}}, {"loss": value}


def test_samples_are_dealt_out_in_turn():
    dealt = micro_batches({"x": jnp.arange(6)}, 3)["x"]
    np.testing.assert_array_equal(dealt, [[0, 3], [1, 4], [2, 5]])


def test_accumulated_gradients_are_those_of_the_whole_batch(state):
    batch = {"x": jnp.arange(12.0)}
    expected = take(state, batch)
    found = accumulated_gradients(take, state, batch, 4)
    assert float(expected[2]["loss"]) > 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"accumulate": 2}, {"nonfinite_limit": 3}])
def test_the_step_keeps_the_states_shape(changes):
    method = small_method(small_config(**changes))
    before = jax.eval_shape(method.init, jax.random.PRNGKey(0))
    after, metrics = jax.eval_shape(method.step, before, small_batch(0), method.frozen)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(after)] == [(x.shape, x.dtype) for x in jax.tree.leaves(before)]
    assert all(value.shape == () for value in metrics.values())
    assert (SKIPPED in metrics) == ("nonfinite_limit" in changes)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_only_counts_the_step(state, bad):
    after = TrainState(state.step + 1, state.key, {"net": jax.tree.map(lambda x: x * 0 + 5, state.networks["net"])}, {})
    after = TrainState(after.step, after.key, after.networks, {"w": jnp.asarray([5.0])})
    kept, skipped = skip_nonfinite_update(state, after, {"loss": 1.0, "norms": jnp.asarray([1.0, bad])})
    assert (float(skipped), int(kept.step)) == (1.0, 1)
    jax.tree.map(np.testing.assert_array_equal, (kept.networks, kept.ema), (state.networks, state.ema))
    made, skipped = skip_nonfinite_update(state, after, {"loss": 1.0})
    assert float(skipped) == 0.0
    jax.tree.map(np.testing.assert_array_equal, made, after)


def test_the_monitor_counts_in_a_row_and_one_step_late():
    monitor = NonFiniteMonitor(2)
    told = [monitor.too_many({SKIPPED: jnp.asarray(flag)}) for flag in (1.0, 0.0, 1.0, 1.0, 0.0)]
    assert told == [False, False, False, False, True]
    assert not any(NonFiniteMonitor(0).too_many({}) for _ in range(3))


def test_rows_hold_no_number_that_json_does_not_know(tmp_path):
    write_text(
        tmp_path / "metrics.jsonl", '{"step": 1, "loss": NaN}\n{"step": 2, "loss": 0.5}\n'
    )  # of a former version
    JsonLines(tmp_path, 2).write(3, {"loss": float("nan"), "norm": float("-inf"), "speed": 2.5})
    written = (tmp_path / "metrics.jsonl").read_text()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in written.splitlines()]
    assert rows == [
        {"step": 1, "loss": None},
        {"step": 2, "loss": 0.5},
        {"step": 3, "loss": None, "norm": None, "speed": 2.5},
    ]


def test_skipped_steps_are_counted_and_left_out_of_the_averages():
    class Writers:
        def write(self, step, row):
            self.row = row

    writers = Writers()
    progress = Progress(writers, steps=10, batch_size=2, start=0)
    for value, skipped in ((1.0, 0.0), (np.nan, 1.0), (3.0, 0.0)):
        progress.add({"loss": jnp.asarray(value), SKIPPED: jnp.asarray(skipped)})
    progress.log(3)
    assert (writers.row["loss"], writers.row[SKIPPED]) == (2.0, 1.0)
    progress.add({"loss": jnp.asarray(np.nan), SKIPPED: jnp.asarray(1.0)})
    progress.log(4)
    assert "loss" not in writers.row
    assert writers.row[SKIPPED] == 1.0


def test_devices_that_share_a_batch_draw_what_one_draws():
    key = jax.random.PRNGKey(1)
    whole = per_sample_random(jax.random.uniform, key, (12, 1, 1), None)
    parts = jax.vmap(lambda _: per_sample_random(jax.random.uniform, key, (3, 1, 1), "i"), axis_name="i")(np.arange(4))
    np.testing.assert_array_equal(parts.reshape(12, 1, 1), whole)


def test_whole_numbers_are_not_averaged():
    """The batch counts of files from PyTorch: averaged, they would be floats, and the step compiled a second time."""
    before = {"mean": jnp.asarray([1.0]), "count": jnp.asarray(3, jnp.int32)}
    after = {"mean": jnp.asarray([2.0]), "count": jnp.asarray(4, jnp.int32)}
    found = exponential_moving_average(before, after, 0.9, jnp.asarray(0))
    assert (found["count"].dtype, int(found["count"])) == (jnp.int32, 4)
    np.testing.assert_allclose(found["mean"], [1.9])


def test_a_gradient_in_a_gpus_form_is_the_gradient():
    gradient = jnp.arange(24.0).reshape(2, 3, 4)
    with lowering_for("gpu"):
        np.testing.assert_array_equal(jax.jit(in_given_layout)(gradient), gradient)
