"""`fastcifar bench tune`: the fastest configuration that a budget of minutes finds.

Successive halving: as many combinations as the budget allows are measured for a moment; the faster
half is measured for twice as long, and so on, until one is left (K. Jamieson and A. Talwalkar,
"Non-stochastic Best Arm Identification and Hyperparameter Optimization", 2016). Each has a process
of its own, alone, so that a batch that does not fit is a row and not the end. At the end the winner
takes turns with the recipe.

It is the rate that is tuned, not the learning: another batch learns otherwise.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastcifar import config_file, environment
from fastcifar.bench import measure
from fastcifar.bench.axes import AXES, RECIPE, Trial, trials
from fastcifar.bench.measure import Clock, Contender, Described, Lap
from fastcifar.bench.processes.row_process import Handle, Processes, Start
from fastcifar.bench.record import OK, Row
from fastcifar.bench.statistics import spread
from fastcifar.config import RunConfig
from fastcifar.errors import UserError
from fastcifar.rundir import write_whole

WINNER = "winner"
_FIRST_S = 2.0  # of rounds in the first stage
_PIECE = 0.5  # of a piece of the usual length
# Of the budget: the first stage, in which most processes are started; the end.
_FIRST_SHARE, _LAST_SHARE = 0.5, 0.3


@dataclass(frozen=True)
class TunePlan:
    """What to try.

    Attributes:
        budget_s: for all of it.
        axes: what may be changed.
        seconds: of the rounds at the end.
    """

    budget_s: float = 300.0
    axes: Sequence[str] = AXES
    seconds: float = 20.0


@dataclass
class _Tried:
    """A trial with what is known of it."""

    trial: Trial
    rates: list[float] = field(default_factory=list)
    stage: int = 0
    error: str | None = None
    built: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return spread(self.rates).median if self.rates else 0.0


def measure_tune(
    config: RunConfig,
    plan: TunePlan,
    put: Callable[..., None],
    start: Start,
    clock: Clock = time.perf_counter,
) -> RunConfig:
    """Search; `put(*rows)` receives the rows after every trial. Returns the fastest configuration.

    Args:
        config: of the recipe.
        plan: what may be changed, and for how long to look.
        put: takes the rows, and the `environment` that they were measured in.
        start: makes the process of a row.
        clock: seconds, rising.

    Raises:
        UserError: for a mistake in the configuration.
    """
    return _Search(config, plan, put, start, clock).run()


def write_config(path: Path, config: RunConfig) -> None:
    """Write a configuration as `train --config` takes it.

    Raises:
        RunDirError: if the disk refuses.
    """
    text = json.dumps(config_file.to_dict(config), indent=2) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


class _Search:
    def __init__(
        self,
        config: RunConfig,
        plan: TunePlan,
        put: Callable[..., None],
        start: Start,
        clock: Clock,
    ):
        self._plan = plan
        self._put = put
        self._start = start
        self._clock = clock
        self._end = clock() + plan.budget_s
        self._recipe = _Tried(Trial(RECIPE, config))
        self._tried: list[_Tried] = [self._recipe]

    def run(self) -> RunConfig:
        began = self._clock()
        self._try(self._recipe, 0)
        built = self._recipe.built
        self._put(environment=built.get("environment"))
        if self._recipe.error is not None:
            raise Described(f"the recipe itself cannot be measured: {self._recipe.error}")
        one_s = self._clock() - began
        found = trials(
            self._recipe.trial.config,
            self._plan.axes,
            on_gpu=bool(built["gpus"]),
            precision=built["precision"],
            cores=environment.usable_cores(),
        )
        count = max(2, int(_FIRST_SHARE * self._plan.budget_s / one_s))
        self._tried += [_Tried(trial) for trial in found[1:count]]
        for tried in self._tried[1:]:
            if self._left() > 0:
                self._try(tried, 0)
        self._put(*map(self._row, self._tried))  # also those that there was no time for
        winner = self._halve()
        return self._finish(winner)

    def _left(self) -> float:
        """Seconds that are left for trials."""
        return self._end - _LAST_SHARE * self._plan.budget_s - self._clock()

    def _halve(self) -> _Tried:
        alive = [tried for tried in self._tried if tried.rates]
        stage = 0
        while len(alive) > 1:
            alive.sort(key=lambda tried: -tried.rate)
            alive = alive[: (len(alive) + 1) // 2]
            if len(alive) == 1:
                break
            stage += 1
            for tried in alive:
                if self._left() > 0:
                    self._try(tried, stage)
            alive = [tried for tried in alive if tried.error is None]
            if self._left() <= 0:
                break
        return max(alive, key=lambda tried: tried.rate) if alive else self._recipe

    def _try(self, tried: _Tried, stage: int) -> None:
        """Measure in a process of its own, twice as long as in the stage before."""
        with Processes(self._start) as processes:
            try:
                process = processes.start(tried.trial.name)
                tried.built = _ready(process, tried.trial)
                rates: list[float] = []
                until = self._clock() + _FIRST_S * 2**stage
                while len(rates) < measure.MIN_ROUNDS or self._clock() < until:
                    process.ask("drain")
                    began = self._clock()
                    images = process.ask("run")
                    rates.append(images / (self._clock() - began))
                tried.rates, tried.stage = rates, stage
            except Exception as error:
                if isinstance(error, UserError) and tried is self._recipe:
                    raise
                tried.error, tried.rates = measure.describe(error), []
        self._put(*map(self._row, self._tried))

    def _row(self, tried: _Tried) -> Row:
        if tried.error is not None:
            return Row(tried.trial.name, error=tried.error)
        if not tried.rates:
            return Row(tried.trial.name, check="not run: the budget was spent")
        figures = {"stage": tried.stage + 1, "precision": tried.built["precision"]}
        return Row(tried.trial.name, spread(tried.rates), figures=figures)

    def _finish(self, winner: _Tried) -> RunConfig:
        """The winner against the recipe, by turns."""
        config = winner.trial.config
        written = {"config": config_file.to_dict(config)}
        if winner is self._recipe:
            said = f"Nothing that was tried is faster than the recipe: {self._counted()}."
            self._put(Row(WINNER, figures={**written, "verdict": said}))
            return config

        def contender(processes: Processes, name: str, trial: Trial) -> Contender:
            process = processes.start(name)
            return Contender(
                name,
                run=lambda: process.ask("run"),
                check=lambda: _ready(process, trial)["check"],
                before=lambda: process.ask("drain"),
            )

        def report(laps: dict[str, Lap]) -> None:
            row = measure.row(laps, WINNER, ratios_to=[RECIPE], **written)
            if RECIPE in row.ratios:
                gain = row.ratios[RECIPE]
                row.figures["verdict"] = (
                    f"{winner.trial.name}: {gain.median:.2f} [{gain.low:.2f}, {gain.high:.2f}] × "
                    f"the recipe; {self._counted()}.{self._caution(config)}"
                )
            self._put(row)

        with Processes(self._start) as processes:
            laps = measure.interleave(
                [
                    contender(processes, RECIPE, self._recipe.trial),
                    contender(processes, WINNER, winner.trial),
                ],
                seconds=self._plan.seconds,
                clock=self._clock,
                after_round=report,
            )
        gain = measure.ratio(laps, WINNER, RECIPE)
        # It may have won by chance, or fail beside another process.
        if gain is not None and gain.low > 1:
            return config
        said = (
            f"By turns {winner.trial.name}, the fastest of those measured alone, is not faster "
            f"than the recipe beyond the noise: the recipe stays; {self._counted()}."
        )
        figures = {"config": config_file.to_dict(self._recipe.trial.config), "verdict": said}
        self._put(Row(WINNER, figures=figures))
        return self._recipe.trial.config

    def _counted(self) -> str:
        measured = sum(bool(tried.rates) for tried in self._tried)
        failed = sum(tried.error is not None for tried in self._tried)
        return f"{measured} combinations measured, {failed} failed"

    def _caution(self, config: RunConfig) -> str:
        recipe = self._recipe.trial.config
        if config.global_batch_size == recipe.global_batch_size:
            return ""
        return (
            f" Its batch is {config.global_batch_size} instead of {recipe.global_batch_size}, "
            "which learns otherwise: set --learning-rate, and compare by fastcifar bench accuracy."
        )


def _ready(process: Handle, trial: Trial) -> dict[str, Any]:
    built = process.ask("prepare", config=config_file.to_dict(trial.config))
    ready = process.ask("calibrate", share=_PIECE)
    if ready["check"] != OK:
        raise Described(ready["check"])
    return built | ready
