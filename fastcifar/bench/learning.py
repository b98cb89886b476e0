"""Two loss curves over the same steps: how far they part, and what that means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastcifar.bench.record import Estimate

# A curve is compared at its end by the mean of the last quarter of its steps.
_END = 4
# Rounding differs from one machine to the next: this much more than the control's is still its.
_LIKE_CONTROL = 2.0
# The same learning, for one who watches the loss.
_SAME_END = 0.02


@dataclass(frozen=True)
class Learning:
    """A loss curve held against float32's of the same weights and batches, step by step.

    Attributes:
        losses: of each step, in nats; None where it was not finite.
        largest_deviation: from float32's, in nats; None if a loss was not finite.
        at_step: where, counted from 0; or the first step without a finite loss.
        end_difference: of the means of the last quarters, in nats; None as above.
        end: float32's mean of the last quarter.
    """

    losses: Sequence[float | None]
    largest_deviation: float | None
    at_step: int
    end_difference: float | None
    end: float

    @property
    def figures(self) -> dict[str, Any]:
        """For a row of a record."""
        return {
            "largest_deviation": self.largest_deviation,
            "at_step": self.at_step,
            "end_difference": self.end_difference,
        }

    def judge(self, name: str, ratio: Estimate, control: Learning | None) -> str:
        """Say what a precision buys and what it does to the learning.

        Args:
            name: of the precision.
            ratio: its rate over float32's.
            control: float32 from nudged weights.
        """
        steps = len(self.losses)
        buys = f"{name}: {ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] × float32."
        if self.largest_deviation is None or self.end_difference is None:
            return (
                f"{buys} Its loss stopped being finite at step {self.at_step} of {steps}: it does "
                "not train like this. Try a lower --learning-rate or --clip-norm."
            )
        strays = (
            f"{buys} Over {steps} steps from the same weights and batches its loss strays by at "
            f"most {self.largest_deviation:.2g} from float32's (step {self.at_step})"
        )
        itself = control.largest_deviation if control is not None else None
        if itself is None or control is None or control.end_difference is None:
            return f"{strays}."
        strays += f"; float32 strays by {itself:.2g} from itself when its weights are nudged"
        if self.largest_deviation <= _LIKE_CONTROL * itself:
            return f"{strays}: no more than rounding does to float32. The learning is the same."
        allowed = max(_LIKE_CONTROL * abs(control.end_difference), _SAME_END * self.end)
        if abs(self.end_difference) <= allowed:
            return (
                f"{strays}. At the end the curves are {abs(self.end_difference):.2g} apart, at a "
                f"loss of {self.end:.3f}: over these steps it learns as well."
            )
        worse = "higher" if self.end_difference > 0 else "lower"
        return (
            f"{strays}. At the end its loss is {abs(self.end_difference):.3f} {worse} than "
            f"{self.end:.3f}: compare accuracies, fastcifar bench accuracy."
        )


def compare(losses: Sequence[float | None], reference: Sequence[float | None]) -> Learning:
    """Hold a curve against another; where one is longer, its first steps count.

    Args:
        losses: of each step, one or more; None where it was not finite.
        reference: the same of the other, finite.
    """
    steps = min(len(losses), len(reference))
    ours, theirs = list(losses[:steps]), [loss or 0.0 for loss in reference[:steps]]
    last = max(1, steps // _END)
    end = sum(theirs[-last:]) / last
    for step, loss in enumerate(ours):
        if loss is None or reference[step] is None:
            return Learning(ours, None, step, None, end)
    finite = [loss or 0.0 for loss in ours]
    deviations = [abs(a - b) for a, b in zip(finite, theirs, strict=True)]
    at_step = max(range(steps), key=deviations.__getitem__)
    difference = sum(finite[-last:]) / last - end
    return Learning(ours, deviations[at_step], at_step, difference, end)
