"""What the profiler's trace of a run says, in numbers a step.

    python -m fastcifar.bench.trace RUN [--out FILE]        a run of `train --profile STEPS`
    python -m fastcifar.bench.trace FILE --steps N          any *.xplane.pb

    device/busy, device/gaps    how much of the time the device worked; pauses of 5 µs or more
    device/launches             kernels that were started
    kind/…                      of a GPU: products with and without tensor cores, BatchNorm, changes
                                of layout, copies (`fastcifar.bench.tracing.kernels`)
    top/01 …                    what took most time: kernels, or on a CPU types of operations, whose
                                times add up over threads

The profiler slows what it watches, and what runs beside a kernel on another stream counts twice in
`kind` and `top`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from fastcifar import config_file, environment
from fastcifar.bench import tables
from fastcifar.bench.record import Record, Row, write
from fastcifar.bench.tracing import kernels, xplane
from fastcifar.bench.tracing.summary import Sum, Summary, batches_taken, summarise
from fastcifar.errors import ConfigError, FastcifarError, one_line
from fastcifar.paths import given_path
from fastcifar.rundir import RunDir

KIND = "trace"
BUSY, GAPS, LAUNCHES = "device/busy", "device/gaps", "device/launches"
UNSEEN = "device/GPU"


def measure_trace(path: Path, steps: int | None = None) -> Record:
    """Read a trace into a record.

    Args:
        path: of the trace, or a run's folder.
        steps: that were traced. Default: as many as took a batch, and at most those that the run's
            configuration asks for: an epoch may have ended before.

    Raises:
        ConfigError: if there is no trace, nothing in it, or nothing says how many steps it has.
    """
    file = xplane.find(path)
    config: dict[str, Any] = {}
    found: dict[str, Any] | None = None
    asked: int | None = None
    if path.is_dir():
        run = RunDir.open(path)
        config = config_file.to_dict(run.read_config())
        found = run.read_environment()
        asked = config["runtime"]["profile"]
    planes = xplane.read(file)
    summary = summarise(planes)
    told = [number for number in (asked, batches_taken(planes)) if number]
    steps = steps or min(told, default=None)
    if steps is None:
        raise ConfigError(f"trace {file} does not say how many steps it is of: add --steps N")
    if summary is None:
        raise ConfigError(f"trace {file} must hold events of a device. Received: none")
    # Of a run the record holds the configuration; where its folder lay is of no interest.
    name = "RUN" if path.is_dir() else path.name
    command = f"python -m fastcifar.bench.trace {name} --steps {steps}"
    rows = _rows(summary, steps)
    if found and found.get("gpus") and not summary.on_gpu:
        # What the host did is worth seeing all the same.
        said = "the profiler has recorded nothing of it: look for CUPTI in what the run has printed"
        rows.insert(0, Row(UNSEEN, error=said))
    return Record(KIND, command, found or environment.fingerprint(), config, tuple(rows))


def _rows(summary: Summary, steps: int) -> list[Row]:
    def row(name: str, found: Sum, **figures: Any) -> Row:
        return Row(
            name,
            figures={
                "launches_per_step": found.count / steps,
                "ms_per_step": found.ns / steps / 1e6,
                "share_of_trace": found.ns / summary.window_ns,
                **figures,
            },
        )

    busy = Row(
        BUSY,
        figures={
            "ms_per_step": summary.busy_ns / steps / 1e6,
            "share_of_trace": summary.busy_ns / summary.window_ns,
            "device": summary.device,
            "steps": steps,
            "verdict": words(summary, steps),
        },
    )
    made = [busy, row(GAPS, summary.gaps, longest_ms=summary.longest_gap_ns / 1e6)]
    if summary.on_gpu:
        work = sum(s.ns for kind, s in summary.kinds.items() if kind not in kernels.COPIES)
        made.append(row(LAUNCHES, Sum(summary.launches, work)))
    made += [row(f"kind/{kind}", found) for kind, found in summary.kinds.items()]
    made += [
        row(f"top/{place:02}", found, operation=name[:120])
        for place, (name, found) in enumerate(summary.top.items(), 1)
    ]
    return made


def words(summary: Summary, steps: int) -> str:
    """What a trace shows, in words."""
    said = (
        f"{summary.device}, {steps} steps: busy for {summary.busy_ns / summary.window_ns:.1%} of "
        f"{summary.window_ns / steps / 1e6:,.2f} ms a step; {summary.gaps.count / steps:,.1f} "
        f"pauses a step, the longest of {summary.longest_gap_ns / 1e6:,.3f} ms."
    )
    if not summary.on_gpu:
        return said
    said += f" {summary.launches / steps:,.1f} kernels a step."
    products = (kernels.PRODUCT, kernels.MISSING, kernels.UNTOLD)
    total = sum(summary.kinds[kind].ns for kind in products if kind in summary.kinds)
    if total:
        shares = {k: summary.kinds.get(k, Sum(0, 0.0)).ns / total for k in products}
        said += (
            f" Of the time of convolutions and products {shares[kernels.PRODUCT]:.1%} is on tensor "
            f"cores, {shares[kernels.MISSING]:.1%} is not"
        )
        untold = shares[kernels.UNTOLD]
        said += f", and of {untold:.1%} the names do not tell." if untold else "."
    return said


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = _Parser(
        prog="python -m fastcifar.bench.trace", description=str(__doc__).split("\n")[0]
    )
    parser.add_argument("path", type=given_path, metavar="RUN or FILE")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--out", type=given_path)
    try:
        given = parser.parse_args(argv)
        if given.steps is not None and given.steps < 1:
            raise ConfigError(f"steps must be 1 or more. Received: {given.steps}")
        record = measure_trace(given.path, given.steps)
        if given.out is not None:
            write(given.out, record)
    except FastcifarError as error:
        print(f"fastcifar: error: {one_line(error)}", file=sys.stderr)
        return error.exit_status
    tables.show(record)
    return 1 if tables.failed(record) else 0


if __name__ == "__main__":
    sys.exit(main())
