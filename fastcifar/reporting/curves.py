"""Figures of what changed from epoch to epoch: loss, accuracy, learning rate.

`epochs` is the content of metrics.jsonl, one dict per epoch. A value that is null or absent (no
validation split, a loss that was not finite) leaves a gap in its line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fastcifar.reporting import style

Epochs = Sequence[dict[str, Any]]


def loss_figure(epochs: Epochs, title: str, test_loss: float | None = None) -> Figure:
    """Return training against validation cross-entropy (nats), and that of the test split.

    Where training minimised something else (smoothed or mixed labels), its line is labelled as the
    training objective, which the other two lines are not comparable with.
    """
    plain = all(epoch.get("objective", "cross-entropy") == "cross-entropy" for epoch in epochs)
    return _train_and_validation(
        epochs,
        title,
        "loss",
        "Cross-entropy (nats)",
        test_loss,
        "{:.3f}".format,
        training="training" if plain else "training objective",
    )


def accuracy_figure(epochs: Epochs, title: str, test_accuracy: float | None = None) -> Figure:
    """Return training against validation accuracy (0..1, shown in %), and the test accuracy."""
    figure = _train_and_validation(
        epochs, title, "accuracy", "Accuracy (%)", test_accuracy, "{:.1%}".format
    )
    figure.axes[0].yaxis.set_major_formatter(style.percent())
    return figure


def learning_rate_figure(epochs: Epochs, title: str, rates: np.ndarray | None = None) -> Figure:
    """Return the learning rate of every step; epoch e spans e - 0.5 to e + 0.5.

    Args:
        epochs: of metrics.jsonl.
        title: of the figure.
        rates: [E, S], the rate of each step of each epoch. Without them the rates recorded for the
            last step of each epoch are drawn, as points.
    """
    numbers = [epoch["epoch"] for epoch in epochs]
    figure = style.new_figure(title)
    axes = style.epoch_axes(figure, numbers, "Learning rate")
    if rates is None:
        ends = np.array(numbers) + 0.5
        axes.plot(ends, _column(epochs, "learning_rate"), "o", color=style.BLUE, clip_on=False)
    else:
        inside = (np.arange(rates.shape[1]) + 0.5) / rates.shape[1] - 0.5
        places = np.array(numbers)[:, None] + inside
        axes.plot(places.ravel(), rates.ravel(), color=style.BLUE, linewidth=2.2)
    axes.set_ylim(bottom=0)
    _mark_phases(axes, epochs)
    return figure


def _train_and_validation(
    epochs: Epochs,
    title: str,
    name: str,
    ylabel: str,
    test: float | None,
    show: Callable[[float], str],
    training: str = "training",
) -> Figure:
    numbers = [epoch["epoch"] for epoch in epochs]
    figure = style.new_figure(title)
    axes = style.epoch_axes(figure, numbers, ylabel)
    labels = []
    for key, legend, colour, dash, marker in (
        (name, training, style.BLUE, "-", "o"),
        (f"validation_{name}", "validation", style.VERMILION, "--", "s"),
    ):
        values = _column(epochs, key)
        finite = values[np.isfinite(values)]
        if not finite.size:
            continue
        axes.plot(
            numbers,
            values,
            color=colour,
            linestyle=dash,
            linewidth=2.2,
            # A marker on each of many epochs would hide the line.
            marker=marker,
            markersize=6,
            markevery=math.ceil(len(numbers) / 30),
            label=legend,
        )
        labels.append((float(finite[-1]), f"{legend} {show(float(finite[-1]))}", colour))
    if test is not None:
        axes.axhline(test, color=style.GREEN, linestyle=":", linewidth=1.4)
        axes.plot(
            numbers[-1:],
            [test],
            color=style.GREEN,
            linestyle="none",
            marker="D",
            markersize=9,
            label="test",
            zorder=3,
            clip_on=False,
        )
        labels.append((test, f"test {show(test)}", style.GREEN))
    _mark_phases(axes, epochs)
    style.label_at_right(axes, labels)
    return figure


def _column(epochs: Epochs, key: str) -> np.ndarray:
    """One value for each epoch, float64 [E]; NaN where it is null or absent."""
    values = (epoch.get(key) for epoch in epochs)
    return np.array([math.nan if value is None else value for value in values], np.float64)


def _mark_phases(axes: Axes, epochs: Epochs) -> None:
    """Draw a line where a phase ends and name each at its start, where there is more than one."""
    starts = [epochs[0]]
    for epoch in epochs[1:]:
        if epoch.get("phase") != starts[-1].get("phase"):
            starts.append(epoch)
    if len(starts) == 1:
        return
    for epoch in starts:
        boundary = epoch["epoch"] - 0.5
        if epoch is not starts[0]:
            axes.axvline(boundary, color=style.GREY, linestyle="-.", linewidth=1.2)
        phase = epoch.get("phase")
        (name,), lettering = style.as_they_stand(
            [phase if isinstance(phase, str) else f"phase {phase}"]
        )
        axes.annotate(
            name,
            (boundary, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(5, 3),
            textcoords="offset points",
            color=style.GREY,
            fontsize=style.TEXT_SIZE - 1,
            annotation_clip=False,
            **lettering,
        )
