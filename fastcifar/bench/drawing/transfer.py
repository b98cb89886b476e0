"""A record of `fastcifar.bench.transfer`: test accuracy by the images there are to learn from."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from fastcifar.bench.drawing import parts
from fastcifar.bench.record import Record
from fastcifar.reporting import style

_LINES = {
    "scratch": ("from scratch", style.GREY, ":", "o"),
    "head": ("pretrained, the head alone", style.GREEN, "--", "^"),
    "finetune": ("pretrained, the head and then all", style.BLUE, "-", "s"),
}


def figures(record: Record) -> dict[str, Figure]:
    """A line for each way, through the means over seeds; a small mark for each run."""
    found: dict[str, list[tuple[int, float, list[float]]]] = {}
    for row in record.rows:
        way, _, count = row.name.partition("/")
        if way in _LINES and "test_accuracy" in row.figures:
            runs = row.figures["test_accuracies"]
            found.setdefault(way, []).append((int(count), row.figures["test_accuracy"], runs))
    if not found:
        return {}
    figure = style.new_figure("What transfer gains")
    axes = parts.lines(figure, "Training images of each class (small marks: runs)", "Test accuracy")
    counts = sorted({images for points in found.values() for images, _, _ in points})
    for way, points in found.items():
        label, colour, dash, marker = _LINES[way]
        for images, _, runs in points:
            axes.plot([images] * len(runs), runs, marker, color=colour, markersize=4, alpha=0.5)
        axes.plot(
            [images for images, _, _ in points],
            [mean for _, mean, _ in points],
            color=colour,
            linestyle=dash,
            marker=marker,
            markersize=8,
            label=label,
        )
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.margins(x=0.12)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    axes.legend(frameon=False, fontsize=style.TEXT_SIZE - 1)
    parts.machine(figure, record)
    return {"": figure}
