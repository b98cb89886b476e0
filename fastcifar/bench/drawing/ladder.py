"""A record of `bench ladder`: a waterfall from the naive way to the best."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fastcifar.bench.drawing import parts
from fastcifar.bench.ladder import BEST, DROPPED, KEPT
from fastcifar.bench.record import Record
from fastcifar.bench.rungs import NAIVE
from fastcifar.reporting import style


def figures(record: Record) -> dict[str, Figure]:
    """Bars of the time of an image: whole for the naive way and the best, changes for the rungs.

    A rung's bar leads from the time before it to the time with it, by its ratio, so that what has
    disturbed the machine between two rungs is left out.
    """
    naive = record.row(NAIVE)
    rungs = [row for row in record.rows if "to_best" in row.figures]
    if naive is None or "us_per_image" not in naive.figures or not rungs:
        return {}
    best = record.row(BEST)
    names = [NAIVE, *(row.name for row in rungs), *([BEST] if best else [])]
    figure = style.new_figure("What each choice buys", width=9.0, height=2.0 + 0.45 * len(names))
    axes = parts.bars(figure, names, "ms an image")
    now = naive.figures["us_per_image"] / 1e3
    widest = now
    axes.barh(0, now, color=style.GREY, height=0.62)
    parts.note(axes, now, 0, f"{now:,.2f} ms")
    for place, row in enumerate(rungs, start=1):
        ratio = row.figures["to_best"]["median"]
        then = now / ratio
        dropped = row.figures["outcome"] == DROPPED
        kept = row.figures["outcome"] == KEPT
        axes.barh(
            place,
            then - now,
            left=now,
            height=0.62,
            color="none" if dropped else style.BLUE if kept else style.GREY,
            edgecolor=style.VERMILION if dropped else "none",
            hatch="///" if dropped else None,
        )
        axes.plot([now, now], [place - 0.7, place + 0.31], color=style.GREY, linewidth=0.8)
        end = min(max(now, then), 1.5 * widest) if dropped else max(now, then)
        parts.note(axes, end, place, f"×{ratio:.2f}")
        # A loser may lose by so much that nothing else could be seen: it is cut off.
        widest = max(widest, min(then, 1.5 * widest) if dropped else then)
        now = now if dropped else then
    if best is not None and NAIVE in best.ratios:
        whole = naive.figures["us_per_image"] / 1e3 / best.ratios[NAIVE].median
        axes.barh(len(names) - 1, whole, color=style.GREEN, height=0.62)
        text = f"{whole:,.2f} ms (×{best.ratios[NAIVE].median:.2f})"
        parts.note(axes, whole, len(names) - 1, text)
    axes.set_xlim(0, widest * 1.3)
    marks = [
        Patch(color=style.BLUE, label="kept"),
        Patch(color=style.GREY, label="kept, no gain shown"),
        Patch(facecolor="none", edgecolor=style.VERMILION, hatch="///", label="loses, dropped"),
    ]
    parts.legend_above(axes, handles=marks, ncols=len(marks))
    parts.machine(figure, record)
    return {"": figure}
