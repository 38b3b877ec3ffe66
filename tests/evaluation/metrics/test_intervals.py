"""Intervals and rank correlation."""

import json

import numpy as np
import pytest

from simswap_jax.evaluation.metrics import intervals


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        got = intervals.estimate(random.normal(0.3, 1.0, 80), seed=seed, rounds=300)
        covered += got.low <= 0.3 <= got.high
    assert 0.88 <= covered / 200 <= 0.99


def test_results_that_share_a_person_do_not_count_as_many():
    people = np.repeat(np.arange(10), 30)
    values = np.random.default_rng(0).normal(size=10)[people]  # thirty times the same number each
    naive, honest = intervals.estimate(values), intervals.estimate(values, people)
    assert honest.mean == naive.mean == pytest.approx(values.mean())
    assert honest.high - honest.low > 3 * (naive.high - naive.low)
    assert intervals.Estimate(0.5, 0.25, 0.75).text(2) == "0.50 [0.25, 0.75]"
    with pytest.raises(ValueError, match="nothing"):
        intervals.estimate(np.zeros(0))


def test_estimates_are_json_numbers():
    got = intervals.estimate(np.array([True, False]))
    assert json.loads(json.dumps([got.mean, got.low, got.high]))[0] == 0.5


def test_a_ratio_is_of_sums_and_nan_is_left_out():
    got = intervals.ratio(np.array([1.0, 3.0, np.nan]), np.array([2.0, 2.0, 5.0]))
    assert got.mean == 1.0
    assert got.low < 1 < got.high
    assert got.times(100).text(0) == f"100 [{got.low * 100:.0f}, {got.high * 100:.0f}]"
    assert intervals.estimate(np.array([np.nan, 2.0])).mean == 2.0


def test_a_correlation_stays_within_its_bounds_and_leaves_out_draws_of_one_pair():
    x = np.array([0.1, 0.2, 0.7])
    got = intervals.correlation(x, np.array([0.3, 0.1, 0.5]), np.arange(3))
    assert -1.0 <= got.low <= got.mean <= got.high <= 1.0
    straight = intervals.correlation(x, 2 * x, np.arange(3))
    assert (straight.low, straight.mean, straight.high) == pytest.approx((1.0, 1.0, 1.0))
    almost = np.array([0.1, 0.1, np.nextafter(0.1, 1.0)])  # by rounding alone
    assert intervals.correlation(almost, x, np.arange(3)) is None


def test_a_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=50)
    got = intervals.jackknife(lambda kept: float(values[kept].mean()), np.arange(50))
    error = values.std(ddof=1) / np.sqrt(50)
    np.testing.assert_allclose([got.mean - got.low, got.high - got.mean], 1.96 * error)
    with pytest.raises(ValueError, match="two groups"):
        intervals.jackknife(lambda kept: 0.0, np.zeros(3))


def test_rank_correlation():
    assert intervals.rank_correlation([1, 2, 3], [10, 20, 500]) == pytest.approx(1)
    assert intervals.rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert intervals.rank_correlation([1, 1, 2], [1, 2, 3]) == pytest.approx(
        np.corrcoef([0.5, 0.5, 2], [0, 1, 2])[0, 1]
    )
    assert np.isnan(intervals.rank_correlation([1, 1], [1, 2]))
