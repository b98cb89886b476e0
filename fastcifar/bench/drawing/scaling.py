"""A record of `bench scaling`: rate by number of replicas."""

from __future__ import annotations

from matplotlib.figure import Figure

from fastcifar.bench.drawing import parts
from fastcifar.bench.record import Record
from fastcifar.bench.scaling import ONE, STRONG, WEAK
from fastcifar.reporting import style

_LINES = {WEAK: (style.BLUE, "-", "o"), STRONG: (style.VERMILION, "--", "s")}


def figures(record: Record) -> dict[str, Figure]:
    """Lines of the rate over that of one replica, with their intervals and the ideal."""
    rows = [row for row in record.rows if ONE in row.ratios]
    if not rows:
        return {}
    figure = style.new_figure("Rate by number of replicas, over that of one")
    axes = parts.lines(figure, "Replicas", "Images/s over one replica's")
    numbers = sorted({1, *(row.figures["replicas"] for row in rows)})
    real = len(record.environment.get("gpus") or []) > 1
    ideal = numbers if real else [1] * len(numbers)
    label = "ideal" if real else "no cost (logical devices share one device)"
    axes.plot(numbers, ideal, color=style.GREY, linestyle=":", label=label)
    for way, (colour, dash, marker) in _LINES.items():
        found = [row for row in rows if row.name.startswith(f"{way}/")]
        if not found:
            continue
        at = [1, *(row.figures["replicas"] for row in found)]
        ratios = [row.ratios[ONE] for row in found]
        values = [1.0, *(ratio.median for ratio in ratios)]
        below = [0.0, *(ratio.median - ratio.low for ratio in ratios)]
        above = [0.0, *(ratio.high - ratio.median for ratio in ratios)]
        axes.errorbar(
            at,
            values,
            yerr=[below, above],
            color=colour,
            linestyle=dash,
            marker=marker,
            capsize=4,
            label=f"{way}: {_held(way)}",
        )
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=style.TEXT_SIZE - 1)
    parts.machine(figure, record)
    return {"": figure}


def _held(way: str) -> str:
    return "the same batch on each" if way == WEAK else "the same global batch"
