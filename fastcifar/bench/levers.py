"""`fastcifar bench levers`: settings of TensorFlow and XLA that others pull, one by one.

Each is a process with an environment or a batch of its own and takes turns with the default on the
real path, so that what is left is the lever's. Most of them are for GPUs; elsewhere their rows say
that they are not applicable.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastcifar import config_file
from fastcifar.bench import measure
from fastcifar.bench.measure import Clock, Contender, Lap
from fastcifar.bench.processes.row_process import Handle, Processes
from fastcifar.bench.record import Row
from fastcifar.config import RunConfig

DEFAULT = "default"
_SHARE = 0.5  # of a piece of the usual length


@dataclass(frozen=True)
class Lever:
    """One setting.

    Attributes:
        name: of its row.
        environment: variables; what stands in `XLA_FLAGS` is added to what the host has there.
        batches: times the configuration's batch.
        on_gpu: it has a meaning there only.
    """

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    batches: int = 1
    on_gpu: bool = True

    def variables(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The variables of its process, beside those that are inherited."""
        found = dict(self.environment)
        if "XLA_FLAGS" in found:
            found["XLA_FLAGS"] = f"{inherited.get('XLA_FLAGS', '')} {found['XLA_FLAGS']}".strip()
        return found


LEVERS = (
    # Threads of its own for launching kernels, so that the input's do not delay them (TensorFlow's
    # guide to GPU performance; NVIDIA's ResNet-50 uses it).
    Lever(
        "TF_GPU_THREAD_MODE=gpu_private",
        {"TF_GPU_THREAD_MODE": "gpu_private", "TF_GPU_THREAD_COUNT": "2"},
    ),
    # CUDA's allocator, which gives memory back, instead of TensorFlow's.
    Lever("TF_GPU_ALLOCATOR=cuda_malloc_async", {"TF_GPU_ALLOCATOR": "cuda_malloc_async"}),
    # XLA looks for the fastest kernels; 0: not at all.
    Lever("xla_gpu_autotune_level=0", {"XLA_FLAGS": "--xla_gpu_autotune_level=0"}),
    # Kernels that XLA launches as one CUDA graph: at least so many; none at all.
    Lever("xla_gpu_graph_min_graph_size=1", {"XLA_FLAGS": "--xla_gpu_graph_min_graph_size=1"}),
    Lever("xla_gpu_graph_min_graph_size=20", {"XLA_FLAGS": "--xla_gpu_graph_min_graph_size=20"}),
    Lever("no command buffers", {"XLA_FLAGS": "--xla_gpu_enable_command_buffer="}),
    # An order of operations that hides copies and reductions behind others.
    Lever(
        "latency hiding scheduler",
        {"XLA_FLAGS": "--xla_gpu_enable_latency_hiding_scheduler=true"},
    ),
    Lever("batch × 2", batches=2, on_gpu=False),
)


class StartWith(Protocol):
    """Makes the process of a row in an environment."""

    def __call__(self, name: str, environment: Mapping[str, str] | None = None) -> Handle: ...


@dataclass(frozen=True)
class LeversPlan:
    """How long to measure.

    Attributes:
        seconds: for the rounds of all levers together, start-up apart.
        rounds: of each, at most this many.
    """

    seconds: float = 60.0
    rounds: int | None = None


def measure_levers(
    config: RunConfig,
    plan: LeversPlan,
    put: Callable[..., None],
    start: StartWith,
    clock: Clock = time.perf_counter,
) -> None:
    """Measure all levers against the default; `put(*rows)` receives the rows after every round.

    Args:
        config: of the default.
        plan: how long.
        put: takes the rows, and the `environment` that they were measured in.
        start: makes the process of a row.
        clock: seconds, rising.

    Raises:
        UserError: for a mistake in the configuration.
    """
    levers = {lever.name: lever for lever in LEVERS}

    def start_row(name: str) -> Handle:
        lever = levers.get(name)
        return start(name, None if lever is None else lever.variables(os.environ))

    def ready(process: Handle, own: RunConfig) -> tuple[dict[str, Any], str]:
        built = process.ask("prepare", config=config_file.to_dict(own))
        return built, process.ask("calibrate", share=_SHARE)["check"]

    with Processes(start_row) as processes:
        # A mistake of the user's shows here, and whether there is a GPU.
        began = clock()
        built, check = ready(processes.start(DEFAULT), config)
        startup_s = clock() - began
        put(Row(DEFAULT, check=check), environment=built["environment"])
        for lever in LEVERS:
            if lever.on_gpu and not built["gpus"]:
                put(Row(lever.name, check="not applicable: it is for GPUs"))
                continue
            own = dataclasses.replace(
                config, global_batch_size=lever.batches * config.global_batch_size
            )

            def prepare(lever: Lever = lever, own: RunConfig = own) -> str:
                return ready(processes.start(lever.name), own)[1]

            figures = {
                "global_batch_size": own.global_batch_size,
                "variables": lever.variables({}),
            }

            def report(
                laps: dict[str, Lap],
                lever: Lever = lever,
                figures: dict[str, Any] = figures,
            ) -> None:
                # Only in its first comparison had the default to start.
                first: dict[str, Any] = {
                    "global_batch_size": config.global_batch_size,
                    "startup_s": startup_s,
                }
                put(
                    measure.row(laps, DEFAULT, **first),
                    measure.row(laps, lever.name, ratios_to=[DEFAULT], **figures),
                )

            measure.interleave(
                [
                    _contender(DEFAULT, processes, lambda: check),
                    _contender(lever.name, processes, prepare),
                ],
                seconds=plan.seconds / len(LEVERS),
                rounds=plan.rounds,
                clock=clock,
                after_round=report,
            )
            processes.close(lever.name)


def _contender(name: str, processes: Processes, check: Callable[[], str]) -> Contender:
    return Contender(
        name,
        run=lambda: processes[name].ask("run"),
        check=check,
        before=lambda: processes[name].ask("drain"),
    )
