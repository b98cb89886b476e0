"""A record of `bench accuracy`: validation accuracy by training time, a line for each run."""

from __future__ import annotations

import itertools

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from fastcifar.bench.drawing import parts
from fastcifar.bench.record import Record
from fastcifar.reporting import style

_COLOURS = (style.BLUE, style.VERMILION, style.GREEN, style.GREY)


def figures(record: Record) -> dict[str, Figure]:
    """Lines of the runs, coloured by recipe; a circle marks the test accuracy at the end."""
    key = "validation_by_epoch"
    rows = [row for row in record.rows if None not in row.figures.get(key, [None])]
    if not rows:
        return {}
    figure = style.new_figure("Validation accuracy by training time")
    axes = figure.add_subplot()
    colours: dict[str, str] = {}
    for row in rows:
        recipe = row.name.partition("/")[0]
        colour = colours.setdefault(recipe, _COLOURS[len(colours) % len(_COLOURS)])
        seconds = list(itertools.accumulate(row.figures["seconds_by_epoch"]))
        named = any(line.get_label() == recipe for line in axes.lines)
        axes.plot(
            seconds,
            row.figures[key],
            color=colour,
            linewidth=1.5,
            marker=".",
            label=None if named else recipe,
        )
        axes.plot(seconds[-1], row.figures["test_accuracy"], "o", color=colour, fillstyle="none")
    axes.set_xlabel("Training time, s (circles: test accuracy)", fontsize=style.TEXT_SIZE)
    axes.set_ylabel("Validation accuracy", fontsize=style.TEXT_SIZE)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    axes.set_xlim(left=0)
    axes.tick_params(labelsize=style.TEXT_SIZE - 1)
    axes.grid(color="#E3E3E3", linewidth=0.8)
    axes.legend(frameon=False, fontsize=style.TEXT_SIZE - 1)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    parts.machine(figure, record)
    return {"": figure}
