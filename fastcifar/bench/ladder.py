"""`fastcifar bench ladder`: what each choice buys, from the naive way on.

The first row is the textbook's way. Each rung changes one field of the best configuration so far
and takes turns with it, each in a process of its own; one that loses is shown as losing and
dropped. At the end the best takes turns with the naive way, and with its own step fed by a batch
that lies on the device, which tells whether the input still holds anything back.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastcifar import config_file
from fastcifar.bench import measure
from fastcifar.bench.measure import Clock, Contender, Lap
from fastcifar.bench.processes.row_process import Handle, Processes, Start
from fastcifar.bench.record import OK, Estimate, Row
from fastcifar.bench.rungs import NAIVE, RUNGS, Rung, Variant, naive
from fastcifar.bench.statistics import spread
from fastcifar.config import RunConfig
from fastcifar.errors import ConfigError

BEST, STEP = "best", "step"
KEPT, SAME, CANNOT_TELL, DROPPED = "kept", "no difference", "cannot tell", "dropped"
# What makes no difference changes the rate by no more than this.
_SMALL = 0.03
_FLOAT32_BYTES = 4
# What a large GPU keeps up in a network like this one; the arithmetic says that it assumes so.
_SUSTAINED_FLOPS_PER_S = 200e12
# Shorter pieces, more rounds: a rung has ten seconds.
_SHARE = 0.5
_LOSES = 0.9


@dataclass(frozen=True)
class LadderPlan:
    """What to measure.

    Attributes:
        rungs: in the order in which they are tried.
        seconds: for the rounds of all rungs and of the end, start-up apart.
        rounds: of each, at most this many.
    """

    rungs: Sequence[Rung] = RUNGS
    seconds: float = 130.0
    rounds: int | None = None


@dataclass
class _Climber:
    """A variant with its process."""

    name: str
    variant: Variant
    process: Handle
    ready: dict[str, Any] = dataclasses.field(default_factory=dict)

    def contender(self, name: str | None = None, *, do: str = "run") -> Contender:
        return Contender(
            name or self.name,
            run=lambda: self.process.ask(do),
            check=lambda: self.ready["check"],
            before=lambda: self.process.ask("drain"),
        )


def measure_ladder(
    config: RunConfig,
    plan: LadderPlan,
    put: Callable[..., None],
    start: Start,
    clock: Clock = time.perf_counter,
) -> None:
    """Climb; `put(*rows)` receives the rows so far after every round.

    Args:
        config: gives what no rung changes.
        plan: which rungs, how long.
        put: takes the rows, and the `environment` that they were measured in.
        start: makes the process of a row.
        clock: seconds, rising.

    Raises:
        UserError: for a mistake in the configuration.
    """
    with Processes(start) as processes:
        _Ladder(plan, put, processes, clock).climb(naive(config))


class _Ladder:
    def __init__(
        self, plan: LadderPlan, put: Callable[..., None], processes: Processes, clock: Clock
    ):
        self._plan = plan
        self._clock = clock
        self._put = put
        self._processes = processes
        # Rounds of each rung, and of the end.
        self._seconds = plan.seconds / (len(plan.rungs) + 1)
        self._factor = 1.0  # of the best so far over the naive way, by the ratios of the rungs
        self._built: dict[str, Any] = {}

    def climb(self, first: Variant) -> None:
        bottom = self._open_climber(NAIVE, first)
        self._built = bottom.ready
        self._put(Row(NAIVE), environment=self._built["environment"])
        best = bottom
        for rung in self._plan.rungs:
            if rung.on_gpu and not self._built["gpus"]:
                self._put(Row(rung.name, check="not applicable: a CPU computes where data lies"))
                continue
            best = self._try(rung, best, bottom)
        self._finish(bottom, best)

    def _open_climber(self, name: str, variant: Variant) -> _Climber:
        climber = _Climber(name, variant, self._processes.start(name))
        built = climber.process.ask(
            "prepare",
            config=config_file.to_dict(variant.config),
            per_image=variant.per_image,
        )
        climber.ready = built | climber.process.ask("calibrate", share=_SHARE)
        return climber

    def _try(self, rung: Rung, best: _Climber, bottom: _Climber) -> _Climber:
        """Let the best with one change take turns with the best; returns the better of both."""
        try:
            variant = rung.apply(best.variant)
        except ConfigError as error:  # it needs a rung that has been dropped
            self._put(Row(rung.name, check=f"not applicable: {error}"))
            return best
        try:
            candidate = self._open_climber(rung.name, variant)
        except Exception as error:
            self._put(Row(rung.name, error=measure.describe(error)))
            self._processes.close(rung.name)
            return best
        if rung.field == "precision" and candidate.ready["precision"] == best.ready["precision"]:
            why = f"this device computes {best.ready['precision']} natively"
            self._put(Row(rung.name, check=f"not applicable: {why}"))
            self._release(candidate, best, bottom)
            return best
        laps = measure.interleave(
            [best.contender(), candidate.contender()],
            seconds=self._seconds,
            rounds=self._plan.rounds,
            clock=self._clock,
            after_round=lambda laps: self._put(*self._rows(laps, best, candidate)),
        )
        ratio = measure.ratio(laps, candidate.name, best.name)
        won = ratio is not None and judge(ratio) != DROPPED
        if ratio is not None and won:
            self._factor *= ratio.median
        self._release(best if won else candidate, bottom)
        return candidate if won else best

    def _release(self, climber: _Climber, *kept: _Climber) -> None:
        if climber not in kept:
            self._processes.close(climber.name)

    def _rows(self, laps: dict[str, Lap], best: _Climber, candidate: _Climber) -> list[Row]:
        made = []
        if best.name == NAIVE:
            made.append(self._row(laps, best))
        row = self._row(laps, candidate)
        ratio = measure.ratio(laps, candidate.name, best.name)
        if ratio is not None:
            outcome = judge(ratio)
            factor = self._factor * ratio.median
            row.figures.update(
                before_images_per_s=spread(laps[best.name].images_per_s).median,
                to_best=dataclasses.asdict(ratio),
                outcome=outcome,
                times_naive=factor,
            )
        return [*made, row]

    def _row(self, laps: dict[str, Lap], climber: _Climber) -> Row:
        figures = {key: climber.ready[key] for key in ("precision", "steps") if climber.ready}
        figures["steps_per_call"] = figures.pop("steps")
        return measure.row(laps, climber.name, startup_s=self._startup(climber), **figures)

    @staticmethod
    def _startup(climber: _Climber) -> float:
        return climber.ready["import_s"] + climber.ready["build_s"]

    def _finish(self, bottom: _Climber, best: _Climber) -> None:
        """The best against the naive way, and against its own step."""
        if best.ready["check"] != OK:
            return
        if not self._built["gpus"]:
            self._built |= best.process.ask("arithmetic", peak_seconds=0.1)
        top = best.contender(BEST)
        others = [] if best is bottom else [bottom.contender()]

        def report(laps: dict[str, Lap]) -> None:
            row = measure.row(
                laps,
                BEST,
                ratios_to=[NAIVE, STEP],
                startup_s=self._startup(best),
                precision=best.ready["precision"],
                steps_per_call=best.ready["steps"],
                config=config_file.to_dict(best.variant.config),
            )
            if STEP in row.ratios:
                row.figures["verdict"] = words(row, best.variant, self._built)
            self._put(row, measure.row(laps, STEP))

        measure.interleave(
            [*others, top, best.contender(STEP, do="resident")],
            seconds=self._seconds,
            rounds=self._plan.rounds,
            clock=self._clock,
            after_round=report,
        )


def judge(ratio: Estimate) -> str:
    """What becomes of a rung, by its rate over that of the best so far.

    It is dropped where the whole interval lies below 1, or where it loses by so much that too few
    rounds are no excuse. What makes no difference is kept, as it costs nothing, and so is that of
    which the interval cannot tell.
    """
    if ratio.high < 1 or ratio.median < _LOSES:
        return DROPPED
    if ratio.low > 1:
        return KEPT
    return SAME if ratio.low >= 1 - _SMALL and ratio.high <= 1 + _SMALL else CANNOT_TELL


def words(best: Row, variant: Variant, built: dict[str, Any]) -> str:
    """What the ladder shows, and what follows by arithmetic for a GPU that is not here.

    Args:
        best: the row of the best configuration, with its ratios.
        variant: the configuration.
        built: of the machine its `gpus`; where it has none, `flops_per_image` of a training step
            and `image_bytes` of an image in uint8.
    """
    found = []
    if NAIVE in best.ratios:
        gain = best.ratios[NAIVE]
        found.append(
            f"The best is {gain.median:.2f} [{gain.low:.2f}, {gain.high:.2f}] × the naive way."
        )
    efficiency = best.ratios[STEP]
    found.append(
        f"Pipeline efficiency {efficiency.median:.2f} [{efficiency.low:.2f}, "
        f"{efficiency.high:.2f}]: 1 means that the input never holds the device back."
    )
    if not built["gpus"]:
        size = variant.config.phases[0].image_size
        floats = size * size * 3 * _FLOAT32_BYTES
        stored, flops = built["image_bytes"], built["flops_per_image"]
        rate = _SUSTAINED_FLOPS_PER_S / flops
        found.append(
            f"By arithmetic, not measured: a training step is {flops / 1e9:.3g} GFLOP an image, so "
            f"a GPU that sustains {_SUSTAINED_FLOPS_PER_S / 1e12:.0f} TFLOP/s trains {rate:,.0f} "
            f"images/s. Augmented and resized on the host they cross the bus as {floats:,} bytes "
            f"each in float32, {rate * floats / 1e9:.3g} GB/s; as they are kept, in uint8, as "
            f"{stored:,} bytes, {rate * stored / 1e9:.3g} GB/s."
        )
    return " ".join(found)
