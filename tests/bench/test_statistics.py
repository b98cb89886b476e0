"""Statistics against NumPy and against tables."""

import numpy as np
import pytest

from fastcifar.bench.record import Estimate
from fastcifar.bench.statistics import (
    mean_difference,
    mean_interval,
    paired_ratio,
    rate_ratio,
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


# Values of each side, and their spreads: of as many, few against many, quiet against noisy.
PAIRS = [
    *((n, n, 0.05, 0.05) for n in (2, 3, 5, 7)),
    (2, 7, 0.05, 0.05),
    (3, 10, 0.02, 0.1),
    (10, 3, 0.02, 0.1),
    (7, 7, 0.02, 0.1),
]


@pytest.mark.parametrize(("n", "m", "spread_n", "spread_m"), PAIRS)
def test_equal_ones_are_called_apart_in_five_of_a_hundred_cases(n, m, spread_n, spread_m):
    """By either test; fewer where few values leave it in doubt, never beyond what chance allows."""
    rng = np.random.default_rng(n)
    cases = 500
    rates = differences = 0
    for _ in range(cases):
        one, other = 100 * rng.lognormal(0, spread_n, n), 100 * rng.lognormal(0, spread_m, m)
        found = rate_ratio(spread(one), spread(other))
        rates += not found.low <= 1 <= found.high
        found = mean_difference(np.log(one), np.log(other))
        differences += not found.low <= 0 <= found.high
    # Binomial, three deviations; Welch's own level is up to 7 % for two values against seven.
    allowed = 0.07 if n != m else 0.05
    bound = cases * allowed + 3 * (cases * allowed * (1 - allowed)) ** 0.5
    assert 1 <= rates <= bound
    assert differences <= bound


def test_a_change_is_found_where_the_rounds_are_enough():
    one, other = Estimate(100.0, 99.0, 101.0, 7), Estimate(110.0, 109.0, 111.0, 7)
    found = rate_ratio(other, one)
    assert found.median == pytest.approx(1.1)
    # Normal theory for large n: 1.96 times the two medians' errors, of 1.2533 deviations each.
    large = rate_ratio(Estimate(110.0, 108.9, 111.1, 400), Estimate(100.0, 99.0, 101.0, 400))
    half = 1.96 * 1.2533 * (0.02 / 1.349) * (2 / 400) ** 0.5
    assert np.log(large.high / large.median) == pytest.approx(half, rel=0.03)
    assert 1.05 < found.low < 1.1 < found.high < 1.15
    assert rate_ratio(one, Estimate(1.0, 1.0, 1.0, 1)) is None
    equal = rate_ratio(Estimate(9.0, 9.0, 9.0, 5), Estimate(9.0, 9.0, 9.0, 5))
    assert (equal.low, equal.high) == (1.0, 1.0)


@pytest.mark.parametrize("degrees", [1.2, 1.5, 2.5, 7.7])
def test_student_quantile_between_whole_degrees(degrees):
    draws = np.abs(np.random.default_rng(1).standard_t(degrees, size=1_000_000))
    assert np.mean(draws < student_quantile(degrees)) == pytest.approx(0.95, abs=0.002)


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
