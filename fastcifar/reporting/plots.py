"""Write the plots of a run: RUN/plots/*.png, from what the run folder holds."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fastcifar.config import RunConfig
from fastcifar.reporting import curves, pictures
from fastcifar.rundir import RunDir, write_whole
from fastcifar.training.schedules import learning_rates


def write_plots(run_dir: str | Path) -> list[Path]:
    """Draw every plot that the run folder has the data for and return the files written.

    loss.png, accuracy.png and learning_rate.png need a finished epoch; samples.png and
    confusion_matrix.png come with the end of the run. Plots already there are replaced.

    Raises:
        RunDirError: if `run_dir` is not a run folder, is damaged, or cannot be written.
    """
    run = RunDir.open(run_dir)
    written = []
    for name, figure in figures(run).items():
        path = run.plots_path / f"{name}.png"
        # Without the library's version inside, the same run gives the same bytes.
        save = functools.partial(figure.savefig, metadata={"Software": None})
        write_whole(path, save)
        written.append(path)
    return written


def _rates(config: RunConfig, epochs: list[dict]) -> np.ndarray | None:
    """The rate of every step, [epochs, steps of each]; None where no steps were recorded."""
    if not all("step" in epoch for epoch in epochs):
        return None
    steps = epochs[0]["step"] // epochs[0]["epoch"]
    rates = np.concatenate([learning_rates(phase, steps) for phase in config.phases])
    scales = np.array([epoch.get("rate_scale", 1.0) for epoch in epochs])  # after rollbacks
    return rates.reshape(-1, steps)[[epoch["epoch"] - 1 for epoch in epochs]] * scales[:, None]


def figures(run: RunDir) -> dict[str, Figure]:
    """Return the figures that `run` has the data for, by file name without its suffix."""
    config = run.read_config()
    recipe = config.recipe
    epochs = run.read_metrics()
    summary = run.read_summary() or {}
    samples = run.read_samples()
    class_names = summary.get("class_names")
    found = {}
    if epochs:
        found["loss"] = curves.loss_figure(epochs, f"{recipe}: loss", summary.get("test_loss"))
        found["accuracy"] = curves.accuracy_figure(
            epochs, f"{recipe}: accuracy", summary.get("test_accuracy")
        )
        found["learning_rate"] = curves.learning_rate_figure(
            epochs, f"{recipe}: learning rate", _rates(config, epochs)
        )
    if class_names and samples is not None and len(samples["images"]):
        found["samples"] = pictures.samples_figure(
            samples["images"],
            samples["labels"],
            samples["predictions"],
            class_names,
            f"{recipe}: test images and predictions",
        )
    if class_names and summary.get("confusion_matrix"):
        found["confusion_matrix"] = pictures.confusion_figure(
            np.array(summary["confusion_matrix"], np.int64),
            class_names,
            f"{recipe}: confusion matrix of the test split",
        )
    return found
