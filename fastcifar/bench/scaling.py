"""`fastcifar bench scaling`: the real path on 1, 2, 4 … replicas.

    1            one replica
    weak/N       N replicas, the batch of each as on one: N times the global batch
    strong/N     N replicas, the global batch as on one: a share of it for each
    weak/N/overlapped    on several GPUs: with --reduction overlapped

Each has a process of its own and they take turns, and so does, for each, the reduction alone: as
many vectors of that length added up across its replicas as its steps add up. With fewer than two
GPUs the replicas are logical devices that share the one device. Then this measures that the layout
computes the right thing and what it costs, not a speed-up, and says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastcifar import config_file, environment
from fastcifar.bench import measure
from fastcifar.bench.measure import Contender, Lap
from fastcifar.bench.processes.row_process import Processes, Start
from fastcifar.bench.record import OK, Estimate, Row
from fastcifar.bench.statistics import paired_ratio
from fastcifar.config import RunConfig

ONE, WEAK, STRONG = "1", "weak", "strong"
# Replicas that normalise by the whole batch have the losses of one, but for rounding.
_TOLERANCE = {"float32": 1e-3, "mixed_bfloat16": 2e-2, "mixed_float16": 2e-2}
# Of a split GPU's memory, what all processes together may take.
_GPU_SHARE = 0.8


@dataclass(frozen=True)
class ScalingPlan:
    """What to measure.

    Attributes:
        replicas: their numbers, above 1.
        seconds: for all rounds together, start-up apart.
        rounds: at most this many.
    """

    replicas: tuple[int, ...] = (2, 4)
    seconds: float = 75.0
    rounds: int | None = None


@dataclass(frozen=True)
class Layout:
    """A row's way to lay a batch out.

    Attributes:
        name: of its row.
        replicas: how many.
        global_batch_size: images in a step.
        reduction: see `RuntimeConfig`; None for that of the recipe.
    """

    name: str
    replicas: int
    global_batch_size: int
    reduction: Literal["packed", "overlapped"] | None = None


def layouts(global_batch_size: int, replicas: Sequence[int]) -> list[Layout]:
    """The rows: one replica, then each number of them weak and strong."""
    weak = [Layout(f"{WEAK}/{n}", n, n * global_batch_size) for n in replicas]
    strong = [Layout(f"{STRONG}/{n}", n, global_batch_size) for n in replicas]
    return [Layout(ONE, 1, global_batch_size), *weak, *strong]


def overlapped(rows: Sequence[Layout]) -> list[Layout]:
    """The weak ones of the rows once more, adding up while the backward pass goes on."""
    return [
        dataclasses.replace(row, name=f"{row.name}/overlapped", reduction="overlapped")
        for row in rows
        if row.name.startswith(f"{WEAK}/")
    ]


def measure_scaling(
    config: RunConfig, plan: ScalingPlan, put: Callable[..., None], start: Start
) -> None:
    """Measure all rows, interleaved; `put(*rows)` receives all rows after every round.

    Args:
        config: its global batch is that of one replica.
        plan: how many, how long.
        put: takes the rows, and the `environment` that they were measured in.
        start: makes the process of a row.

    Raises:
        UserError: for a mistake in the configuration.
    """
    with Processes(start) as processes:
        _Bench(config, plan, put, processes).run()


class _Bench:
    def __init__(
        self, config: RunConfig, plan: ScalingPlan, put: Callable[..., None], processes: Processes
    ):
        self._config = config
        self._plan = plan
        self._put = put
        self._processes = processes
        self._layouts = layouts(config.global_batch_size, plan.replicas)
        self._steps: dict[str, int] = {}
        self._built: dict[str, Any] = {}
        self._first_loss = 0.0

    @property
    def _gpus(self) -> int:
        return len(self._built["gpus"])

    def run(self) -> None:
        # Apart from the others: a mistake of the user's shows here, and how many GPUs there are.
        self._built = self._prepare(self._layouts[0])
        if self._gpus > 1 and self._built["xla"] and self._config.runtime.reduction == "packed":
            self._layouts += overlapped(self._layouts)
        contenders = []
        for layout in self._layouts:
            contenders.append(self._contender(layout))
            if layout.replicas > 1 and layout.reduction is None:
                contenders.append(self._reduction(layout))
        measure.interleave(
            contenders,
            seconds=self._plan.seconds,
            rounds=self._plan.rounds,
            after_round=lambda laps: self._put(
                *self._rows(laps), environment=self._built["environment"]
            ),
        )

    def _prepare(self, layout: Layout) -> dict[str, Any]:
        runtime = dataclasses.replace(self._config.runtime, **self._devices(layout.replicas))
        if layout.reduction is not None:
            runtime = dataclasses.replace(runtime, reduction=layout.reduction)
        config = dataclasses.replace(
            self._config, global_batch_size=layout.global_batch_size, runtime=runtime
        )
        process = self._processes.start(layout.name)
        return process.ask("prepare", config=config_file.to_dict(config))

    def _devices(self, replicas: int) -> dict[str, Any]:
        if replicas == 1:
            return {"strategy": "none", "devices": None, "logical_devices": 1}
        mirrored = {"strategy": "mirrored", "devices": None, "logical_devices": replicas}
        if self._gpus > 1:
            return mirrored | {"devices": replicas, "logical_devices": 1}
        memory = environment.gpu_memory_bytes() if self._gpus else None
        if memory:
            share = _GPU_SHARE * memory / len(self._layouts) / replicas
            mirrored["gpu_memory_limit"] = f"{share / 1e6:.0f}MB"
        return mirrored

    def _contender(self, layout: Layout) -> Contender:
        name = layout.name

        def check() -> str:
            if self._gpus > 1 and layout.replicas > self._gpus:
                return f"not run: this machine has {self._gpus} GPUs"
            if layout.replicas > 1:
                self._prepare(layout)
            process = self._processes[name]
            found = process.ask("first_step")
            first = found["first_loss"]
            ready = process.ask("calibrate", step_s=found["step_s"])
            self._steps[name] = ready["steps"]
            if ready["check"] != OK:
                return ready["check"]
            if not process.ask("replicas_agree"):
                return "failed: the replicas hold different weights after the same steps"
            if layout.replicas == 1:
                self._first_loss = first
            return self._same_loss(layout, first)

        return Contender(
            name,
            run=lambda: self._processes[name].ask("run"),
            check=check,
            before=lambda: self._processes[name].ask("drain"),
        )

    def _same_loss(self, layout: Layout, received: float) -> str:
        """Whether the first batch's loss is that of one replica, where it should be."""
        same_batch = layout.global_batch_size == self._config.global_batch_size
        if not (same_batch and self._config.model.sync_batch_norm):
            return OK
        if abs(received - self._first_loss) <= _TOLERANCE[self._built["precision"]]:
            return OK
        return (
            f"failed: the loss of the first step is {received:.5f}, and {self._first_loss:.5f} on "
            "one replica"
        )

    def _reduction(self, layout: Layout) -> Contender:
        def check() -> str:
            ready = layout.name in self._steps
            return OK if ready else "not applicable: its step does not run"

        return Contender(
            _reduction_of(layout.name),
            run=lambda: self._processes[layout.name].ask("reduction"),
            check=check,
        )

    def _rows(self, laps: dict[str, Lap]) -> list[Row]:
        made = []
        for layout in self._layouts:
            name = layout.name
            figures: dict[str, Any] = {
                "replicas": layout.replicas,
                "per_replica_batch_size": layout.global_batch_size // layout.replicas,
            }
            if name in self._steps:
                figures["steps_per_call"] = self._steps[name]
            to_one = measure.ratio(laps, name, ONE) if layout.replicas > 1 else None
            if to_one is not None:
                figures["efficiency"] = dataclasses.asdict(self._efficiency(layout, to_one))
                share = _share(laps, name)
                if share is not None:
                    figures["reduction_share"] = dataclasses.asdict(share)
            others = [ONE] if layout.replicas > 1 else []
            made.append(measure.row(laps, name, ratios_to=others, **figures))
        if made[0].images_per_s is not None:
            made[0].figures["verdict"] = judge(made, self._gpus)
        return made

    def _efficiency(self, layout: Layout, to_one: Estimate) -> Estimate:
        """Of as many devices, the share that is of use; logical ones are one device."""
        devices = layout.replicas if self._gpus > 1 else 1
        low, median, high = (v / devices for v in (to_one.low, to_one.median, to_one.high))
        return Estimate(median, low, high, to_one.n)


def _reduction_of(name: str) -> str:
    return f"{name}/reduction"


def _share(laps: dict[str, Lap], name: str) -> Estimate | None:
    """Seconds of the reduction alone over those of the whole step."""
    lap, alone = laps[name], laps.get(_reduction_of(name))
    if alone is None or not (
        lap.running and alone.running and len(alone.seconds_per_image) >= measure.MIN_ROUNDS
    ):
        return None
    rounds = min(len(lap.seconds_per_image), len(alone.seconds_per_image))
    return paired_ratio(alone.seconds_per_image[:rounds], lap.seconds_per_image[:rounds])


def judge(rows: Sequence[Row], gpus: int) -> str:
    """Say in words what the rows show.

    Args:
        rows: of the benchmark, that of one replica first.
        gpus: of the machine.
    """
    found = []
    for row in rows[1:]:
        if "efficiency" in row.figures:
            efficiency = row.figures["efficiency"]["median"]
            text = f"{row.name} {efficiency:.2f}"
            if "reduction_share" in row.figures:
                text += f" (reduction {row.figures['reduction_share']['median']:.1%} of the step)"
            found.append(text)
    numbers = f"Efficiency: {', '.join(found)}." if found else ""
    if gpus > 1:
        return numbers
    what = "GPU" if gpus else "CPU"
    return (
        f"The replicas are logical devices of one {what}: this shows that the layout computes the "
        f"right thing and what it costs, not a speed-up; 1 would mean that it costs nothing. "
        f"{numbers}"
    ).rstrip()
