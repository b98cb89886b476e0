"""A record of `fastcifar.bench.sources`: the rates, and the seconds until the images are there."""

from __future__ import annotations

from matplotlib.figure import Figure

from fastcifar.bench.drawing import parts
from fastcifar.bench.record import Record
from fastcifar.reporting import style

_USES = {"first_use_s": ("first use", style.VERMILION), "second_use_s": ("second use", style.BLUE)}
_WIDTH = 0.38


def figures(record: Record) -> dict[str, Figure]:
    """Bars of images/s, and pairs of bars of the first and the second use."""
    found = {}
    if any(row.images_per_s for row in record.rows):
        found[""] = parts.rates(record)
    rows = [row for row in record.rows if all(key in row.figures for key in _USES)]
    if rows:
        figure = style.new_figure("Until the images are there", height=2.0 + 0.6 * len(rows))
        axes = parts.bars(figure, [row.name for row in rows], "Seconds, of a new process each")
        for number, (key, (label, colour)) in enumerate(_USES.items()):
            places = [place + _WIDTH * (number - 0.5) for place in range(len(rows))]
            seconds = [row.figures[key] for row in rows]
            axes.barh(places, seconds, color=colour, height=_WIDTH, label=label)
            for place, value in zip(places, seconds, strict=True):
                parts.note(axes, value, place, f"{value:.2f}")
        axes.set_xlim(0, 1.12 * max(row.figures[key] for row in rows for key in _USES))
        parts.legend_above(axes, ncols=len(_USES))
        parts.machine(figure, record)
        found["use"] = figure
    return found
