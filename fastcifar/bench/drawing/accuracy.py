"""A record of `bench accuracy`: validation accuracy by training time, a line for each run."""

from __future__ import annotations

import itertools

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fastcifar.bench.drawing import parts
from fastcifar.bench.record import Record
from fastcifar.reporting import style

_COLOURS = (style.BLUE, style.VERMILION, style.GREEN, style.GREY)
# Recipes beyond the colours are told apart by their dashes.
_DASHES = ("-", "--", ":", "-.")


def figures(record: Record) -> dict[str, Figure]:
    """Lines of the runs, coloured by recipe; a circle marks the test accuracy at the end.

    By epochs where the record does not tell the time of each.
    """
    key, times = "validation_by_epoch", "seconds_by_epoch"
    rows = [row for row in record.rows if None not in row.figures.get(key, [None])]
    if not rows:
        return {}
    timed = all(times in row.figures for row in rows)
    by = "training time" if timed else "epoch"
    figure = style.new_figure(f"Validation accuracy by {by}")
    unit = "Training time, s" if timed else "Epoch"
    axes = parts.lines(figure, f"{unit} (circles: test accuracy)", "Validation accuracy")
    looks: dict[str, tuple[str, str]] = {}
    for row in rows:
        recipe = row.name.partition("/")[0]
        named, number = recipe in looks, len(looks)
        dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
        colour, dash = looks.setdefault(recipe, (_COLOURS[number % len(_COLOURS)], dash))
        accuracies = row.figures[key]
        at = list(range(1, len(accuracies) + 1))
        if timed:
            at = list(itertools.accumulate(row.figures[times]))
        axes.plot(
            at,
            accuracies,
            color=colour,
            linestyle=dash,
            linewidth=1.5,
            marker=".",
            label=None if named else recipe,
        )
        axes.plot(at[-1], row.figures["test_accuracy"], "o", color=colour, fillstyle="none")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    if timed:
        axes.set_xlim(left=0)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=style.TEXT_SIZE - 1)
    parts.machine(figure, record)
    return {"": figure}
