"""`fastcifar bench fit`: the real path against the step alone and against `keras.Model.fit`.

    end_to_end    the real pipeline into the real step, k steps a call: what training does
    step          the same step on one batch that lies on the device: what the device can do
    fit           keras.Model.fit of the same network at the same precision
    fit_float32   the same in float32, where the precision is another

All without augmentation: `fit` has none that would be the same, and without it the input has the
least time to keep up. They take turns in one process. Before anything is timed, the losses of the
first steps are compared, from the same weights on the same batch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastcifar.bench import keras_fit, measure
from fastcifar.bench.measure import Contender, Lap
from fastcifar.bench.record import OK
from fastcifar.bench.subject import Subject, end_to_end, finite, resident
from fastcifar.config import RunConfig
from fastcifar.training.preparation import Prepared

END_TO_END, STEP, FIT, FIT_FLOAT32 = "end_to_end", "step", "fit", "fit_float32"
# Two programs that compute the same differ in rounding: 2^-24 and 2^-8 a number, and the losses of
# a deep network in some hundreds of those. A batch normalised or labelled otherwise differs by
# per cents.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-2, "float16": 1e-2}


@dataclass(frozen=True)
class FitPlan:
    """How long to measure.

    Attributes:
        seconds: for all rounds together, start-up apart.
        rounds: at most this many.
    """

    seconds: float = 120.0
    rounds: int | None = None


def without_augmentation(config: RunConfig) -> RunConfig:
    """The configuration as this benchmark runs it."""
    phases = tuple(dataclasses.replace(phase, augment="none") for phase in config.phases)
    data = dataclasses.replace(
        config.data, augment_on="device", resize_on="device", transfer="uint8"
    )
    return dataclasses.replace(config, phases=phases, data=data)


def measure_fit(
    config: RunConfig, prepared: Prepared, plan: FitPlan, put: Callable[..., None]
) -> None:
    """Measure the contenders, interleaved; `put(*rows)` receives all rows after every round.

    Args:
        config: see `without_augmentation`.
        prepared: its parts, with fresh weights.
        plan: how long.
        put: takes the rows.
    """
    subject = Subject.of(config, prepared)
    precision = prepared.runtime.precision
    ours = _Ours(subject)
    fits = [_Fit(FIT, precision, ours)]
    if precision != "float32":
        fits.append(_Fit(FIT_FLOAT32, "float32", ours))
    contenders = [
        Contender(END_TO_END, ours.run_real, check=ours.check_real, before=ours.drain),
        Contender(STEP, ours.run_alone, check=ours.check_alone),
        *(Contender(fit.name, fit.run, check=fit.check) for fit in fits),
    ]
    names = [contender.name for contender in contenders]

    def report(laps: dict[str, Lap]) -> None:
        rows = []
        for name in names:
            rows.append(
                measure.row(
                    laps,
                    name,
                    ratios_to=names[1:] if name == END_TO_END else [],
                    precision="float32" if name == FIT_FLOAT32 else precision,
                    steps_per_call=ours.steps,
                )
            )
        put(*rows)

    try:
        measure.interleave(contenders, seconds=plan.seconds, rounds=plan.rounds, after_round=report)
    finally:
        for fit in fits:
            fit.stop()


class _Ours:
    """The two contenders of this project; built when they are checked."""

    def __init__(self, subject: Subject):
        self.subject = subject
        self.first_loss = math.nan
        self.steps = 1

    def check_real(self) -> str:
        self._real = end_to_end(self.subject)
        self._real.run()
        self.first_loss = self._real.mean_loss
        self._real.calibrate()
        self.steps = self._real.steps
        return finite(self._real)

    def run_real(self) -> float:
        return self._real.run()

    def drain(self) -> None:
        self._real.drain()

    def check_alone(self) -> str:
        self._alone = resident(self.subject)
        self._alone.steps = self.steps
        self._alone.run()
        return finite(self._alone)

    def run_alone(self) -> float:
        return self._alone.run()


class _Fit:
    """`fit` at one precision, held against the first loss of `ours`."""

    def __init__(self, name: str, precision: str, ours: _Ours):
        self.name = name
        self._precision = precision
        self._ours = ours
        self._running: keras_fit.RunningFit | None = None

    def check(self) -> str:
        subject = self._ours.subject
        if subject.prepared.runtime.replicas > 1:
            return "not applicable: fit does not run several steps a call on several replicas"
        model = keras_fit.build(subject, self._precision)
        keras_fit.compile_model(subject, model, self._ours.steps)
        loss = keras_fit.first_loss(subject, model)
        self._running = keras_fit.RunningFit(model, keras_fit.batches(subject))
        precisions = (self._precision, subject.prepared.runtime.precision)
        return compare_losses(loss, self._ours.first_loss, precisions)

    def run(self) -> float:
        assert self._running is not None  # built by the check
        self._running.run()
        return float(self._ours.steps * self._ours.subject.config.global_batch_size)

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()


def compare_losses(received: float, expected: float, precisions: Sequence[str]) -> str:
    """Tell whether two first losses (nats) agree as well as their precisions let them."""
    tolerance = max(_TOLERANCE[precision.removeprefix("mixed_")] for precision in precisions)
    if math.isfinite(received) and abs(received - expected) <= tolerance * abs(expected):
        return OK
    return (
        f"failed: the loss of the first step is {received:.5f} and should be {expected:.5f} "
        f"within {tolerance:.0e}"
    )
