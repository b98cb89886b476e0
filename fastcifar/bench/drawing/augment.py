"""A record of `bench augment`: ours against other libraries' layers, and as a share of the step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fastcifar.bench.augmentation import names
from fastcifar.bench.drawing import parts
from fastcifar.bench.record import Record
from fastcifar.reporting import style

# Colour, marker, and how far above or below the middle of the line: equal rates must not hide.
_LOOKS = {
    names.OURS: (style.BLUE, "o", -0.22),
    names.KERAS_CV: (style.VERMILION, "s", 0.0),
    names.KERAS: (style.GREEN, "^", 0.22),
}


def figures(record: Record) -> dict[str, Figure]:
    """Rates of policies and of operations by library, of the ways of input, shares of the step."""
    found = {}
    for section in (names.POLICIES, names.OPERATIONS):
        if _subjects(record, section):
            found[section] = _libraries(record, section)
    ways = _only(record, names.INPUT)
    if any(row.images_per_s for row in ways.rows):
        found[names.INPUT] = parts.rates(ways, "From shuffled uint8 batches to finished ones")
    shares = _only(record, names.STEP)
    if any(_transform_of(row.name) in row.ratios for row in shares.rows):
        found[names.STEP] = _shares(shares)
    return found


def _only(record: Record, section: str) -> Record:
    rows = tuple(row for row in record.rows if row.name.startswith(f"{section}/"))
    return dataclasses.replace(record, rows=rows)


def _subjects(record: Record, section: str) -> list[str]:
    """What has a rate in a section, as a graph or compiled, in the order of the record."""
    sections = (section, names.compiled(section))
    found = [
        row.name.split("/")[1]
        for row in record.rows
        if row.name.partition("/")[0] in sections and row.images_per_s is not None
    ]
    return list(dict.fromkeys(found))


def _libraries(record: Record, section: str) -> Figure:
    """A line of marks for each policy or operation; graphs at the left, compiled at the right."""
    subjects = _subjects(record, section)
    figure = style.new_figure(
        f"{section.capitalize()}: images/s by library",
        width=11.0,
        height=2.2 + 0.4 * len(subjects),
    )
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, name, title in zip(
        panels, (section, names.compiled(section)), ("as graphs", "compiled by XLA"), strict=True
    ):
        _marks(axes, record, name, subjects)
        axes.set_title(title, loc="left", fontsize=style.TEXT_SIZE)
        axes.set_xlabel("Images/s, logarithmic", fontsize=style.TEXT_SIZE)
    panels[0].set_yticks(range(len(subjects)), subjects)
    panels[0].set_ylim(len(subjects) - 0.4, -0.6)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower right",
        ncols=len(labels),
        frameon=False,
        fontsize=style.TEXT_SIZE - 1,
    )
    parts.machine(figure, record)
    return figure


def _marks(axes: Axes, record: Record, section: str, subjects: Sequence[str]) -> None:
    axes.set_xscale("log")
    axes.tick_params(labelsize=style.TEXT_SIZE - 1)
    axes.grid(color="#E3E3E3", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for whose, (colour, marker, beside) in _LOOKS.items():
        rows = [record.row(names.row_name(section, subject, whose)) for subject in subjects]
        points = [
            (row.images_per_s.median, place + beside)
            for place, row in enumerate(rows)
            if row is not None and row.images_per_s is not None
        ]
        axes.plot(
            [rate for rate, _ in points],
            [place for _, place in points],
            linestyle="none",
            marker=marker,
            markersize=6,
            color=colour,
            label=whose,
        )


def _transform_of(name: str) -> str:
    return names.row_name(names.TRANSFORM, name.partition("/")[2])


def _shares(record: Record) -> Figure:
    """Bars of the transform's share of the step, with their intervals."""
    rows = [row for row in record.rows if _transform_of(row.name) in row.ratios]
    figure = style.new_figure("Share of the step", height=2.0 + 0.55 * len(rows))
    policies = [row.name.partition("/")[2] for row in rows]
    axes = parts.bars(figure, policies, "Augment, resize and normalise, % of a training step")
    for place, row in enumerate(rows):
        ratio = row.ratios[_transform_of(row.name)]
        share, low, high = (100 * value for value in (ratio.median, ratio.low, ratio.high))
        axes.barh(place, share, color=style.BLUE, height=0.6)
        axes.errorbar(
            share, place, xerr=[[share - low], [high - share]], color=style.GREY, capsize=4
        )
        parts.note(axes, high, place, f"{share:.2f} %")
    axes.set_xlim(0, 1.18 * max(100 * row.ratios[_transform_of(row.name)].high for row in rows))
    parts.machine(figure, record)
    return figure
