"""How many steps go into one call to the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fastcifar.training.step import StepMetrics, TrainStep, read_metrics

# A call lasts at most this long, so that a signal is answered soon.
CALL_S = 1.0
# Steps timed one by one, after the one that compiles, before their number per call is chosen.
_TIMED = 2


class Calls:
    """Runs the steps of one phase in calls of k steps.

    With `auto`, k is the number of steps that fit into one second, judged by the call before. The
    results do not depend on k.

    Args:
        step: the compiled step of the phase.
        iterator: its batches.
        steps_per_call: `auto`, or k.
        agree: of the seconds that a step took here, those that all workers reckon with: they must
            choose the same k.

    Attributes:
        done: calls so far; the first one includes tracing and compilation.
    """

    def __init__(
        self,
        step: TrainStep,
        iterator: Any,
        steps_per_call: str,
        agree: Callable[[float], float] = float,
    ):
        self._step = step
        self._iterator = iterator
        self._steps_per_call = None if steps_per_call == "auto" else int(steps_per_call)
        self._agree = agree
        self._step_s = 0.0
        self.done = 0

    @property
    def compiles(self) -> bool:
        """Whether the next call traces and compiles the step first."""
        return not self._step.traces

    def run(
        self, first_step: int, remaining: int, asked: int | None = None
    ) -> tuple[int, StepMetrics]:
        """Run one call from `first_step` on: (steps, metrics).

        Args:
            first_step: of the call.
            remaining: at most so many steps.
            asked: so many, instead of k.
        """
        steps = min(remaining, self._choose() if asked is None else asked)
        began = time.perf_counter()
        metrics = read_metrics(self._step(self._iterator, first_step, steps))
        self._step_s = (time.perf_counter() - began) / steps
        self.done += 1
        return steps, metrics

    def _choose(self) -> int:
        if self._steps_per_call is not None:
            return self._steps_per_call
        if self.done <= _TIMED:
            return 1
        return max(1, int(CALL_S / self._agree(self._step_s)))
