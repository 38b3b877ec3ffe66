"""Drawn occluders: a pure function of a sample's numbers, over a part of some faces."""

import jax
import numpy as np
import pytest

from simswap_jax.training.occluders import NUMBERS, occluded

SIDE = 32


@pytest.fixture(scope="module")
def drawn():
    random = np.random.default_rng(0).random((64, NUMBERS), np.float32)
    pictures = np.full((64, SIDE, SIDE, 3), 2.0, np.float32)  # a value that no occluder has
    draw = jax.jit(lambda pictures, random: occluded(pictures, random, 0.5))
    return draw, pictures, random, np.asarray(draw(pictures, random))


def test_a_share_of_the_faces_is_hidden_in_part(drawn):
    _, _, random, results = drawn
    hidden = (results < 1.5).all(-1).mean((1, 2))
    assert (hidden[random[:, -1] >= 0.5] == 0).all()
    seen = hidden[random[:, -1] < 0.5]
    assert len(seen) > 20
    assert (seen > 0).mean() > 0.9  # some begin outside of the picture
    assert 0.03 < np.median(seen) < 0.3
    assert seen.max() < 0.7
    assert results.min() >= 0


def test_all_four_kinds_are_drawn_and_differ(drawn):
    draw, pictures, random, _ = drawn
    same = np.tile(random[:1], (64, 1))
    same[:, 0], same[:, -1] = np.arange(64) % 4 / 4, 0.0
    covers = np.asarray(draw(pictures, same))[:4] < 1.5
    assert all(cover.any() for cover in covers)
    assert all((a != b).any() for i, a in enumerate(covers) for b in covers[:i])


def test_a_sample_depends_on_its_own_numbers_alone(drawn):
    draw, pictures, random, results = drawn
    np.testing.assert_array_equal(np.asarray(draw(pictures, random[::-1]))[::-1], results)
