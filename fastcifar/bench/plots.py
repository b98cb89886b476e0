"""The plots of a record, drawn from the record alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from fastcifar.bench.drawing import accuracy, ladder, parts, precision, scaling, startup
from fastcifar.bench.record import Record
from fastcifar.reporting import style
from fastcifar.rundir import write_whole

# Kinds of records with figures of their own: record -> figures by what stands behind its name.
_KINDS: dict[str, Callable[[Record], dict[str, Figure]]] = {
    "accuracy": accuracy.figures,
    "ladder": ladder.figures,
    "precision": precision.figures,
    "scaling": scaling.figures,
    "startup": startup.figures,
}
_DEVICE_STAGES = ("dispatch", "resize", "augment", "forward", "backward", "reduce", "update")


def write_plots(record_path: str | Path, record: Record) -> list[Path]:
    """Draw what a record has the data for, as PNG files beside it; returns them.

    Raises:
        RunDirError: if they cannot be written.
    """
    path = Path(record_path)
    written = []
    for name, figure in figures(record).items():
        suffix = f"-{name}" if name else ""
        picture = path.with_name(f"{path.stem}{suffix}.png")
        # Without the library's version inside, the same record gives the same bytes.
        write_whole(picture, functools.partial(figure.savefig, metadata={"Software": None}))
        written.append(picture)
    return written


def figures(record: Record) -> dict[str, Figure]:
    """The figures of a record by what stands behind its name; the rates stand alone."""
    found: dict[str, Figure] = {}
    if record.kind == "stages":
        if any(row.name in _DEVICE_STAGES and row.figures for row in record.rows):
            found[""] = stages_figure(record)
        if any("flops_per_s" in row.figures for row in record.rows):
            found["arithmetic"] = arithmetic_figure(record)
    elif record.kind in _KINDS:
        found |= _KINDS[record.kind](record)
    elif any(row.images_per_s for row in record.rows):
        found[""] = parts.rates(record)
    return found


def stages_figure(record: Record) -> Figure:
    """A waterfall of the step's stages in µs an image, with the whole step and the real path."""
    rows = [row for row in record.rows if row.name in _DEVICE_STAGES and row.figures]
    wholes = [row for row in record.rows if row.name in ("step", "end_to_end") and row.figures]
    # What takes place beside the step: the host prepares the next batch while the device computes.
    beside = [row for row in record.rows if row.name in ("order", "transfer") and row.figures]
    shown = [*beside, *rows, *wholes]
    figure = style.new_figure("Where a training step goes", height=1.6 + 0.45 * len(shown))
    axes = parts.bars(figure, [row.name for row in shown], "µs an image")
    start = 0.0
    for place, row in enumerate(shown):
        took = row.figures["us_per_image"]
        stage = row in rows
        colour = style.BLUE if stage else style.VERMILION if row in beside else style.GREY
        left = start if stage else 0.0
        axes.barh(place, took, left=left, color=colour, height=0.62)
        share = row.figures.get("share_of_step")
        text = f"{took:,.1f} µs" + (f" ({share:.1%})" if share is not None else "")
        parts.note(axes, left + max(took, 0.0), place, text)
        if stage:
            start += took
    longest = max(row.figures["us_per_image"] for row in shown)
    axes.set_xlim(0, max(longest, start) * 1.28)
    parts.machine(figure, record)
    return figure


def arithmetic_figure(record: Record) -> Figure:
    """Bars of the FLOP/s that stages achieve, under the peak of a matrix product measured here."""
    rows = [row for row in record.rows if "flops_per_s" in row.figures]
    step = record.row("step")
    peak = step.figures.get("peak_flops_per_s") if step is not None else None
    figure = style.new_figure(
        "Arithmetic: achieved and possible", height=1.6 + 0.55 * (len(rows) + 1)
    )
    names = [row.name for row in rows] + (["matrix product"] if peak else [])
    axes = parts.bars(figure, names, "TFLOP/s")
    rates = [row.figures["flops_per_s"] for row in rows] + ([peak] if peak else [])
    for place, rate in enumerate(rates):
        axes.barh(
            place, rate / 1e12, color=style.BLUE if place < len(rows) else style.GREY, height=0.6
        )
        share = f" ({rate / peak:.0%} of peak)" if peak and place < len(rows) else ""
        parts.note(axes, rate / 1e12, place, f"{rate / 1e12:.3g}{share}")
    axes.set_xlim(0, max(rates) / 1e12 * 1.3)
    parts.machine(figure, record)
    return figure
