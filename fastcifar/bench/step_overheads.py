"""What a step costs beside its arithmetic: talk between replicas, and the host between two calls.

    python -m fastcifar.bench.step_overheads --out FILE [--replicas 2] [--seconds 40]

Rows of `cifar10-32px` on logical devices of the CPU:

    reduce/packed          what a step adds up across replicas, as the one vector that it is
    reduce/per_variable    the same, a reduction for each variable
    call                   one call to the device of no steps: what the host adds to every call
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastcifar import config_file, recipes
from fastcifar.bench import measure, plots, subject
from fastcifar.bench.measure import Contender, seconds_of
from fastcifar.bench.record import EACH, Record, RecordFile, Row
from fastcifar.config import RunConfig

PACKED, PER_VARIABLE, CALL = "reduce/packed", "reduce/per_variable", "call"
_PIECE = 10  # reductions in a piece of work
_CALLS = 50


def configuration(replicas: int) -> RunConfig:
    """The recipe on drawn images, on `replicas` logical devices."""
    base = recipes.get("cifar10-32px")
    return dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, source="synthetic"),
        runtime=dataclasses.replace(base.runtime, logical_devices=replicas),
    )


def measure_reductions(prepared: Any, global_batch_size: int, seconds: float) -> list[Row]:
    """The two reductions by turns; a step's worth of them counts as a step's images."""
    from fastcifar.bench.reduction import METRICS, Reduction, elements

    state, strategy = prepared.state, prepared.runtime.strategy
    sizes = [METRICS, *(elements([v]) for v in (*state.trainable, *state.statistics))]
    ways = {
        PACKED: Reduction(strategy, [(sum(sizes), "float32")]),
        PER_VARIABLE: Reduction(strategy, [(size, "float32") for size in sizes]),
    }

    def run(way: Reduction) -> float:
        way.run(_PIECE)
        return float(_PIECE * global_batch_size)

    contenders = [
        Contender(name, functools.partial(run, way), way.check) for name, way in ways.items()
    ]
    laps = measure.interleave(contenders, seconds=seconds)
    count = {PACKED: 1, PER_VARIABLE: len(sizes)}
    return [
        measure.row(laps, name, ratios_to=[] if name == PER_VARIABLE else [PER_VARIABLE], **figures)
        for name in ways
        for figures in [{"reductions": count[name], "bytes": ways[name].bytes}]
    ]


def measure_call(prepared: Any, config: RunConfig) -> Row:
    """A call of no steps, against one of as many as training chooses."""
    driver = subject.resident(subject.Subject.of(config, prepared))
    driver.calibrate()
    chosen = driver.steps
    full = statistics.median(seconds_of(driver.run) for _ in range(5))
    driver.steps = 0
    driver.run()
    calls_ms = [seconds_of(driver.run) * 1e3 for _ in range(_CALLS)]
    call_ms = statistics.median(calls_ms)
    figures = {
        "steps_per_call": chosen,
        "step_ms": full / chosen * 1e3,
        "call_ms": call_ms,
        "share_of_step": call_ms / 1e3 / full,
        "n": _CALLS,
        EACH: {"call_ms": calls_ms},
    }
    return Row(CALL, figures=figures)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fastcifar.bench.step_overheads", description=str(__doc__).split("\n", 1)[0]
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=40.0)
    given = parser.parse_args(argv)

    from fastcifar.training.preparation import prepare
    from fastcifar.training.progress import Display

    config = configuration(given.replicas)
    prepared = prepare(config, Display())
    command = f"python -m fastcifar.bench.step_overheads {' '.join(argv or sys.argv[1:])}"
    values = config_file.to_dict(config)
    file = RecordFile(given.out, Record("overheads", command, prepared.environment, values))
    file.put(*measure_reductions(prepared, config.global_batch_size, given.seconds))
    file.put(measure_call(prepared, config))
    for row in file.record.rows:
        print(row.name, row.check, row.ratios, row.figures)
    plots.write_plots(given.out, file.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
