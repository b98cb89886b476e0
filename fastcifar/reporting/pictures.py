"""Figures of what the network got right and wrong on the test split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from fastcifar.reporting import style

_COUNTS_UP_TO = 20  # classes: beyond it the numbers in the cells are too small to read
_NAMES_UP_TO = 50


def samples_figure(
    images: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """Return a grid of up to 25 images, each with its predicted and its true class.

    A wrong one has a cross, its true class on a second line and a thick frame: none of these needs
    colour to be seen.

    Args:
        images: uint8 [M, H, W, 3], M at least 1.
        labels: int64 [M], the true classes.
        predictions: int64 [M].
        class_names: the name of each label, in label order.
        title: the figure's title.
    """
    count = min(len(images), 25)
    columns = min(count, 5)
    rows = -(-count // columns)
    names, lettering = style.as_they_stand(class_names)
    figure = style.new_figure(title, width=max(1.75 * columns, 5.0), height=2.15 * rows + 0.9)
    grid = figure.subplots(rows, columns, squeeze=False)
    for i, axes in enumerate(grid.flat):
        axes.set_xticks([])
        axes.set_yticks([])
        if i >= count:
            axes.set_axis_off()
            continue
        axes.imshow(images[i], interpolation="nearest")
        right = labels[i] == predictions[i]
        predicted = _short(names[predictions[i]])
        axes.set_title(
            f"✓ {predicted}" if right else f"✗ {predicted}\nis {_short(names[labels[i]])}",
            fontsize=style.TEXT_SIZE,
            color="black" if right else style.VERMILION,
            fontweight="normal" if right else "bold",
            loc="left",
            **lettering,
        )
        for spine in axes.spines.values():
            spine.set_visible(not right)
            spine.set(color=style.VERMILION, linewidth=4)
    wrong = int(np.sum(labels[:count] != predictions[:count]))
    figure.supxlabel(
        f"✓ right    ✗ wrong, with the true class below: {wrong} of these {count}",
        fontsize=style.TEXT_SIZE,
    )
    return figure


def confusion_figure(matrix: np.ndarray, class_names: Sequence[str], title: str) -> Figure:
    """Return the confusion matrix: colour is the share of the true class, numbers are images.

    Args:
        matrix: int [C, C], rows the true class, columns the predicted one. A row may be empty.
        class_names: C names.
        title: the figure's title.
    """
    classes = len(matrix)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = style.new_figure(title, width=9.6, height=8.6)
    axes = figure.add_subplot()
    # One hue, light to dark: the order survives any colour blindness and a grey print.
    picture = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    bar = figure.colorbar(picture, ax=axes, fraction=0.045, pad=0.02)
    bar.ax.yaxis.set_major_formatter(style.percent())
    bar.ax.tick_params(labelsize=style.TEXT_SIZE - 1)
    bar.set_label("Share of the true class (%)", fontsize=style.TEXT_SIZE)
    axes.set_xlabel("Predicted class", fontsize=style.TEXT_SIZE)
    axes.set_ylabel("True class (number: images)", fontsize=style.TEXT_SIZE)
    axes.tick_params(labelsize=style.TEXT_SIZE, length=0)
    if classes <= _NAMES_UP_TO:
        names, lettering = style.as_they_stand(class_names)
        names = [_short(name) for name in names]
        size = style.TEXT_SIZE if classes <= _COUNTS_UP_TO else 7
        axes.set_xticks(range(classes), names, rotation=45, ha="right", fontsize=size, **lettering)
        axes.set_yticks(range(classes), names, fontsize=size, **lettering)
    if classes <= _COUNTS_UP_TO:
        size = style.TEXT_SIZE if classes <= 12 else 8
        for (row, column), value in np.ndenumerate(matrix):
            shade = share[row, column]
            colour = "white" if shade > 0.5 else "black" if value else "#999999"
            axes.text(
                column, row, f"{value}", color=colour, ha="center", va="center", fontsize=size
            )
    return figure


def _short(name: str) -> str:
    """Names are the user's own: a long one must not push its neighbours out of the figure."""
    return name if len(name) <= 14 else name[:13] + "…"
