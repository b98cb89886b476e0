"""A phase of a run: its place, its batches and its compiled step.

Training runs these; benchmarks run these as well, with a part taken out or replaced, so that what
they measure is what trains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.config import PhaseConfig, RunConfig
from fastcifar.data import pipeline
from fastcifar.training import transforms
from fastcifar.training.preparation import Prepared
from fastcifar.training.schedules import growing_sizes, learning_rates
from fastcifar.training.step import TrainStep
from fastcifar.training.transforms import Transforms


@dataclass(frozen=True)
class Phase:
    """A phase with its place in the run: steps and epochs count from 0 over the whole run.

    Attributes:
        config: the phase's part of the configuration.
        first_step: its first step.
        rates: float32, the learning rate of each of its steps.
        transforms: what happens to its images.
    """

    config: PhaseConfig
    first_step: int
    rates: np.ndarray
    transforms: Transforms

    @property
    def last_step(self) -> int:
        """The step after its last one."""
        return self.first_step + len(self.rates)


def plan(config: RunConfig, prepared: Prepared) -> list[Phase]:
    """Lay the phases of a run one after the other; one whose images grow is several, by size."""
    phases: list[Phase] = []
    step = 0
    for phase in config.phases:
        rates = learning_rates(phase, prepared.steps_per_epoch)
        for size, epochs in growing_sizes(phase):
            made = transforms.make(
                config.data,
                config.model,
                phase,
                train_size=size,
                num_classes=len(prepared.splits.class_names),
                seed=config.seed,
                dtype=prepared.runtime.compute_dtype,
            )
            part, rates = np.split(rates, [epochs * prepared.steps_per_epoch])
            phases.append(Phase(phase, step, part, made))
            step += len(part)
    return phases


def open_batches(config: RunConfig, prepared: Prepared, phase: Phase, first_step: int) -> Any:
    """Start the input of `phase` at `first_step`: an iterator whose batches lie on the devices."""
    dataset = host_batches(config, prepared, phase, first_step)
    return iter(pipeline.to_devices(dataset, prepared.runtime.strategy, config.data.prefetch))


def host_batches(
    config: RunConfig, prepared: Prepared, phase: Phase, first_step: int
) -> tf.data.Dataset:
    """The host's part of the input of `phase` from `first_step` on: a dataset of `Batch`es."""
    data = config.data
    return pipeline.train_batches(
        prepared.splits.train,
        global_batch_size=config.global_batch_size,
        replicas=prepared.runtime.replicas,
        hosted=prepared.runtime.hosted,
        seed=config.seed,
        first_step=first_step,
        last_step=phase.last_step,
        cache=data.cache,
        order=data.order,
        transfer=data.transfer,
        host_transform=phase.transforms.on_host,
        parallel_map=data.parallel_map,
        prefetch=data.prefetch,
    )


def build_step(config: RunConfig, prepared: Prepared, phase: Phase) -> TrainStep:
    """Build the step of `phase`; it is traced and compiled by its first call."""
    chosen = prepared.runtime
    resident = None
    if config.data.cache == "device":
        resident = pipeline.resident_images(prepared.splits.train, chosen.strategy)
    return TrainStep(
        state=prepared.state,
        optimizer=prepared.optimizer,
        transform=phase.transforms.on_device,
        before=phase.transforms.before_program,
        learning_rates=phase.rates,
        first_step=phase.first_step,
        strategy=chosen.strategy,
        xla=chosen.xla,
        global_batch_size=config.global_batch_size,
        seed=config.seed,
        label_smoothing=config.optimizer.label_smoothing,
        clip_norm=config.optimizer.clip_norm,
        accumulate=config.optimizer.accumulate,
        ema=config.optimizer.ema,
        scale_loss=chosen.scales_loss,
        reduce_dtype=config.runtime.reduce_dtype,
        sync_batch_norm=config.model.sync_batch_norm,
        resident=resident,
    )
