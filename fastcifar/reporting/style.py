"""How every figure looks: size, fonts, and colours that colour-blind readers tell apart.

Figures are built as objects, without `matplotlib.pyplot`: nothing global is kept or changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fastcifar.errors import printable

# M. Okabe and K. Ito, "Color Universal Design", 2008. Lines differ in dash and marker as well.
BLUE = "#0072B2"
VERMILION = "#D55E00"
GREEN = "#00785A"  # their #009E73, darkened until small text in it is readable on white
GREY = "#666666"

_FONT = "DejaVu Sans"  # comes with matplotlib
DPI = 120  # 8 x 5 inches are 960 x 600 pixels
TEXT_SIZE = 12


def new_figure(title: str, width: float = 8.0, height: float = 5.0) -> Figure:
    """Return an empty figure of `width` x `height` inches with `title` at its upper left."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)  # inches of room at the edges
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    figure.suptitle(
        printable(title),
        x=0.012,
        ha="left",
        fontsize=TEXT_SIZE + 3,
        fontweight="bold",
        parse_math=False,
    )
    return figure


def as_they_stand(names: Iterable[str]) -> tuple[list[str], dict[str, Any]]:
    """Return names of the user's own as they can be drawn, and the properties of their text.

    `$\\frac$` is no mathematics here. What the figures' font lacks is taken from another font of
    this machine that has it, and what none has is drawn as its escape.
    """
    shown = [printable(name) for name in names]
    lacking = {ord(sign) for name in shown for sign in name}
    families = []
    upright = [
        (font.name, font.fname)
        for font in font_manager.fontManager.ttflist
        # Matplotlib's font of last resort draws the same box for all signs of a script.
        if (font.style, font.weight) == ("normal", 400) and "Last Resort" not in font.name
    ]
    for font, path in ((_FONT, font_manager.findfont(_FONT)), *upright):
        if font in families or not lacking:
            continue
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # a font that cannot be read
            there = font_manager.get_font(path).get_charmap().keys()
            if lacking & there or font == _FONT:
                lacking -= there
                families.append(font)
    drawn = [
        "".join(f"\\u{ord(s):04x}" if ord(s) in lacking else s for s in name) for name in shown
    ]
    return drawn, {"parse_math": False, "fontfamily": families or [_FONT]}


def epoch_axes(figure: Figure, epochs: list[int], ylabel: str) -> Axes:
    """Add axes whose x axis spans `epochs` (1-based), half an epoch of room on either side."""
    axes = figure.add_subplot()
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("Epoch", fontsize=TEXT_SIZE)
    axes.set_ylabel(ylabel, fontsize=TEXT_SIZE)
    axes.tick_params(labelsize=TEXT_SIZE - 1)
    axes.grid(color="#E3E3E3", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def percent() -> FuncFormatter:
    """Return a formatter that writes a share (0..1) in per cent, without needless digits."""
    return FuncFormatter(lambda share, _: f"{100 * share:g}")


def label_at_right(axes: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Write each (y in data units, text, colour) beside the right edge of `axes`, at its height.

    Labels that would overlap are moved apart, the order of their heights kept. Call it last: it
    freezes the y limits.
    """
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    gap = 0.065  # of the axes' height: a line of text
    placed = sorted(((y - low) / (high - low), text, colour) for y, text, colour in labels)
    heights: list[float] = []
    for height, _, _ in placed:
        heights.append(max(height, heights[-1] + gap) if heights else height)
    # Pushed up, the topmost may have left the figure: move back down what stands too high.
    top = 1.0
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], top)
        top = heights[i] - gap
    for height, (_, text, colour) in zip(heights, placed, strict=True):
        axes.text(
            1.025,
            height,
            text,
            color=colour,
            transform=axes.transAxes,
            va="center",
            fontsize=TEXT_SIZE,
        )
