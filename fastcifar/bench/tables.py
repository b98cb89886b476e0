"""A record as a table for people. Reads the record only, so a table can be printed again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastcifar.bench.record import OK, Estimate, Record, Row


def _estimate(value: dict[str, Any]) -> str:
    return with_interval(Estimate(**value))


def _points(value: dict[str, Any]) -> str:
    median, low, high = (100 * value[key] for key in ("median", "low", "high"))
    return f"{median:+.2f} [{low:+.2f}, {high:+.2f}] points"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:,.0f}"


# Figures with a column of their own: key -> (heading, how to write it).
_FIGURES: dict[str, tuple[str, str | Callable[[Any], str]]] = {
    "flags": ("flags", "{}"),
    "bound_by": ("bound by", "{}"),
    "stage_us": ("stage, µs/image", "{:,.2f}"),
    "ours_to_this": ("ours / this", _estimate),
    "before_images_per_s": ("before, images/s", lambda rate: number(rate)),
    "to_best": ("× best so far", _estimate),
    "outcome": ("outcome", "{}"),
    "times_naive": ("× naive, by the rungs", "{:.2f}"),
    "us_per_image": ("µs/image", "{:,.2f}"),
    "share_of_step": ("of step", lambda share: f"{max(0.0, share):.1%}"),
    "flops_per_s": ("FLOP/s", "{:.2e}"),
    "utilisation": ("of peak", "{:.1%}"),
    "bandwidth_share": ("of memory's peak", "{:.1%}"),
    "paid": ("paid", "{}"),
    "global_batch_size": ("batch", "{:d}"),
    "steps_per_call": ("steps/call", "{:d}"),
    "step_ms": ("step ms", "{:,.1f}"),
    "call_ms": ("call ms", "{:,.2f}"),
    "reductions": ("reductions", "{:d}"),
    "replicas": ("replicas", "{:d}"),
    "per_replica_batch_size": ("batch of each", "{:d}"),
    "efficiency": ("efficiency", _estimate),
    "reduction_share": ("share of reduction", _estimate),
    "precision": ("precision", "{}"),
    "stage": ("stage", "{:d}"),
    "test_accuracy": ("test accuracy", "{:.4f}"),
    "accuracy": ("mean accuracy", _estimate),
    "accuracy_difference": ("accuracy less that of float32", _points),
    "deviation": ("standard deviation", "{:.4f}"),
    "runs": ("runs", "{:d}"),
    "validation_accuracy": ("validation accuracy", "{:.4f}"),
    "train_s": ("training s", "{:,.1f}"),
    "target_s": ("training s to target", "{:,.1f}"),
    "reached": ("runs that reached it", "{:d}"),
    "import_s": ("import s", "{:.2f}"),
    "build_s": ("build s", "{:.2f}"),
    "trace_s": ("trace s", "{:.2f}"),
    "compile_s": ("compile s", "{:.2f}"),
    "step_s": ("step s", "{:.3f}"),
    "startup_s": ("start-up s", "{:.1f}"),
    "compile_to_cold": ("compile, warm / cold", _estimate),
    "starts": ("starts", "{:d}"),
    "largest_deviation": ("largest deviation", "{:.2g}"),
    "at_step": ("at step", "{:d}"),
    "end_difference": ("difference at the end", "{:+.2g}"),
    "relative_error": ("relative error", "{:.1e}"),
    "farthest": ("farthest from the reference", "{:.2g}"),
    "differing": ("values that differ", "{:.2%}"),
    "tests": ("tests", "{}"),
    "found": ("found", "{}"),
    "bytes_per_s": ("bytes/s", "{:.2e}"),
    "launches_per_step": ("a step", "{:,.1f}"),
    "ms_per_step": ("ms a step", "{:,.3f}"),
    "share_of_trace": ("of the traced time", "{:.1%}"),
    "operation": ("operation", "{}"),
    "peak_host_bytes": ("host peak MB", _megabytes),
    "peak_device_bytes": ("device peak MB", _megabytes),
    "first_use_s": ("first use s", "{:.2f}"),
    "second_use_s": ("second use s", "{:.2f}"),
    "peak_mb": ("peak MB", "{:,.0f}"),
    "beside_tensorflow_mb": ("beside TensorFlow MB", "{:,.0f}"),
}


def show(record: Record) -> None:
    """Print the record's table on stdout, and what it says in words."""
    out = console()
    out.print(table(record))
    for line in words(record):
        out.print(line, markup=False)


def words(record: Record) -> list[str]:
    """What a record says in words: verdicts, and what a row does otherwise than the others."""
    found = [row.figures["verdict"] for row in record.rows if "verdict" in row.figures]
    differing = [row for row in record.rows if "differs" in row.figures]
    return [*found, *(f"{row.name}: {row.figures['differs']}." for row in differing)]


def console() -> Console:
    """Stdout; into a file or a pipe go plain lines, wide enough for every column."""
    terminal = sys.stdout.isatty()
    return Console(
        file=sys.stdout,
        force_terminal=terminal,
        width=None if terminal else 200,
        highlight=False,
        emoji=False,
    )


def table(record: Record) -> Table:
    """Lay the rows out: rate with quartiles, figures, ratios with their 95 % intervals."""
    made = Table(title=f"{record.kind}: {machine(record.environment)}", title_justify="left")
    made.add_column("", no_wrap=True)
    # Not every benchmark is about a rate.
    rates = not any(row.figures for row in record.rows if row.images_per_s is None) or any(
        row.images_per_s for row in record.rows
    )
    for heading in ("images/s", "quartiles", "n") if rates else ():
        made.add_column(heading, justify="right")
    keys = [key for key in _FIGURES if any(row.figures.get(key) is not None for row in record.rows)]
    for key in keys:
        made.add_column(_FIGURES[key][0], justify="right")
    others = list(dict.fromkeys(to for row in record.rows for to in _relative(row)))
    for name in others:
        made.add_column(f"× {name}", justify="right")
    made.add_column("check")
    for row in record.rows:
        cells = (*(_rate(row) if rates else ()), *_figures(row, keys), *_ratios(row, others))
        # As text: what stands in brackets would be taken for markup.
        made.add_row(Text(row.name), *cells, Text(verdict(row)))
    return made


def verdict(row: Row) -> str:
    """What became of a row: its error, or its check."""
    return f"error: {row.error}" if row.error is not None else row.check


def machine(environment: dict[str, Any]) -> str:
    """The machine of a record in a few words."""
    gpus = environment.get("gpus") or []
    device = f"{len(gpus)} × {gpus[0]}" if gpus else environment.get("cpu", "unknown CPU")
    versions = environment.get("versions", {})
    return f"{device}, {environment.get('cores')} cores, TensorFlow {versions.get('tensorflow')}"


def with_interval(ratio: Estimate) -> str:
    """A ratio with its interval."""
    return f"{ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


def _rate(row: Row) -> tuple[str, str, str]:
    rate = row.images_per_s
    if rate is None:
        return "-", "", ""
    low, median, high = map(number, (rate.low, rate.median, rate.high))
    return median, f"{low} to {high}", str(rate.n)


def number(rate: float) -> str:
    """A rate with three digits or more."""
    digits = 0 if rate >= 100 else 1 if rate >= 10 else 2
    return f"{rate:,.{digits}f}"


def _figures(row: Row, keys: Sequence[str]) -> list[str]:
    cells = []
    for key in keys:
        value, form = row.figures.get(key), _FIGURES[key][1]
        if key == "us_per_image" and row.images_per_s is None and value is not None:
            # A difference that is lost in the noise of its two parts: a bound is all there is.
            cells.append("< " + _written(row.figures["us_high"], form))
        else:
            cells.append("" if value is None else _written(value, form))
    return cells


def _written(value: Any, form: str | Callable[[Any], str]) -> str:
    return form.format(value) if isinstance(form, str) else form(value)


def _ratios(row: Row, others: Sequence[str]) -> list[str]:
    ratios = _relative(row)
    return [with_interval(ratios[to]) if to in ratios else "" for to in others]


def _relative(row: Row) -> dict[str, Estimate]:
    """The ratios of a row by what they are to; to one of its own section, without the section."""
    section = f"{row.name.rpartition('/')[0]}/"
    return {to.removeprefix(section): ratio for to, ratio in row.ratios.items()}


def failed(record: Record) -> bool:
    """Whether any row has an error or a wrong answer; what is not applicable or run has neither."""
    return any(
        row.error is not None
        or not (row.check == OK or row.check.startswith(("not applicable: ", "not run: ")))
        for row in record.rows
    )
