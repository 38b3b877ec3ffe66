"""Leakage of attributes of the source."""

import numpy as np
import pytest

from simswap_jax.evaluation.metrics import regions
from simswap_jax.evaluation.metrics.regions import leakage, third_people


def test_a_decoy_is_a_third_person():
    found = third_people(np.array([0, 1, 2, 0]), np.array([1, 2, 0, 2]))
    np.testing.assert_array_equal(found, [2, 3, 1, 1])
    np.testing.assert_array_equal(third_people(np.array([0, 1]), np.array([1, 0])), [-1, -1])


def measured(pictures):
    masks = regions.face_masks(None, len(pictures), pictures.shape[1])
    return {"surroundings": regions.surroundings(pictures, masks), "light": regions.light(pictures, masks)}


def test_leakage_is_one_for_the_source_none_for_the_target_and_none_for_a_grey_veil(drawn):
    pictures, person, _ = drawn
    sources, targets = pictures, np.roll(pictures, 6, axis=0)
    decoy = third_people(person, np.roll(person, 6))
    half = ((sources.astype(int) + targets) // 2).astype(np.uint8)
    veiled = (targets.astype(int) // 2 + 64).astype(np.uint8)
    names = {"leak_hair", "leak_background", "leak_light"}

    def leaks(results):
        return leakage(measured(results), measured(targets), measured(sources), decoy, person)

    whole = leaks(sources)
    assert whole.keys() == names
    for value in whole.values():  # in every draw of people
        assert (value.low, value.mean, value.high) == pytest.approx((1.0, 1.0, 1.0))
    assert {name: value.mean for name, value in leaks(targets).items()} == pytest.approx(dict.fromkeys(names, 0.0))
    halfway, veil = leaks(half), leaks(veiled)
    for name in ("leak_hair", "leak_background"):
        assert halfway[name].mean == pytest.approx(0.5, abs=0.03)
        assert abs(veil[name].mean) < 0.25  # towards everybody alike
        assert veil[name].low < veil[name].mean < veil[name].high


def test_leakage_says_where(drawn):
    pictures, person, _ = drawn
    sources, targets = pictures, np.roll(pictures, 6, axis=0)
    hair = targets.copy()
    hair[:, :32] = sources[:, :32]
    found = leakage(
        measured(hair), measured(targets), measured(sources), third_people(person, np.roll(person, 6)), person
    )
    assert found["leak_hair"].mean == pytest.approx(1.0)
    assert found["leak_background"].mean == pytest.approx(0.0)
