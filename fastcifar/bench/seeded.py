"""Runs of one configuration that differ in their seed alone, compiled once.

Each is a run of the trainer, with its folder, its loop and its clock. Between two runs all state is
made anew by the next seed, as `prepare` would make it. Images are chosen (limited, drawn) by the
configuration's own seed, so all runs train on the same images and their spread is that of weights,
order, augmentation and dropout. Where a configuration chooses none, the run of a seed is that of
`fastcifar train --seed`, bit for bit; that of its own seed always is.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from fastcifar.config import RunConfig
from fastcifar.data.records import refusing_damage
from fastcifar.evaluation.evaluate import Evaluator
from fastcifar.models.pretrained import load_into
from fastcifar.rundir import RunDir
from fastcifar.timing import Stopwatch
from fastcifar.training import feature_cache, trainer
from fastcifar.training.assembly import build_network, read_weights
from fastcifar.training.interrupts import Interrupts
from fastcifar.training.preparation import Prepared, prepare
from fastcifar.training.progress import Display
from fastcifar.training.state import TrainState
from fastcifar.training.step import TrainStep
from fastcifar.training.workers import Workers


class SeededRuns:
    """Runs of `config` by seed.

    Args:
        config: of the runs; its seed also chooses the images.

    Attributes:
        prepared: the parts that all runs share.

    Raises:
        UserError: for what the configuration asks that this machine or data cannot do.
    """

    def __init__(self, config: RunConfig):
        feature_cache.check(config)
        self.prepared = prepare(config, Display(quiet=True))
        feature_cache.check_memory(self.prepared)
        self._steps: dict[tuple[Any, ...], TrainStep] = {}
        self._evaluators: dict[tuple[int, str], Evaluator] = {}

    def run(self, seed: int, run_dir: str | Path) -> dict[str, Any]:
        """Train from the first weights of `seed`; return the summary with the `metrics` by epoch.

        Args:
            seed: of weights, order and augmentation.
            run_dir: a folder that holds no run yet.

        Raises:
            DivergenceError: if the loss stops being finite.
        """
        config = dataclasses.replace(self.prepared.config, seed=seed)
        reinitialise(self.prepared, config)
        run = RunDir.create(run_dir, config, self.prepared.environment)
        workers = Workers(self.prepared.runtime.strategy, None)
        display = Display(quiet=True)
        training = trainer.Training(
            config, run, self.prepared, Stopwatch("startup"), display, Interrupts(), workers
        )
        # A compiled step holds its run's seed as a constant; here it comes with the batches.
        training.phases = [
            dataclasses.replace(phase, travelling_seed=seed) for phase in training.phases
        ]
        training.steps = self._steps
        training.evaluators = self._evaluators
        with refusing_damage():
            summary = training.run()
        return summary | {"metrics": run.read_metrics()}


def reinitialise(prepared: Prepared, config: RunConfig) -> None:
    """Give all state the values that `prepare` gives it at the start of a run of `config`."""
    chosen, state = prepared.runtime, prepared.state
    class_names = prepared.splits.class_names
    weights = read_weights(config.model)
    with chosen.strategy.scope():
        model = build_network(config, chosen, num_classes=len(class_names))
        if weights is not None:
            load_into(model, weights, class_names=class_names)
        fresh = TrainState(
            model, prepared.optimizer, scale_loss=chosen.scales_loss, average=bool(state.averages)
        )
    values = fresh.arrays().values()
    names = [name for name, _ in state.variables()]
    state.restore(dict(zip(names, values, strict=True)))
