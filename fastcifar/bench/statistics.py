"""Medians, quartiles and the interval of a ratio: NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastcifar.bench.record import Estimate

CONFIDENCE = 0.95


def spread(values: Sequence[float]) -> Estimate:
    """Return the median of `values` (at least one) with the lower and upper quartile."""
    low, median, high = np.quantile(np.asarray(values, np.float64), [0.25, 0.5, 0.75])
    return Estimate(float(median), float(low), float(high), len(values))


def paired_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Estimate:
    """Return how many times `numerator` is `denominator`, measured in pairs, with a 95 % interval.

    The i-th values of both come from the same round, so what slowed that round down cancels. The
    logarithms of the ratios are taken to be normal: the estimate is their mean and the interval
    Student's (the paired t interval on logarithms; Georges, Buytaert and Eeckhout, "Statistically
    Rigorous Java Performance Evaluation", 2007, section 3.2, and Fleming and Wallace, "How Not to
    Lie with Statistics", 1986, on why ratios are averaged geometrically).

    Args:
        numerator, denominator: positive values, two or more, as many of each.

    Returns:
        The geometric mean as `median`, and the ends of the interval.
    """
    logs = np.log(np.asarray(numerator, np.float64) / np.asarray(denominator, np.float64))
    n = len(logs)
    mean = float(logs.mean())
    half = student_quantile(n - 1) * float(logs.std(ddof=1)) / math.sqrt(n)
    return Estimate(math.exp(mean), math.exp(mean - half), math.exp(mean + half), n)


def mean_interval(values: Sequence[float]) -> Estimate:
    """Return the mean of two values or more, as `median`, with Student's 95 % interval of it."""
    array = np.asarray(values, np.float64)
    mean = float(array.mean())
    half = student_quantile(len(array) - 1) * float(array.std(ddof=1)) / math.sqrt(len(array))
    return Estimate(mean, mean - half, mean + half, len(array))


def mean_difference(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """Return the mean of `values` less that of `others` with its 95 % interval.

    Welch's interval, for two or more values each whose spreads may differ; its degrees of freedom
    are rounded down, which makes it a little wider (Welch, "The Generalization of Student's Problem
    When Several Different Population Variances Are Involved", 1947).
    """
    one, other = np.asarray(values, np.float64), np.asarray(others, np.float64)
    parts = [float(array.var(ddof=1)) / len(array) for array in (one, other)]
    variance = sum(parts)
    difference = float(one.mean() - other.mean())
    n = min(len(one), len(other))
    if not variance:
        return Estimate(difference, difference, difference, n)
    spreads = [part**2 / (len(a) - 1) for part, a in zip(parts, (one, other), strict=True)]
    half = student_quantile(max(1, int(variance**2 / sum(spreads)))) * math.sqrt(variance)
    return Estimate(difference, difference - half, difference + half, n)


def student_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """Return t such that Student's variable lies in [-t, t] with probability `confidence`.

    Args:
        degrees: of freedom, 1 or more.
    """
    low, high = 0.0, 1.0
    while _student_probability(high, degrees) < confidence:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if _student_probability(middle, degrees) < confidence:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _student_probability(t: float, degrees: int) -> float:
    """P(|T| <= t), by the finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine = math.cos(angle)
    odd = degrees % 2
    # The series' terms: each is the one before times cos² and a ratio of consecutive numbers.
    term = cosine if odd else 1.0
    total = 0.0 if degrees == 1 else term
    for i in range(3 if odd else 2, degrees - 1, 2):
        term *= cosine**2 * (i - 1) / i
        total += term
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def noise_interval(estimate: Estimate) -> tuple[float, float]:
    """Return the interval about a median in which it would fall again, from its quartiles.

    The notch of a box plot: the median plus and minus 1.57 quartile ranges over the square root of
    n; medians whose notches do not overlap differ at about the 5 % level (McGill, Tukey and Larsen,
    "Variations of Box Plots", 1978).
    """
    half = 1.57 * (estimate.high - estimate.low) / math.sqrt(estimate.n)
    return estimate.median - half, estimate.median + half
