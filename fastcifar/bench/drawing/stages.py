"""The figures of `bench stages`: where a step goes, and how near its arithmetic is to the peaks."""

from __future__ import annotations

from matplotlib.figure import Figure

from fastcifar.bench.drawing import parts
from fastcifar.bench.record import Record
from fastcifar.bench.stage_names import (
    BACKWARD,
    DEVICE,
    EACH_STEP,
    END_TO_END,
    FORWARD,
    INGEST,
    ORDER,
    STEP,
    TRANSFER,
    UPDATE,
)
from fastcifar.reporting import style

# Points of one intensity lie above each other: a shape each.
_MARKERS = {FORWARD: "o", BACKWARD: "s", STEP: "D"}


def figures(record: Record) -> dict[str, Figure]:
    """The figures that a record has the data for, by what stands behind its name."""
    found = {}
    if any(row.name in DEVICE and row.figures for row in record.rows):
        found[""] = waterfall(record)
    step = record.row(STEP)
    if step is not None and {"intensity", "peak_bytes_per_s"} <= step.figures.keys():
        found["roofline"] = roofline(record)
    return found


def waterfall(record: Record) -> Figure:
    """The step's stages in µs an image, one after the other, with the step and the real path."""
    rows = [row for row in record.rows if row.name in DEVICE and row.figures]
    wholes = [row for row in record.rows if row.name in (STEP, END_TO_END) and row.figures]
    # What takes place beside the step: the host prepares the next batch while the device computes.
    others = (*INGEST, ORDER, TRANSFER)
    beside = [
        row for row in record.rows if row.name in others and row.figures.get("paid") == EACH_STEP
    ]
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


def roofline(record: Record) -> Figure:
    """FLOP/s achieved over FLOPs per byte, below what this machine gives at best.

    The roof is the lower of the peak of a matrix product and of memory's peak times the intensity
    (Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model for
    Multicore Architectures", 2009).
    """
    step = record.row(STEP)
    assert step is not None
    peak, bandwidth = step.figures["peak_flops_per_s"], step.figures["peak_bytes_per_s"]
    ridge = peak / bandwidth
    points = [row for row in record.rows if "intensity" in row.figures]
    xs = [row.figures["intensity"] for row in points]
    left, right = min(*xs, ridge) / 8, max(*xs, ridge) * 8
    figure = style.new_figure("Arithmetic: achieved and possible", height=5.4)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.plot(
        [left, ridge, right],
        [left * bandwidth / 1e12, peak / 1e12, peak / 1e12],
        color=style.GREY,
        linewidth=2,
    )
    # Beside the roof, not on it: below the flat part, and right of the slope.
    axes.annotate(
        f"matrix product, measured: {peak / 1e12:.3g} TFLOP/s",
        (right, peak / 1e12),
        xytext=(-4, 6),
        textcoords="offset points",
        ha="right",
        fontsize=style.TEXT_SIZE - 1,
        color=style.GREY,
    )
    middle = (left * ridge) ** 0.5
    axes.annotate(
        f"memory, measured: {bandwidth / 1e9:.3g} GB/s",
        (middle, middle * bandwidth / 1e12),
        xytext=(10, -10),
        textcoords="offset points",
        va="top",
        fontsize=style.TEXT_SIZE - 1,
        color=style.GREY,
    )
    colours = dict(zip(_MARKERS, (style.BLUE, style.VERMILION, style.GREEN), strict=True))
    for row in points:
        rate = row.figures["flops_per_s"] / 1e12
        axes.plot(
            row.figures["intensity"],
            rate,
            _MARKERS[row.name],
            color=colours[row.name],
            markersize=9,
            label=f"{row.name}: {rate:.3g} TFLOP/s, {row.figures['utilisation']:.0%} of the peak",
        )
    update = record.row(UPDATE)
    if update is not None and "bandwidth_share" in update.figures:
        share, moved = update.figures["bandwidth_share"], update.figures["bytes_per_s"] / 1e9
        text = f"update: {moved:.3g} GB/s, {share:.0%} of memory's peak"
        axes.plot([], [], " ", label=text)
    lowest = min(row.figures["flops_per_s"] for row in points) / 1e12
    axes.set_ylim(min(lowest / 6, left * bandwidth / 1e12), peak / 1e12 * 2.5)
    axes.set_xlim(left, right)
    axes.set_xlabel("FLOPs per byte that convolutions and products move", fontsize=style.TEXT_SIZE)
    axes.set_ylabel("TFLOP/s", fontsize=style.TEXT_SIZE)
    axes.tick_params(labelsize=style.TEXT_SIZE - 1)
    axes.grid(color="#E3E3E3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", fontsize=style.TEXT_SIZE - 1, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    parts.machine(figure, record)
    return figure
