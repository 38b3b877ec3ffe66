"""Input augmentation: what the generator gets in place of same-person targets, and that the rest does not notice."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.contrib.small_models import augmentation
from simswap_jax.contrib.small_models.augmentation import use_augmentation
from simswap_jax.training import flops
from simswap_jax.training.experiment import AUGMENTATION
from tests.support.errors import raises_user_error
from tests.support.small_method import small_batch, small_config, small_method

RECOLOURED = jax.jit(augmentation.recoloured, static_argnums=(1, 3))
GREY = jnp.full((6, 48, 48, 3), 0.5)


def augmented(batch, state=None, colour=0.0, swap=0.0):
    """The batch, decoded and augmented."""
    method = small_method(use_augmentation(small_config(), colour, swap))
    state = state or jax.jit(method.init)(jax.random.PRNGKey(0))
    floats = method.decode(batch)
    return floats["target"], jax.jit(lambda *given: method.augmentation(*given))(
        state, floats, method.frozen, jax.random.PRNGKey(7)
    )


def test_only_the_face_changes_its_colours():
    moved = np.asarray(RECOLOURED(GREY, 1.0, jax.random.PRNGKey(0)))
    assert moved.min() >= 0.0
    assert moved.max() <= 1.0
    for rows, columns in ((slice(4), slice(4)), (slice(4), slice(-4, None)), (slice(-4, None), slice(4))):
        np.testing.assert_allclose(moved[:, rows, columns], 0.5, atol=1e-6)
    assert np.abs(moved[:, 24, 24] - 0.5).mean() > 0.08
    assert np.abs(moved[1:, 24, 24] - moved[:-1, 24, 24]).min() > 1e-4  # each picture otherwise
    assert np.abs(moved[:, 24, 16] - moved[:, 24, 32]).mean() > 0.02  # and each place
    assert np.quantile(np.abs(np.diff(moved, axis=2)), 0.99) < 0.2  # smoothly


def test_a_strength_of_nothing_changes_nothing():
    pictures = jax.random.uniform(jax.random.PRNGKey(2), (2, 32, 32, 3), minval=0.01)
    np.testing.assert_allclose(RECOLOURED(pictures, 0.0, jax.random.PRNGKey(0)), pictures, atol=1e-6)


@pytest.mark.slow
def test_devices_that_share_a_batch_augment_it_as_one_does():
    def one(pictures, key):
        return augmentation.recoloured(pictures, 1.0, key, "d"), augmentation.of_the_next(pictures, "d")

    pictures = jax.random.uniform(jax.random.PRNGKey(3), (4, 16, 16, 3))
    key = jax.random.PRNGKey(4)
    recoloured, following = jax.vmap(one, (0, None), axis_name="d")(pictures.reshape(2, 2, 16, 16, 3), key)
    np.testing.assert_allclose(recoloured.reshape(4, 16, 16, 3), RECOLOURED(pictures, 1.0, key), atol=1e-6)
    np.testing.assert_array_equal(following.reshape(4, 16, 16, 3), jnp.roll(pictures, -1, axis=0))


@pytest.mark.parametrize("changes", [pytest.param({"colour": 1.0}, marks=pytest.mark.slow), {"swap": 0.5}])
def test_pairs_of_two_people_are_left_as_they_are(changes):
    batch = small_batch(0)
    batch["same_person"][::2] = False
    target, floats = augmented(batch, **changes)
    np.testing.assert_array_equal(floats["target"], target)
    changed = np.abs(floats["generator_input"] - target).max(axis=(1, 2, 3)) > 1e-3
    assert not changed[::2].any()
    assert changed[1::2].any()


@pytest.mark.slow
def test_the_other_face_is_the_averaged_generators():
    batch = small_batch(0)
    method = small_method(small_config())
    state = jax.jit(method.init)(jax.random.PRNGKey(0))
    target, floats = augmented(batch, state, swap=1.0)
    vectors = method.identity.network.embed(method.frozen, batch["source"] / np.float32(255))
    drawn = method.generator.apply(state.ema, target, {"vector": jnp.roll(vectors, -1, axis=0)})
    np.testing.assert_allclose(floats["generator_input"], drawn, atol=1e-5)
    np.testing.assert_allclose(floats["identity"], vectors, atol=1e-6)


@pytest.mark.slow
def test_a_step_that_augments_learns_something_else_and_costs_one_pass_more():
    def after(**options):
        config = small_config(**{"losses.gradient_penalty": 0.0, "accumulate": 2})
        method = small_method(use_augmentation(config, **options) if options else config, scales=1)
        state = jax.jit(method.init)(jax.random.PRNGKey(0))
        state, metrics = jax.jit(method.step)(state, small_batch(0), method.frozen)
        return float(metrics["reconstruction"]), flops.per_image(method)

    plain, changed = after(), after(colour=1.0, swap=0.5)
    assert plain[0] != pytest.approx(changed[0], rel=1e-4)
    assert changed[1] > plain[1]


def test_an_experiment_without_its_options_is_refused():
    config = small_config(augmentation=AUGMENTATION)
    with raises_user_error("augmentation-without-options", "use_augmentation"):
        augmentation.build(SimpleNamespace(config=config))


def test_options_of_nothing_augment_nothing():
    assert small_method(use_augmentation(small_config(), 0.0, 0.0)).augmentation is None
