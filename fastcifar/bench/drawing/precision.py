"""A record of `bench precision`: the rates, the losses over the same steps, and the accuracies."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fastcifar.bench.drawing import parts
from fastcifar.bench.record import Record, Row
from fastcifar.reporting import style

# By dash and colour: what lies on top of another must be told from it.
_LINES = {
    "float32": (style.GREY, "-", 3.5),
    "tf32": (style.GREEN, "-.", 1.8),
    "mixed_bfloat16": (style.BLUE, "--", 1.8),
    "mixed_float16": (style.VERMILION, ":", 2.2),
    "float32_nudged": ("#111111", (0, (1, 3)), 1.5),
}


def figures(record: Record) -> dict[str, Figure]:
    """The bars of the rates, the curves of the losses, the runs over seeds."""
    found = {}
    if any(row.images_per_s for row in record.rows):
        found[""] = parts.rates(record)
    rows = [row for row in record.rows if row.figures.get("losses")]
    if rows:
        figure = style.new_figure("Loss over the same steps, from the same weights")
        axes = parts.lines(figure, "Step", "Mean loss of the batch, nats")
        for row in rows:
            losses = [float("nan") if v is None else v for v in row.figures["losses"]]
            colour, dash, width = _LINES[row.name]
            axes.plot(losses, color=colour, linestyle=dash, linewidth=width, label=row.name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, fontsize=style.TEXT_SIZE - 1)
        parts.machine(figure, record)
        found["losses"] = figure
    trained = [row for row in record.rows if row.figures.get("test_accuracies")]
    if trained:
        found["accuracy"] = _accuracies(record, trained)
    return found


def _accuracies(record: Record, rows: Sequence[Row]) -> Figure:
    """A dot for each run; the mean of a precision with its interval."""
    figure = style.new_figure("Test accuracy over seeds", height=2.2 + 0.7 * len(rows))
    axes = parts.bars(figure, [row.name for row in rows], "Test accuracy, % (dots: runs)")
    for place, row in enumerate(rows):
        runs = [100 * accuracy for accuracy in row.figures["test_accuracies"]]
        axes.plot(runs, [place] * len(runs), "o", color=style.GREY, alpha=0.6)
        if "accuracy" in row.figures:
            low, mean, high = (100 * row.figures["accuracy"][k] for k in ("low", "median", "high"))
            axes.errorbar(
                mean,
                place + 0.22,
                xerr=[[mean - low], [high - mean]],
                fmt="D",
                color=style.BLUE,
                capsize=4,
                label="mean and 95 % interval" if not place else None,
            )
            parts.note(axes, high, place + 0.22, f"{mean:.2f}")
    axes.margins(x=0.15)
    if axes.get_legend_handles_labels()[0]:
        parts.legend_above(axes)
    parts.machine(figure, record)
    return figure
