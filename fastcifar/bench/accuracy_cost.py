"""Does a precision cost accuracy? Its runs over seeds against those of float32.

The seeds are the same in both, so that runs could be compared in pairs: they begin with the same
weights and see the same batches. Yet rounding is amplified from step to step until two runs of one
seed are as far apart as any two (`float32_nudged` of `fastcifar bench precision` shows how soon).
Pairs then share nothing that could cancel, and would leave n - 1 degrees of freedom in the place of
about 2 (n - 1). So the interval of the difference is Welch's, of independent runs; where pairs do
share something, it is wider than it had to be, never too narrow.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from fastcifar.bench.record import Estimate
from fastcifar.bench.statistics import mean_difference, mean_interval


def figures(accuracies: Sequence[float], reference: Sequence[float] | None) -> dict[str, Any]:
    """For the row of a precision.

    Args:
        accuracies: on the test images, 0..1, of each run that came to its end.
        reference: those of float32, or None for its own row.

    Returns:
        test_accuracies, runs, and where they are enough test_accuracy (the mean), accuracy (the
        mean with its 95 % interval), deviation, accuracy_difference (with Welch's 95 % interval).
    """
    found: dict[str, Any] = {"test_accuracies": list(accuracies), "runs": len(accuracies)}
    if accuracies:
        found["test_accuracy"] = statistics.fmean(accuracies)
    if len(accuracies) > 1:
        found["accuracy"] = dataclasses.asdict(mean_interval(accuracies))
        found["deviation"] = statistics.stdev(accuracies)
    difference = _difference(accuracies, reference)
    if difference is not None:
        found["accuracy_difference"] = dataclasses.asdict(difference)
    return found


def words(
    name: str,
    accuracies: Sequence[float],
    reference: Sequence[float] | None,
    lost: Sequence[str] = (),
) -> str:
    """Say what the runs of a precision show; see `figures`.

    Args:
        name: of the precision.
        accuracies, reference: see `figures`.
        lost: of each run that did not come to its end, its seed and what stopped it.
    """
    runs = len(accuracies) + len(lost)
    said = []
    if lost:
        said.append(f"{name}: {len(lost)} of {runs} runs failed, {lost[0]}.")
    if len(accuracies) > 1:
        mean = mean_interval(accuracies)
        said.append(
            f"{name}: test accuracy {mean.median:.2%} [{mean.low:.2%}, {mean.high:.2%}], "
            f"{len(accuracies)} seeds."
        )
    difference = _difference(accuracies, reference)
    if difference is not None:
        low, median, high = (100 * v for v in (difference.low, difference.median, difference.high))
        interval = f"{median:+.2f} points [{low:+.2f}, {high:+.2f}]"
        if difference.high < 0:
            said.append(f"It costs accuracy: difference from float32 {interval}.")
        elif difference.low > 0:
            said.append(f"It gains accuracy: difference from float32 {interval}.")
        else:
            said.append(
                f"{difference.n} seeds cannot tell whether it costs accuracy: difference from "
                f"float32 {interval}."
            )
    return " ".join(said)


def _difference(accuracies: Sequence[float], reference: Sequence[float] | None) -> Estimate | None:
    if reference is None or min(len(accuracies), len(reference)) < 2:
        return None
    return mean_difference(accuracies, reference)
