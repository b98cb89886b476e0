"""`fastcifar bench step`: the compiled step alone, fed by a batch that lies on the device.

    mixed_bfloat16 xla, mixed_bfloat16
    tf32 xla, tf32                        on GPUs: float32 whose products are computed in TF32
    float32 xla, float32                  on a GPU without TF32
    batch N                               mixed_bfloat16 xla with batches twice as large and so on,
                                          while that fits and gains

Each row has a process of its own. Those of one precision take turns with each other and with
`mixed_bfloat16 xla`, so that no more than three of them need the device's memory at a time; the
ratios are of the rounds that both were in. Utilisation is of the largest matrix product's rate in
the row's own precision, measured in the same process.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from fastcifar import config_file
from fastcifar.bench import measure
from fastcifar.bench.measure import Clock, Contender, Lap
from fastcifar.bench.processes.row_process import Processes, Start
from fastcifar.bench.record import Estimate, Row
from fastcifar.config import Precision, RunConfig

BFLOAT16, TF32, FLOAT32 = "mixed_bfloat16", "tf32", "float32"
# Batches up to so many times the configuration's. On a CPU one that does not fit is not refused:
# the system ends some process.
_LARGER_ON_GPU, _LARGER_ON_CPU = 16, 2
# What a larger batch has to gain to be worth its memory.
_WORTH = 1.01
_SHARE = 0.5  # of a piece of the usual length


def xla(precision: str) -> str:
    """The name of a precision's row with XLA."""
    return f"{precision} xla"


BEST = xla(BFLOAT16)


@dataclass(frozen=True)
class StepPlan:
    """How long to measure.

    Attributes:
        seconds: for all rounds together, start-up apart.
        rounds: of each comparison, at most this many.
    """

    seconds: float = 60.0
    rounds: int | None = None


@dataclass
class _Subject:
    """A row: what it is, and what is known of it."""

    name: str
    config: RunConfig
    check: str | None = None
    prepare_s: float = 0.0  # outside of its comparison
    figures: dict[str, Any] = field(default_factory=dict)
    laps: dict[str, Lap] = field(default_factory=dict)
    ratios: dict[str, Estimate] = field(default_factory=dict)


def measure_step(
    config: RunConfig,
    plan: StepPlan,
    put: Callable[..., None],
    start: Start,
    clock: Clock = time.perf_counter,
) -> None:
    """Measure all rows; `put(*rows)` receives the rows so far after every round.

    Args:
        config: whatever its precision; its batch is that of all rows but the larger ones.
        plan: how long.
        put: takes the rows, and the `environment` that they were measured in.
        start: makes the process of a row.
        clock: seconds, rising.

    Raises:
        UserError: for a mistake in the configuration.
    """
    with Processes(start) as processes:
        _Bench(config, plan, put, processes, clock).run()


class _Bench:
    def __init__(
        self,
        config: RunConfig,
        plan: StepPlan,
        put: Callable[..., None],
        processes: Processes,
        clock: Clock,
    ):
        self._config = config
        self._plan = plan
        self._put = put
        self._processes = processes
        self._clock = clock
        self._subjects: dict[str, _Subject] = {}
        self._environment: dict[str, Any] = {}
        self._comparisons = 1

    def run(self) -> None:
        best = self._add(BEST, fastest(self._config))
        # Apart from the others: a mistake of the user's shows here, and whether there is a GPU.
        began = self._clock()
        built = self._prepare(best)
        best.prepare_s = self._clock() - began
        self._environment = built["environment"]
        on_gpu = bool(built["gpus"])
        others = [*([TF32] if on_gpu else []), FLOAT32]
        times = _LARGER_ON_GPU if on_gpu else _LARGER_ON_CPU
        self._comparisons = 1 + len(others) + times.bit_length() - 1
        plain = self._add(BFLOAT16, _with(self._config, BFLOAT16, "off"))
        self._take_turns([best, plain], pairs=[(best, plain)], keep=best)
        for precision in others:
            compiled, plain = (
                self._add(name, _with(self._config, precision, how))
                for name, how in ((xla(precision), "on"), (precision, "off"))
            )
            pairs = [(best, compiled), (compiled, plain)]
            self._take_turns([best, compiled, plain], pairs=pairs, keep=best)
        self._grow(best, times)

    def _grow(self, best: _Subject, times: int) -> None:
        """Double the batch of the fastest row while that fits and gains."""
        batch = self._config.global_batch_size
        for factor in (2**i for i in range(1, times.bit_length())):
            config = dataclasses.replace(best.config, global_batch_size=factor * batch)
            larger = self._add(f"batch {factor * batch}", config)
            self._take_turns([best, larger], pairs=[(larger, best)], keep=larger)
            gain = larger.ratios.get(best.name)
            if gain is None or gain.low <= 1 or gain.median < _WORTH:
                return
            best = larger

    def _add(self, name: str, config: RunConfig) -> _Subject:
        figures = {"global_batch_size": config.global_batch_size}
        self._subjects[name] = _Subject(name, config, figures=figures)
        return self._subjects[name]

    def _prepare(self, subject: _Subject) -> dict[str, Any]:
        process = self._processes.start(subject.name)
        return process.ask("prepare", config=config_file.to_dict(subject.config), held=True)

    def _take_turns(
        self,
        group: Sequence[_Subject],
        *,
        pairs: Sequence[tuple[_Subject, _Subject]],
        keep: _Subject,
    ) -> None:
        """Let a group take turns, the first of which is prepared already.

        Args:
            group: what takes turns.
            pairs: whose ratios are wanted: (of this row, to that one).
            keep: the row that the next group needs; the processes of the others end.
        """

        def report(laps: dict[str, Lap]) -> None:
            for subject in group:
                # The first comparison of a row says its rate.
                if not subject.laps or subject.laps is laps:
                    subject.laps = laps
            for subject, other in pairs:
                ratio = measure.ratio(laps, subject.name, other.name)
                if ratio is not None:
                    subject.ratios[other.name] = ratio
            self._put(*self._rows(), environment=self._environment)

        measure.interleave(
            [self._contender(subject, prepared=subject is group[0]) for subject in group],
            seconds=self._plan.seconds / self._comparisons,
            rounds=self._plan.rounds,
            clock=self._clock,
            after_round=report,
        )
        self._processes.close(*(subject.name for subject in group if subject is not keep))

    def _contender(self, subject: _Subject, *, prepared: bool) -> Contender:
        def check() -> str:
            if subject.check is not None:  # it has been in another comparison
                return subject.check
            if not prepared:
                self._prepare(subject)
            process = self._processes[subject.name]
            found = process.ask("calibrate", share=_SHARE)
            subject.check = found["check"]
            subject.figures |= {
                "steps_per_call": found["steps"],
                **process.ask("peaks"),
                **process.ask("arithmetic"),
            }
            return subject.check

        return Contender(
            subject.name,
            run=lambda: self._processes[subject.name].ask("run"),
            check=check,
        )

    def _rows(self) -> list[Row]:
        return [self._row(subject) for subject in self._subjects.values()]

    def _row(self, subject: _Subject) -> Row:
        if not subject.laps:
            return Row(subject.name)
        figures = subject.figures
        row = measure.row(subject.laps, subject.name, **figures)
        if row.images_per_s is None:
            return row
        us_per_image = row.figures["us_per_image"]
        achieved = figures["flops_per_image"] / us_per_image * 1e6
        row.figures.update(
            startup_s=row.figures["startup_s"] + subject.prepare_s,
            step_ms=us_per_image * subject.config.global_batch_size / 1e3,
            flops_per_s=achieved,
            utilisation=achieved / figures["peak_flops_per_s"],
        )
        return dataclasses.replace(row, ratios=dict(subject.ratios))


def fastest(config: RunConfig) -> RunConfig:
    """The row that the others are compared with: bfloat16 and XLA."""
    return _with(config, BFLOAT16, "on")


def _with(config: RunConfig, precision: str, how: str) -> RunConfig:
    own = dataclasses.replace(
        config.runtime,
        precision=cast(Precision, FLOAT32 if precision == TF32 else precision),
        tf32=precision == TF32,
        xla=cast(Any, how),
    )
    return dataclasses.replace(config, runtime=own)
