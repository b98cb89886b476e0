"""A record of `bench precision`: the rates, and the losses over the same steps."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fastcifar.bench.drawing import parts
from fastcifar.bench.record import Record
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
    """The bars of the rates, and the curves of the losses."""
    found = {}
    if any(row.images_per_s for row in record.rows):
        found[""] = parts.rates(record)
    rows = [row for row in record.rows if row.figures.get("losses")]
    if rows:
        figure = style.new_figure("Loss over the same steps, from the same weights")
        axes = figure.add_subplot()
        for row in rows:
            losses = [float("nan") if v is None else v for v in row.figures["losses"]]
            colour, dash, width = _LINES[row.name]
            axes.plot(losses, color=colour, linestyle=dash, linewidth=width, label=row.name)
        axes.set_xlabel("Step", fontsize=style.TEXT_SIZE)
        axes.set_ylabel("Mean loss of the batch, nats", fontsize=style.TEXT_SIZE)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelsize=style.TEXT_SIZE - 1)
        axes.grid(color="#E3E3E3", linewidth=0.8)
        axes.legend(frameon=False, fontsize=style.TEXT_SIZE - 1)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        parts.machine(figure, record)
        found["losses"] = figure
    return found
