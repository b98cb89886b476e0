"""A record of `bench startup`: what comes before the first step ends, one part after the other."""

from __future__ import annotations

from matplotlib.figure import Figure

from fastcifar.bench.drawing import parts
from fastcifar.bench.record import Record
from fastcifar.bench.startup import PARTS
from fastcifar.reporting import style

_COLOURS = (style.GREY, style.BLUE, style.GREEN, style.VERMILION, "#111111")


def figures(record: Record) -> dict[str, Figure]:
    """A bar of parts for each row that has figures."""
    rows = [row for row in record.rows if row.figures]
    if not rows:
        return {}
    figure = style.new_figure("Until the first step is done", height=2.2 + 0.55 * len(rows))
    axes = parts.bars(figure, [row.name for row in rows], "Seconds (median)")
    for place, row in enumerate(rows):
        start = 0.0
        for part, colour in zip(PARTS, _COLOURS, strict=True):
            axes.barh(
                place,
                row.figures[part],
                left=start,
                color=colour,
                height=0.6,
                label=part.removesuffix("_s") if not place else None,
            )
            start += row.figures[part]
        parts.note(axes, start, place, f"{start:.1f} s")
    axes.set_xlim(0, max(sum(row.figures[part] for part in PARTS) for row in rows) * 1.15)
    parts.legend_above(axes, ncols=len(PARTS))
    parts.machine(figure, record)
    return {"": figure}
