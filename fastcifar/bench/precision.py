"""`fastcifar bench precision`: what mixed precision buys, and what it does to the learning.

    float32          all of it; on a GPU without TF32
    tf32             on GPUs: float32 whose products are computed in TF32
    mixed_bfloat16   activations and products in bfloat16
    mixed_float16    in float16, the loss scaled; on a CPU, where it is emulated, only if asked for
    float32_nudged   float32 again from weights that were moved to the next number: not timed

First each trains the same steps from the same weights on the same batches, and its losses are held
against those of float32. Rounding is amplified from step to step, so `float32_nudged` tells how far
float32 strays from itself. Then they take turns on the real path, each in a process of its own.
With seeds, each precision that was timed then trains to the end, once with each seed, as
`fastcifar bench accuracy` does: `fastcifar.bench.accuracy_cost` tells whether it costs accuracy.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from fastcifar import config_file
from fastcifar.bench import accuracy_cost, measure
from fastcifar.bench.accuracy import train_seeds
from fastcifar.bench.learning import Learning, compare
from fastcifar.bench.measure import Contender, Lap
from fastcifar.bench.processes.row_process import Handle, Processes, Start
from fastcifar.bench.record import OK, Row
from fastcifar.config import Precision, RunConfig

FLOAT32, TF32, BFLOAT16, FLOAT16 = "float32", "tf32", "mixed_bfloat16", "mixed_float16"
NUDGED = "float32_nudged"
# What emulated float16 may cost: seconds a step on a CPU.
_EMULATED_PX, _EMULATED_STEPS = 32, 5


@dataclass(frozen=True)
class PrecisionPlan:
    """How long to measure.

    Attributes:
        steps: of the loss curves.
        seconds: for all rounds together, start-up and loss curves apart.
        rounds: at most this many.
        include_fp16: also on a CPU, where it is emulated.
        seeds: runs of each precision to the end, from the configuration's own seed on; 2 or more,
            or 0 for none.
    """

    steps: int = 50
    seconds: float = 60.0
    rounds: int | None = None
    include_fp16: bool = False
    seeds: int = 0


@dataclass
class _Subject:
    """A precision with its process and its losses so far."""

    name: str
    process: Handle
    losses: list[float | None] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def learn(self, steps: int) -> None:
        self.losses += self.process.ask("losses", steps=steps)["losses"]


def measure_precision(
    config: RunConfig, plan: PrecisionPlan, put: Callable[..., None], start: Start
) -> None:
    """Measure all rows; `put(*rows)` receives all rows after every round.

    Args:
        config: whatever its precision.
        plan: how long.
        put: takes the rows, and the `environment` that they were measured in.
        start: makes the process of a row.

    Raises:
        UserError: for a mistake in the configuration.
    """
    with Processes(start) as processes:
        _Bench(config, plan, put, processes).run()


class _Bench:
    def __init__(
        self, config: RunConfig, plan: PrecisionPlan, put: Callable[..., None], processes: Processes
    ):
        self._config = config
        self._plan = plan
        self._put = put
        self._processes = processes
        self._open: dict[str, _Subject] = {}
        self._checks: dict[str, str] = {}
        self._nudged: list[float | None] = []
        self._environment: dict[str, Any] = {}
        self._weights = ""
        self._laps: dict[str, Lap] = {}
        self._few: dict[str, Lap] = {}  # the rounds of what is emulated, with float32's in them
        self._names: list[str] = []
        self._accuracies: dict[str, list[float]] = {}
        self._lost: dict[str, list[str]] = {}  # what stopped runs

    def run(self) -> None:
        plan = self._plan
        # Apart from the others: a mistake of the user's shows here, and whether there is a GPU.
        built = self._prepare(FLOAT32)
        self._environment, self._weights = built["environment"], built["weights_sha256"]
        on_gpu = bool(built["gpus"])
        others = [*([TF32] if on_gpu else []), BFLOAT16, FLOAT16]
        self._names = [FLOAT32, *others, NUDGED]
        if not on_gpu and not plan.include_fp16:
            self._checks[FLOAT16] = "not run: emulated on a CPU; --include-fp16 tries a few steps"
        elif not on_gpu and self._config.phases[0].image_size > _EMULATED_PX:
            self._checks[FLOAT16] = (
                f"not run: emulated on a CPU, where it is tried up to {_EMULATED_PX} px"
            )
        emulated = not on_gpu and FLOAT16 not in self._checks
        timed = [name for name in others if not (name == FLOAT16 and not on_gpu)]
        contenders = [self._float32(), *(self._contender(name) for name in timed)]
        self._laps = measure.interleave(
            contenders, seconds=plan.seconds, rounds=plan.rounds, after_round=self._report
        )
        if emulated and self._laps[FLOAT32].running:
            ready = dataclasses.replace(contenders[0], check=lambda: OK)
            self._few = measure.interleave(
                [ready, self._emulated()],
                seconds=math.inf,
                rounds=min(plan.steps, _EMULATED_STEPS) - 1,
                warm_up=0,
                after_round=self._report_few,
            )
        # Runs are compared by what they learn, not by their time: one after the other, and each
        # with the whole memory.
        self._processes.close()
        for name in [FLOAT32, *timed] if plan.seeds else []:
            if name in self._laps and self._laps[name].running:
                self._train(name)

    def _train(self, name: str) -> None:
        """Train to the end with each seed; a precision that fails keeps its rate."""
        config = self._in(name)
        process = self._processes.start(f"{name}, {self._plan.seeds} runs")
        process.ask("prepare_runs", config=config_file.to_dict(config))
        self._accuracies[name], self._lost[name] = [], []
        for seed, run in train_seeds(process, config, self._plan.seeds):
            if isinstance(run, str):
                self._lost[name].append(f"seed {seed}: {run}")
            else:
                self._accuracies[name].append(run["test_accuracy"])
            self._report(self._laps)
        self._processes.close()

    def _report(self, laps: dict[str, Lap]) -> None:
        self._laps = laps
        self._put(*self._rows(), environment=self._environment)

    def _report_few(self, laps: dict[str, Lap]) -> None:
        self._few = laps
        self._put(*self._rows(), environment=self._environment)

    def _in(self, name: str) -> RunConfig:
        """The configuration in a precision."""
        precision = FLOAT32 if name == TF32 else name
        own = dataclasses.replace(
            self._config.runtime, precision=cast(Precision, precision), tf32=name == TF32
        )
        return dataclasses.replace(self._config, runtime=own)

    def _prepare(self, name: str) -> dict[str, Any]:
        process = self._processes.start(name)
        self._open[name] = _Subject(name, process)
        config = config_file.to_dict(self._in(name))
        return process.ask("prepare", config=config, keep_weights=True)

    def _float32(self) -> Contender:
        subject = self._open[FLOAT32]

        def check() -> str:
            found = self._warm_up(subject)
            subject.process.ask("begin", nudged=True)
            self._nudged = subject.process.ask("losses", steps=self._plan.steps)["losses"]
            self._report({})
            return found

        return self._turns(subject.name, check)

    def _contender(self, name: str) -> Contender:
        def check() -> str:
            return self._same_start(name) or self._warm_up(self._open[name])

        return self._turns(name, check)

    def _turns(self, name: str, check: Callable[[], str]) -> Contender:
        return Contender(
            name,
            run=lambda: self._open[name].process.ask("run"),
            check=check,
            before=lambda: self._open[name].process.ask("drain"),
        )

    def _emulated(self) -> Contender:
        """Every step is a step of the loss curve: there are not many to spend."""

        def check() -> str:
            found = self._same_start(FLOAT16)
            if not found:
                subject = self._open[FLOAT16]
                subject.process.ask("begin")
                subject.learn(1)
                subject.figures |= subject.process.ask("peaks")
            return found or OK

        def run() -> float:
            self._open[FLOAT16].learn(1)
            return float(self._config.global_batch_size)

        return Contender(FLOAT16, run, check=check)

    def _same_start(self, name: str) -> str:
        built = self._prepare(name)
        same = built["weights_sha256"] == self._weights
        return "" if same else "failed: its first weights are not those of float32"

    def _warm_up(self, subject: _Subject) -> str:
        subject.process.ask("begin")
        subject.learn(self._plan.steps)
        ready = subject.process.ask("calibrate")
        subject.figures |= {"steps_per_call": ready["steps"], **subject.process.ask("peaks")}
        self._report({})  # the losses are known before anything is timed
        return ready["check"]

    def _rows(self) -> list[Row]:
        return [self._row(name) for name in self._names]

    def _row(self, name: str) -> Row:
        if name in self._checks:
            return Row(name, check=self._checks[name])
        learned = self._learning(name)
        figures = {**learned.figures, "losses": learned.losses} if learned else {}
        laps = self._laps if name in self._laps else self._few
        if name not in laps:
            return Row(name, figures=figures)
        if name in self._open:
            figures |= self._open[name].figures
        row = measure.row(laps, name, ratios_to=[] if name == FLOAT32 else [FLOAT32], **figures)
        row.figures.pop("startup_s", None)  # the loss curve is in it
        ratio = row.ratios.get(FLOAT32)
        if ratio is not None and learned is not None:
            control = self._learning(NUDGED, len(learned.losses))
            row.figures["verdict"] = learned.judge(name, ratio, control)
        self._add_accuracy(row)
        return row

    def _add_accuracy(self, row: Row) -> None:
        """What the runs so far show, where there are runs."""
        found, lost = self._accuracies.get(row.name), self._lost.get(row.name, [])
        if found is None or not (found or lost) or row.images_per_s is None:
            return
        reference = None if row.name == FLOAT32 else self._accuracies.get(FLOAT32)
        row.figures.update(accuracy_cost.figures(found, reference))
        said = accuracy_cost.words(row.name, found, reference, lost)
        row.figures["verdict"] = " ".join(filter(None, [row.figures.get("verdict"), said]))

    def _learning(self, name: str, steps: int | None = None) -> Learning | None:
        """The losses of a row so far, or the first `steps` of them, against float32's."""
        losses = self._nudged if name == NUDGED else []
        if name in self._open:
            losses = self._open[name].losses
        reference = self._open[FLOAT32].losses
        return compare(losses[:steps], reference) if losses and reference else None
