"""Medians, quartiles and the interval of a ratio: NumPy only."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from fastcifar.bench.record import Estimate

CONFIDENCE = 0.95
# Of a simulated distribution: its 95 % point is then known to a percent or two.
_SAMPLES = 20_000
# Where one rate has fewer values than the other their spread may be this much too small.
_FEWER = 3.0


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

    Welch's interval, for two or more values each whose spreads may differ (Welch, "The
    Generalization of Student's Problem When Several Different Population Variances Are Involved",
    1947).
    """
    one, other = np.asarray(values, np.float64), np.asarray(others, np.float64)
    parts = [float(array.var(ddof=1)) / len(array) for array in (one, other)]
    variance = sum(parts)
    difference = float(one.mean() - other.mean())
    n = min(len(one), len(other))
    if not variance:
        return Estimate(difference, difference, difference, n)
    spreads = [part**2 / (len(a) - 1) for part, a in zip(parts, (one, other), strict=True)]
    half = student_quantile(variance**2 / sum(spreads)) * math.sqrt(variance)
    return Estimate(difference, difference - half, difference + half, n)


def student_quantile(degrees: float, confidence: float = CONFIDENCE) -> float:
    """Return t such that Student's variable lies in [-t, t] with probability `confidence`.

    Args:
        degrees: of freedom, 1 or more. Between whole numbers log t is interpolated over 1/degrees,
            which is right to 1.5 %.
    """
    whole = max(1, int(degrees))
    if degrees > whole:
        share = (1 / whole - 1 / degrees) * whole * (whole + 1)
        below, above = (student_quantile(d, confidence) for d in (whole, whole + 1))
        return below ** (1 - share) * above**share
    degrees = whole
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


def rate_ratio(rate: Estimate, other: Estimate) -> Estimate | None:
    """Return how many times `rate` is `other`, which were not measured by turns, with its interval.

    Only medians and quartiles are known of them. Their logarithms are taken to be normal. The
    difference of the medians over its standard error, both from quartiles, then has a distribution
    that depends on the two numbers of values and on the ratio of the two spreads alone; its 95 %
    point is simulated for the ratio that was seen (the parametric bootstrap of Krishnamoorthy, Lu
    and Mathew, "A Parametric Bootstrap Approach for ANOVA with Unequal Variances", 2007). Equal
    rates of as many values each are called apart in at most 5 % of cases, however few they are; the
    notches of box plots call 29 % apart at two values.

    Returns:
        None where either is of one value, which tells no spread.
    """
    pair = (rate, other)
    if min(one.n for one in pair) < 2:
        return None
    errors = [math.log(one.high / one.low) / math.sqrt(one.n) for one in pair]
    drawn = [_standard_quartiles(one.n, stream) for stream, one in enumerate(pair)]

    def critical(factors: tuple[float, float]) -> float:
        """The 95 % point, where the true spreads are those that were seen times `factors`."""
        scales = [f * e * math.sqrt(one.n) for f, e, one in zip(factors, errors, pair, strict=True)]
        gaps = scales[0] * drawn[0][0] - scales[1] * drawn[1][0]
        parts = [s * d[1] / math.sqrt(o.n) for s, d, o in zip(scales, drawn, pair, strict=True)]
        return float(np.quantile(np.abs(gaps) / np.hypot(*parts), CONFIDENCE))

    half = 0.0
    if any(errors):
        factors = {(1.0, 1.0)}
        if rate.n != other.n:
            factors |= {(_FEWER, 1.0) if rate.n < other.n else (1.0, _FEWER)}
        half = math.hypot(*errors) * max(map(critical, factors))
    gap = math.log(rate.median / other.median)
    n = min(rate.n, other.n)
    return Estimate(math.exp(gap), math.exp(gap - half), math.exp(gap + half), n)


@functools.lru_cache(maxsize=64)
def _standard_quartiles(n: int, stream: int) -> tuple[np.ndarray, np.ndarray]:
    """Medians and quartile ranges of many normal samples of n, in units of the mean range."""
    values = np.random.default_rng((n, stream)).standard_normal((_SAMPLES, n))
    low, medians, high = np.quantile(values, [0.25, 0.5, 0.75], axis=1)
    unit = float((high - low).mean())
    return medians / unit, (high - low) / unit
