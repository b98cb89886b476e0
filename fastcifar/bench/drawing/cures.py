"""The figure of `bench cures`: what each cure buys."""

from __future__ import annotations

from matplotlib.figure import Figure

from fastcifar.bench.cures import AFTER
from fastcifar.bench.drawing import parts
from fastcifar.bench.record import Record
from fastcifar.reporting import style


def figures(record: Record) -> dict[str, Figure]:
    """Bars of after / before with their intervals, by what stands behind the record's name."""
    rows = [row for row in record.rows if row.name.endswith(f"/{AFTER}") and row.ratios]
    if not rows:
        return {}
    figure = style.new_figure("What each cure buys", height=1.6 + 0.6 * len(rows))
    names = [f"{row.name.partition('/')[0]}\n{row.figures['flags']}" for row in rows]
    axes = parts.bars(figure, names, "Images/s, after / before (95 % interval)")
    for tick in axes.get_yticklabels():
        tick.set_fontsize(style.TEXT_SIZE - 3)
    highest = 1.0
    for place, row in enumerate(rows):
        (ratio,) = row.ratios.values()
        gains = ratio.low > 1
        axes.barh(place, ratio.median, color=style.BLUE if gains else style.GREY, height=0.6)
        spread = [[ratio.median - ratio.low], [ratio.high - ratio.median]]
        axes.errorbar(ratio.median, place, xerr=spread, color="black", capsize=4)
        parts.note(axes, ratio.high, place, f"{ratio.median:.2f}×")
        highest = max(highest, ratio.high)
    axes.axvline(1, color=style.VERMILION, linewidth=1.2)
    axes.set_xlim(0, highest * 1.18)
    parts.machine(figure, record)
    return {"": figure}
