"""Axes, notes and captions that the figures of records share."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from fastcifar.bench import tables
from fastcifar.bench.record import Record
from fastcifar.reporting import style

# Rates that are further apart are drawn on a logarithmic axis, or the low ones would vanish.
_WIDE = 30


def rates(record: Record, title: str = "") -> Figure:
    """Images/s with quartiles, one a row; the title is the kind of the record.

    As bars from zero; where the rates are far apart, as points on a logarithmic axis, which has no
    zero for a bar to begin at.
    """
    rows = [row for row in record.rows if row.images_per_s is not None]
    figure = style.new_figure(title or f"{record.kind}: images/s", height=1.6 + 0.55 * len(rows))
    axes = bars(figure, [row.name for row in rows], "Images/s (median and quartiles)")
    highest = max(row.images_per_s.high for row in rows if row.images_per_s)
    lowest = min(row.images_per_s.low for row in rows if row.images_per_s)
    wide = highest > _WIDE * lowest
    for place, row in enumerate(rows):
        rate = row.images_per_s
        assert rate is not None
        spread = [[max(0.0, rate.median - rate.low)], [max(0.0, rate.high - rate.median)]]
        if wide:
            axes.plot(rate.median, place, "o", color=style.BLUE, markersize=6)
        else:
            axes.barh(place, rate.median, color=style.BLUE, height=0.6)
        axes.errorbar(rate.median, place, xerr=spread, color=style.GREY, capsize=4)
        note(axes, rate.high, place, tables.number(rate.median))
    if wide:
        axes.set_xscale("log")
        axes.set_xlabel(f"{axes.get_xlabel()}, logarithmic", fontsize=style.TEXT_SIZE)
        axes.set_xlim(lowest / 2, highest * 4)
    else:
        axes.set_xlim(0, highest * 1.18)
    machine(figure, record)
    return figure


def bars(figure: Figure, names: list[str], xlabel: str) -> Axes:
    """Axes for one horizontal bar a name, the first at the top."""
    axes = figure.add_subplot()
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(xlabel, fontsize=style.TEXT_SIZE)
    axes.tick_params(labelsize=style.TEXT_SIZE - 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
    axes.grid(axis="x", color="#E3E3E3", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def lines(figure: Figure, xlabel: str, ylabel: str) -> Axes:
    """Axes for lines or points, with a grid."""
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel, fontsize=style.TEXT_SIZE)
    axes.set_ylabel(ylabel, fontsize=style.TEXT_SIZE)
    axes.tick_params(labelsize=style.TEXT_SIZE - 1)
    axes.grid(color="#E3E3E3", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def legend_above(axes: Axes, **options: Any) -> None:
    """The legend in a line above the axes, where no mark can lie under it."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        frameon=False,
        fontsize=style.TEXT_SIZE - 1,
        **options,
    )


def note(axes: Axes, x: float, y: float, text: str) -> None:
    """Write beside the end of a bar."""
    axes.annotate(
        text,
        (x, y),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        fontsize=style.TEXT_SIZE - 1,
    )


def machine(figure: Figure, record: Record) -> None:
    """Write below the figure what its record was measured on."""
    figure.supxlabel(
        tables.machine(record.environment), x=0.012, ha="left", fontsize=style.TEXT_SIZE - 3
    )
