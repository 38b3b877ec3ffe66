"""Checkpoints: which stay, which are picked up, and what a damaged one does."""

import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.training.checkpoints import MANIFEST, Checkpoints, has_manifest, verify_manifest
from simswap_jax.training.state import NetworkState, TrainState, is_finite
from tests.support.errors import raises_user_error
from tests.support.progress import log_lines


def made(step):
    """A state whose every array tells the step."""
    params = {"kernel": jnp.full((64, 32), step, jnp.float32), "bias": jnp.full((32,), step, jnp.float32)}
    networks = {"generator": NetworkState(params, {}, ())}
    return TrainState(jnp.asarray(step, jnp.int32), jax.random.PRNGKey(0), networks, {})


def like():
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), made(0))


def saved(workdir, *steps, keep=3):
    """A workdir with checkpoints of these steps."""
    checkpoints = Checkpoints(workdir, keep)
    for step in steps:
        checkpoints.save(made(step), {"n": step})
    checkpoints.wait()
    checkpoints.close()
    return workdir / "checkpoints"


def picked_up(workdir):
    """(step of what is restored, what was said)."""
    with log_lines() as lines:
        checkpoints = Checkpoints(workdir, 3)
        found = checkpoints.restore(like())
        checkpoints.close()
    if found is None:
        return None, lines
    state, position = found
    step = int(state.step)
    assert position == {"n": step}
    for leaf in jax.tree.leaves(state.networks):
        np.testing.assert_array_equal(leaf, np.full(leaf.shape, step, np.float32))
    return step, lines


def steps_of(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_the_newest_stay(tmp_path):
    folder = saved(tmp_path, 1, 2, 3, 4, 5, 6, keep=2)
    assert steps_of(folder) == [5, 6]
    # And in a second run, which knows of the others only from the disk.
    saved(tmp_path, 7, keep=2)
    assert steps_of(folder) == [6, 7]
    assert picked_up(tmp_path) == (7, [])


def test_every_checkpoint_has_a_manifest_that_holds(tmp_path):
    folder = saved(tmp_path, 1, 2)
    for step in (1, 2):
        assert has_manifest(folder / str(step))
        assert verify_manifest(folder / str(step)) is None


def largest(folder):
    return max((path for path in folder.glob("*/**/*") if path.is_file()), key=lambda path: path.stat().st_size)


def cut(folder):
    path = largest(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(folder):
    path = largest(folder)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lose(folder):
    largest(folder).unlink()


def lose_position(folder):
    shutil.rmtree(folder / "position")


def garble_manifest(folder):
    (folder / MANIFEST).write_text("{")


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("damage", [cut, flip, lose, lose_position, garble_manifest, empty])
def test_a_damaged_checkpoint_is_put_aside_for_the_one_before(tmp_path, damage):
    folder = saved(tmp_path, 1, 2, 3)
    damage(folder / "3")
    step, lines = picked_up(tmp_path)
    assert step == 2
    assert len(lines) == 1
    assert "the checkpoint of step 3 is damaged" in lines[0]
    assert str(tmp_path / "damaged" / "3") in lines[0]
    assert (tmp_path / "damaged" / "3").is_dir()
    # Training comes to step 3 again.
    saved(tmp_path, 3)
    assert picked_up(tmp_path) == (3, [])


def test_what_a_kill_left_half_written_is_not_picked_up(tmp_path):
    folder = saved(tmp_path, 1, 2)
    (folder / "2").rename(folder / "3.orbax-checkpoint-tmp")
    assert picked_up(tmp_path) == (1, [])
    assert steps_of(folder) == [1]


def test_where_no_checkpoint_is_whole_training_does_not_start_over_unasked(tmp_path):
    folder = saved(tmp_path, 1, 2)
    for step in (1, 2):
        cut(folder / str(step))
    with raises_user_error("checkpoints-damaged"):
        picked_up(tmp_path)
    assert sorted(path.name for path in (tmp_path / "damaged").iterdir()) == ["1", "2"]
    assert picked_up(tmp_path) == (None, [])


def test_a_whole_checkpoint_of_other_shapes_is_not_called_damaged(tmp_path):
    folder = saved(tmp_path, 1)
    checkpoints = Checkpoints(tmp_path, 3)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    other = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*leaf.shape, 2), leaf.dtype, sharding=here), like())
    with raises_user_error("checkpoint-does-not-fit"):
        checkpoints.restore(other)
    checkpoints.close()
    assert steps_of(folder) == [1]


@pytest.mark.parametrize("said", ["Input/output error", ""])
def test_a_disk_that_fails_is_not_called_a_checkpoint_of_other_versions(tmp_path, said, monkeypatch):
    folder = saved(tmp_path, 1)
    checkpoints = Checkpoints(tmp_path, 3)

    def fail(*_, **__):
        raise OSError(5, said) if said else TimeoutError

    monkeypatch.setattr(checkpoints._manager, "restore", fail)
    with raises_user_error("checkpoint-cannot-be-read", said or "TimeoutError"):
        checkpoints.restore(like())
    checkpoints.close()
    assert steps_of(folder) == [1]


def test_an_error_without_words_has_a_sentence(tmp_path):
    checkpoints = Checkpoints(tmp_path, 3)
    assert "(TimeoutError)" in str(checkpoints._refused(TimeoutError()))
    checkpoints.close()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "checkpoints").write_text("a file, not a folder")
    with raises_user_error("checkpoints-cannot-be-written", tmp_path):
        Checkpoints(tmp_path, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_checkpoint_that_is_not_finite_is_put_aside_for_the_one_before(tmp_path, bad):
    """Those of former versions, which saved a run that diverged."""
    saved(tmp_path, 1, 2)
    checkpoints = Checkpoints(tmp_path, 3)
    diverged = made(3)
    diverged.networks["generator"].params["bias"] = diverged.networks["generator"].params["bias"].at[5].set(bad)
    assert not is_finite(diverged)
    assert is_finite(made(3))
    checkpoints.save(diverged, {"n": 3})
    checkpoints.wait()
    with log_lines() as lines:
        state, position = checkpoints.restore(like(), lambda state: bool(is_finite(state)))
    checkpoints.close()
    assert (int(state.step), position) == (2, {"n": 2})
    assert "step 3 is damaged (its networks are not finite)" in lines[0]
    assert (tmp_path / "damaged" / "3").is_dir()


def test_an_optimizer_may_hold_what_it_likes():
    state = made(1)
    networks = {name: replace(network, optimizer=(jnp.inf,)) for name, network in state.networks.items()}
    assert is_finite(replace(state, networks=networks))
    assert not is_finite(replace(state, ema={"w": jnp.asarray([1.0, jnp.nan])}))
