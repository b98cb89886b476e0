"""Runs of one configuration that differ in their seed alone, compiled once.

Each is a run of the trainer, with its folder, its loop and its clock. Between two runs all state is
made anew by the next seed, as `prepare` would make it. Images are held out for validation by the
configuration's own seed, so all runs train on the same images and their spread is that of weights,
order and augmentation. The run with the configuration's own seed is that of `fastcifar train`, bit
for bit.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import tensorflow as tf

from fastcifar.config import RunConfig
from fastcifar.data.pipeline import Batch
from fastcifar.data.records import refusing_damage
from fastcifar.evaluation.evaluate import Evaluator
from fastcifar.models.pretrained import load_into
from fastcifar.rundir import RunDir
from fastcifar.timing import Stopwatch
from fastcifar.training import trainer
from fastcifar.training.assembly import build_network, read_weights
from fastcifar.training.interrupts import Interrupts
from fastcifar.training.phase import Phase
from fastcifar.training.preparation import Prepared, prepare
from fastcifar.training.progress import Display
from fastcifar.training.state import TrainState
from fastcifar.training.step import TrainStep, Transform
from fastcifar.training.workers import Workers

# A batch says its epoch; with the seed above these bits, one program serves all seeds.
_EPOCH_BITS = 32


class SeededRuns:
    """Runs of `config` by seed.

    Args:
        config: of the runs; its seed also chooses the validation images.

    Attributes:
        prepared: the parts that all runs share.
    """

    def __init__(self, config: RunConfig):
        self._config = config
        self.prepared = prepare(config, Display(quiet=True))
        self._steps: dict[tuple[Any, ...], TrainStep] = {}
        self._evaluators: dict[int, Evaluator] = {}

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
        training.phases = [with_seed(phase, seed) for phase in training.phases]
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


def with_seed(phase: Phase, seed: int) -> Phase:
    """The phase with its randomness keyed by a seed that travels with the batches.

    A compiled step holds its run's seed as a constant. Here the seed comes with the epoch instead,
    and the transforms take it apart again, so that the draws are those of a run with that seed.
    """
    made = phase.transforms

    def on_host(batch: Batch) -> Batch:
        if made.on_host is not None:
            batch = made.on_host(batch)
        return batch._replace(epoch=batch.epoch + (seed << _EPOCH_BITS))

    return dataclasses.replace(
        phase,
        transforms=dataclasses.replace(
            made,
            on_host=on_host,
            before_program=None if made.before_program is None else _by_epoch(made.before_program),
            on_device=_by_epoch(made.on_device),
        ),
    )


def _by_epoch(transform: Transform) -> Transform:
    def apply(
        images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor, positions: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        seed, epoch = key[1] // 2**_EPOCH_BITS, key[1] % 2**_EPOCH_BITS
        return transform(images, labels, tf.stack([seed, epoch]), positions)

    return apply
