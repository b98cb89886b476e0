"""Statistics against NumPy and against tables."""

import numpy as np
import pytest

from fastcifar.bench.record import Estimate
from fastcifar.bench.statistics import (
    mean_difference,
    mean_interval,
    noise_interval,
    paired_ratio,
    spread,
    student_quantile,
)


def test_spread_is_numpys_median_and_quartiles():
    values = np.random.default_rng(0).lognormal(size=23)
    found = spread(values)
    expected = [np.median(values), np.quantile(values, 0.25), np.quantile(values, 0.75)]
    np.testing.assert_allclose([found.median, found.low, found.high], expected)
    assert found.n == 23
    assert spread([4.0]) == Estimate(4.0, 4.0, 4.0, 1)


@pytest.mark.parametrize(
    ("degrees", "expected"),  # two-sided 95 %, any table of Student's distribution
    zip(
        [1, 2, 3, 4, 5, 9, 10, 29, 30, 120, 1000],
        [12.706, 4.303, 3.182, 2.776, 2.571, 2.262, 2.228, 2.045, 2.042, 1.980, 1.962],
        strict=True,
    ),
)
def test_student_quantile_is_that_of_the_tables(degrees, expected):
    assert student_quantile(degrees) == pytest.approx(expected, abs=6e-4)


def test_student_quantile_is_that_of_numpys_draws():
    draws = np.abs(np.random.default_rng(0).standard_t(6, size=400_000))
    assert np.mean(draws < student_quantile(6, 0.8)) == pytest.approx(0.8, abs=0.003)


def test_ratio_and_interval_on_a_case_worked_by_hand():
    # Logs of the ratios: -1, 0, 1; mean 0, deviation 1; t with 2 degrees of freedom is 4.303.
    found = paired_ratio(np.exp([1.0, 2.0, 3.0]), np.exp([2.0, 2.0, 2.0]))
    half = 4.3027 / np.sqrt(3)
    assert found.median == pytest.approx(1.0)
    assert found.low == pytest.approx(np.exp(-half), rel=1e-4)
    assert found.high == pytest.approx(np.exp(half), rel=1e-4)
    assert found.n == 3


def test_the_interval_holds_the_truth_in_95_of_100_cases():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        disturbance = rng.lognormal(sigma=0.3, size=8)  # of a round: it hits both and cancels
        one = 1.25 * disturbance * rng.lognormal(sigma=0.05, size=8)
        other = disturbance * rng.lognormal(sigma=0.05, size=8)
        found = paired_ratio(one, other)
        hits += found.low <= 1.25 <= found.high
        assert found.high / found.low < 1.4  # the disturbance alone would be far wider
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)


def test_swapping_the_two_inverts_the_ratio():
    one, other = [3.0, 4.0, 5.5], [2.0, 2.5, 3.0]
    there, back = paired_ratio(one, other), paired_ratio(other, one)
    assert there.median == pytest.approx(1 / back.median)
    assert there.low == pytest.approx(1 / back.high)


def test_notches_of_the_same_distribution_overlap():
    rng = np.random.default_rng(0)
    apart = 0
    for _ in range(1000):
        a, b = (noise_interval(spread(rng.normal(100, 5, size=40))) for _ in range(2))
        apart += a[1] < b[0] or b[1] < a[0]
    assert apart / 1000 < 0.05


def test_the_interval_of_a_mean():
    found = mean_interval([1.0, 2.0, 3.0])
    assert found.median == 2
    assert found.high - 2 == pytest.approx(4.3027 / 3**0.5, rel=1e-3)  # t of two degrees of freedom
    assert found.n == 3


def test_the_difference_of_means_is_welchs():
    found = mean_difference([3.0, 4.0, 5.0], [1.0, 2.0, 3.0])
    assert found.median == 2
    # Equal variances: four degrees of freedom, t 2.776, standard error sqrt(2/3).
    assert found.high - 2 == pytest.approx(2.7764 * (2 / 3) ** 0.5, rel=1e-3)
    assert mean_difference([2.0, 2.0], [1.0, 1.0]).low == 1
