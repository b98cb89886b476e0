"""`fastcifar bench accuracy`: what a recipe learns, over several seeds, and how long it takes.

    RECIPE/seed S    one run: test accuracy, training time, time to the target on validation
    RECIPE           all of them: mean, standard deviation, 95 % interval

One run for each seed, compiled once; the test images are read once a run, at its end. The time is
training time: start-up, evaluation and checkpoints are not in it. Each recipe has a process of its
own.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcifar import config_file
from fastcifar.bench.measure import describe
from fastcifar.bench.processes.row_process import Handle, Processes, Start
from fastcifar.bench.record import Record, Row
from fastcifar.bench.statistics import mean_difference, mean_interval
from fastcifar.config import RunConfig
from fastcifar.errors import UserError

# Between the name of a recipe and the seed of a run.
_SEED = "/seed "
# The summary of a run with its metrics by epoch.
Run = Mapping[str, Any]


@dataclass(frozen=True)
class AccuracyPlan:
    """What to run.

    Attributes:
        seeds: how many, from the configuration's own on.
        target: validation accuracy to be reached, or None.
    """

    seeds: int = 3
    target: float | None = None


def measure_accuracy(
    configs: Mapping[str, RunConfig], plan: AccuracyPlan, put: Callable[..., None], start: Start
) -> None:
    """Run all seeds of all recipes; `put(*rows)` receives the rows after every run.

    Args:
        configs: by the name of the recipe.
        plan: how many.
        put: takes the rows, and the `environment` that they were measured in.
        start: makes the process of a recipe.

    Raises:
        UserError: for a mistake in a configuration.
    """
    done: dict[str, list[float]] = {}
    for recipe, config in configs.items():
        with Processes(start) as processes:
            process = processes.start(recipe)
            built = process.ask("prepare_runs", config=config_file.to_dict(config))
            put(Row(recipe), environment=built["environment"])
            runs: list[Run] = []
            for seed, run in train_seeds(process, config, plan.seeds):
                name = f"{recipe}{_SEED}{seed}"
                if isinstance(run, str):
                    put(Row(name, error=run))
                    continue
                runs.append(run)
                put(_run_row(name, run, plan), _recipe_row(recipe, runs, plan, done))
        done[recipe] = [run["test_accuracy"] for run in runs]


def train_seeds(process: Handle, config: RunConfig, seeds: int) -> Iterator[tuple[int, Run | str]]:
    """Train once with each seed, from the configuration's own on.

    Args:
        process: has answered `prepare_runs`.
        config: of the runs.
        seeds: how many.

    Yields:
        (seed, the summary of its run with its `metrics`), or (seed, what stopped it, in a line).

    Raises:
        UserError: for a mistake in the configuration.
    """
    with tempfile.TemporaryDirectory(prefix="fastcifar-bench-") as folder:
        for seed in range(config.seed, config.seed + seeds):
            try:
                run = process.ask("train", seed=seed, run_dir=str(Path(folder) / str(seed)))
            except UserError:
                raise
            except Exception as error:
                yield seed, describe(error)
            else:
                yield seed, run


def run_rows(record: Record, recipe: str) -> list[Row]:
    """The rows of the runs of a recipe."""
    return [row for row in record.rows if recipe_of(row.name) == recipe]


def recipe_of(name: str) -> str | None:
    """The recipe whose run the row of that name is; None if it is no run's."""
    recipe, found, _ = name.partition(_SEED)
    return recipe if found else None


def time_to(target: float, metrics: Sequence[Mapping[str, Any]]) -> float | None:
    """Training seconds until the end of the first epoch whose validation accuracy is `target`.

    Args:
        target: 0..1.
        metrics: of a run, see `fastcifar.rundir`.

    Returns:
        None where it is not reached, or there are no validation images.
    """
    seconds = 0.0
    for epoch in metrics:
        seconds += epoch["train_s"]
        reached = epoch["validation_accuracy"]
        if reached is not None and reached >= target:
            return seconds
    return None


def _run_row(name: str, run: Run, plan: AccuracyPlan) -> Row:
    figures = {key: run[key] for key in ("test_accuracy", "validation_accuracy", "train_s")}
    figures["startup_s"] = run["startup_s"]
    figures["precision"] = run["precision"]
    figures["validation_by_epoch"] = [epoch["validation_accuracy"] for epoch in run["metrics"]]
    figures["seconds_by_epoch"] = [epoch["train_s"] for epoch in run["metrics"]]
    if plan.target is not None:
        figures["target_s"] = time_to(plan.target, run["metrics"])
    return Row(name, figures=figures)


def _recipe_row(
    recipe: str,
    runs: Sequence[Run],
    plan: AccuracyPlan,
    others: Mapping[str, Sequence[float]],
) -> Row:
    accuracies = [run["test_accuracy"] for run in runs]
    figures: dict[str, Any] = {
        "test_accuracy": statistics.fmean(accuracies),
        "train_s": statistics.fmean(run["train_s"] for run in runs),
        "runs": len(runs),
    }
    if len(runs) > 1:
        figures["accuracy"] = dataclasses.asdict(mean_interval(accuracies))
        figures["deviation"] = statistics.stdev(accuracies)
    reached: list[float] = []
    if plan.target is not None:
        times = [time_to(plan.target, run["metrics"]) for run in runs]
        reached = [seconds for seconds in times if seconds is not None]
        figures["reached"] = len(reached)
        if len(reached) == len(runs):
            figures["target_s"] = statistics.fmean(reached)
    figures["verdict"] = words(recipe, accuracies, plan, reached, others)
    return Row(recipe, figures=figures)


def words(
    recipe: str,
    accuracies: Sequence[float],
    plan: AccuracyPlan,
    reached: Sequence[float],
    others: Mapping[str, Sequence[float]],
) -> str:
    """Say what the runs of a recipe show.

    Args:
        recipe: its name.
        accuracies: on the test images, of each run.
        plan: the target, if any.
        reached: seconds to the target of the runs that reached it.
        others: accuracies of the recipes before.
    """
    runs = len(accuracies)
    if runs < 2:
        return f"{recipe}: test accuracy {accuracies[0]:.2%} in one run, which tells no spread."
    mean = mean_interval(accuracies)
    said = (
        f"{recipe}: test accuracy {mean.median:.2%} [{mean.low:.2%}, {mean.high:.2%}], standard "
        f"deviation {statistics.stdev(accuracies):.2%}, {runs} seeds."
    )
    if plan.target is not None:
        said += f" {plan.target:.2%} on validation reached in {len(reached)} of {runs} runs"
        if len(reached) > 1:
            time = mean_interval(reached)
            said += f", after {time.median:,.1f} s [{time.low:,.1f}, {time.high:,.1f}] of training"
        elif reached:
            said += f", after {reached[0]:,.1f} s of training"
        said += "."
    for other, theirs in others.items():
        if len(theirs) > 1:
            gap = mean_difference(accuracies, theirs)
            same = gap.low <= 0 <= gap.high
            said += (
                f" Against {other}: {100 * gap.median:+.2f} points [{100 * gap.low:+.2f}, "
                f"{100 * gap.high:+.2f}]{', these seeds cannot tell' if same else ''}."
            )
    return said
