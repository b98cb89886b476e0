"""Write the plots of a run: RUN/plots/*.png, from what the run folder holds."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from fastcifar.config import RunConfig
from fastcifar.errors import printable
from fastcifar.reporting import curves, pictures
from fastcifar.rundir import RunDir, write_whole
from fastcifar.training.schedules import learning_rates


def write_plots(run_dir: str | Path, *, warn: Callable[[str], object] | None = None) -> list[Path]:
    """Draw every plot that the run folder has the data for and return the files written.

    loss.png, accuracy.png and learning_rate.png need a finished epoch; samples.png and
    confusion_matrix.png come with the end of the run. Plots already there are replaced.

    Args:
        run_dir: of the run.
        warn: takes a line for each plot that cannot be drawn or written, and the others are: a
            finished run does not fail by its pictures. Without it, what went wrong is raised.

    Raises:
        RunDirError: if `run_dir` is not a run folder, is damaged, or cannot be written.
    """
    run = RunDir.open(run_dir)
    written = []
    # Not as a matplotlibrc wants it: by LaTeX, in fonts that may be missing.
    with matplotlib.style.context("default"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        for name, draw in figures(run).items():
            path = run.plots_path / f"{name}.png"
            try:
                # Without the library's version inside, the same run gives the same bytes.
                save = functools.partial(draw().savefig, metadata={"Software": None})
                write_whole(path, save)
                written.append(path)
            except Exception as error:
                if warn is None:
                    raise
                reason = printable(" ".join(str(error).split()))[:200]
                warn(f"warning: {path} is not drawn: {type(error).__name__}: {reason}")
    return written


def _rates(config: RunConfig, epochs: list[dict]) -> np.ndarray | None:
    """The rate of every step, [epochs, steps of each]; None where no steps were recorded."""
    if not all("step" in epoch for epoch in epochs):
        return None
    steps = epochs[0]["step"] // epochs[0]["epoch"]
    rates = np.concatenate([learning_rates(phase, steps) for phase in config.phases])
    scales = np.array([epoch.get("rate_scale", 1.0) for epoch in epochs])  # after rollbacks
    return rates.reshape(-1, steps)[[epoch["epoch"] - 1 for epoch in epochs]] * scales[:, None]


def figures(run: RunDir) -> dict[str, Callable[[], Figure]]:
    """Return what draws the figures that `run` has the data for, by file name without suffix."""
    config = run.read_config()
    recipe = config.recipe
    epochs = run.read_metrics()
    summary = run.read_summary() or {}
    samples = run.read_samples()
    class_names = summary.get("class_names")
    found: dict[str, Callable[[], Figure]] = {}
    if epochs:
        found["loss"] = functools.partial(
            curves.loss_figure, epochs, f"{recipe}: loss", summary.get("test_loss")
        )
        found["accuracy"] = functools.partial(
            curves.accuracy_figure, epochs, f"{recipe}: accuracy", summary.get("test_accuracy")
        )
        found["learning_rate"] = lambda: curves.learning_rate_figure(
            epochs, f"{recipe}: learning rate", _rates(config, epochs)
        )
    if class_names and samples is not None and len(samples["images"]):
        found["samples"] = functools.partial(
            pictures.samples_figure,
            samples["images"],
            samples["labels"],
            samples["predictions"],
            class_names,
            f"{recipe}: test images and predictions",
        )
    if class_names and summary.get("confusion_matrix"):
        found["confusion_matrix"] = functools.partial(
            pictures.confusion_figure,
            np.array(summary["confusion_matrix"], np.int64),
            class_names,
            f"{recipe}: confusion matrix of the test split",
        )
    return found
