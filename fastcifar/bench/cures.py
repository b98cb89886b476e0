"""`fastcifar bench cures`: each bottleneck provoked, then cured, on this machine.

    CASE/before   a configuration that provokes the bottleneck
    CASE/after    the same with its cure

Both take turns on the real path, each in a process of its own, and each is asked for its stages:
what bounds it, and what the stage in question takes. A cure that buys nothing is shown as that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastcifar import config_file
from fastcifar.bench import measure
from fastcifar.bench.cure_cases import COMPUTE, Case
from fastcifar.bench.measure import Contender, Lap
from fastcifar.bench.processes.row_process import Handle, Processes, Start
from fastcifar.bench.record import OK, Row
from fastcifar.bench.stage_names import BACKWARD, FORWARD, STEP
from fastcifar.config import RunConfig
from fastcifar.errors import UserError

BEFORE, AFTER = "before", "after"
NO_TRANSFER = "not applicable: a CPU computes where data lies"


@dataclass(frozen=True)
class CuresPlan:
    """How long to measure.

    Attributes:
        seconds: for the rounds of all cases together, stages and start-up apart.
        rounds: of each case, at most this many.
        stage_seconds: for the stages of each configuration.
    """

    seconds: float = 110.0
    rounds: int | None = None
    stage_seconds: float = 8.0


def measure_cures(
    cases: Sequence[tuple[Case, Mapping[str, RunConfig]]],
    plan: CuresPlan,
    put: Callable[..., None],
    start: Start,
) -> None:
    """Measure one case after the other; `put(*rows)` receives a case's rows after every round.

    Args:
        cases: each with its configurations `before` and `after`.
        plan: how long.
        put: takes the rows, and the `environment` that they were measured in.
        start: makes the process of a row.

    Raises:
        UserError: for a mistake in a configuration.
    """
    gpus: list[str] | None = None
    for case, configs in cases:
        names = {which: f"{case.name}/{which}" for which in (BEFORE, AFTER)}
        if case.on_gpu and gpus == []:
            put(*(Row(name, check=NO_TRANSFER) for name in names.values()))
            continue
        with Processes(start) as processes:
            try:
                sides = []
                for which, name in names.items():
                    side = _Side(case, which, name, processes.start(name))
                    built = side.prepare(configs[which], plan.stage_seconds)
                    gpus = built["gpus"]
                    put(Row(name), environment=built["environment"])
                    sides.append(side)
                _take_turns(sides, plan.seconds / len(cases), plan.rounds, put)
            except UserError:
                raise
            except Exception as error:  # the other cases have nothing to do with it
                put(*(Row(name, error=measure.describe(error)) for name in names.values()))


class _Side:
    """Before or after, with its process."""

    def __init__(self, case: Case, which: str, name: str, process: Handle):
        self.name = name
        self._case = case
        self._which = which
        self._process = process
        self._check = OK
        self.figures: dict[str, Any] = {}

    def prepare(self, config: RunConfig, stage_seconds: float) -> dict[str, Any]:
        """Build the step, warm it up and measure its stages; returns what was built."""
        built = self._process.ask("prepare", config=config_file.to_dict(config))
        self._check = self._process.ask("calibrate")["check"]
        found = self._process.ask("stages", seconds=stage_seconds)
        times = found["us_per_image"]
        parts = (FORWARD, BACKWARD) if self._case.stage == COMPUTE else (self._case.stage,)
        self.figures = {"flags": getattr(self._case, self._which), "bound_by": found["bound_by"]}
        # One that is lost in the noise has no time to show.
        if {*parts, STEP} <= times.keys():
            took = sum(times[part] for part in parts)
            self.figures |= {"stage_us": took, "share_of_step": took / times[STEP]}
        return built

    def contender(self) -> Contender:
        """The real path."""
        return Contender(
            self.name,
            run=lambda: self._process.ask("run"),
            check=lambda: self._check,
            before=lambda: self._process.ask("drain"),
        )


def _take_turns(
    sides: Sequence[_Side], seconds: float, rounds: int | None, put: Callable[..., None]
) -> None:
    before, after = sides

    def report(laps: dict[str, Lap]) -> None:
        put(
            measure.row(laps, before.name, **before.figures),
            measure.row(laps, after.name, ratios_to=[before.name], **after.figures),
        )

    measure.interleave(
        [side.contender() for side in sides], seconds=seconds, rounds=rounds, after_round=report
    )
