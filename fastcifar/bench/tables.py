"""A record as a table for people. Reads the record only, so a table can be printed again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from fastcifar.bench.record import OK, Estimate, Record, Row

# Figures with a column of their own: key -> (heading, how to write it).
_FIGURES = {
    "us_per_image": ("µs/image", "{:,.2f}"),
    "share_of_step": ("of step", "{:.1%}"),
    "flops_per_s": ("FLOP/s", "{:.2e}"),
    "utilisation": ("of peak", "{:.1%}"),
    "steps_per_call": ("steps/call", "{:d}"),
    "precision": ("precision", "{}"),
    "startup_s": ("start-up s", "{:.1f}"),
    "first_use_s": ("first use s", "{:.2f}"),
    "second_use_s": ("second use s", "{:.2f}"),
    "peak_mb": ("peak MB", "{:,.0f}"),
    "beside_tensorflow_mb": ("beside TensorFlow MB", "{:,.0f}"),
}


def show(record: Record) -> None:
    """Print the record's table on stdout, and what it says in words."""
    out = console()
    out.print(table(record))
    for row in record.rows:
        if "verdict" in row.figures:
            out.print(row.figures["verdict"], markup=False)


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
    made.add_column("images/s", justify="right")
    made.add_column("quartiles", justify="right")
    made.add_column("n", justify="right")
    keys = [key for key in _FIGURES if any(key in row.figures for row in record.rows)]
    for key in keys:
        made.add_column(_FIGURES[key][0], justify="right")
    others = list(dict.fromkeys(name for row in record.rows for name in row.ratios))
    for name in others:
        made.add_column(f"× {name}", justify="right")
    made.add_column("check")
    for row in record.rows:
        cells = (*_rate(row), *_figures(row, keys), *_ratios(row, others))
        made.add_row(row.name, *cells, verdict(row))
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
    return f"{rate.median:,.0f}", f"{rate.low:,.0f} to {rate.high:,.0f}", str(rate.n)


def _figures(row: Row, keys: Sequence[str]) -> list[str]:
    cells = []
    for key in keys:
        value, form = row.figures.get(key), _FIGURES[key][1]
        if key == "us_per_image" and row.images_per_s is None and value is not None:
            # A difference that is lost in the noise of its two parts: a bound is all there is.
            cells.append("< " + form.format(row.figures["us_high"]))
        else:
            cells.append("" if value is None else form.format(value))
    return cells


def _ratios(row: Row, others: Sequence[str]) -> list[str]:
    return [with_interval(row.ratios[name]) if name in row.ratios else "" for name in others]


def failed(record: Record) -> bool:
    """Whether any row has an error or a wrong answer; what is not applicable has neither."""
    return any(
        row.error is not None or not (row.check == OK or row.check.startswith("not applicable"))
        for row in record.rows
    )
