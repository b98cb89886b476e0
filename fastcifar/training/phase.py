"""A phase of a run: its place, its batches and its compiled step.

Training runs these; benchmarks run these as well, with a part taken out or replaced, so that what
they measure is what trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fastcifar.config import DataConfig, PhaseConfig, RunConfig
from fastcifar.data import pipeline
from fastcifar.data.features import FeatureSplit
from fastcifar.data.pipeline import HostTransform
from fastcifar.models.subsets import select
from fastcifar.training import transforms
from fastcifar.training.preparation import Prepared
from fastcifar.training.schedules import growing_sizes, learning_rates
from fastcifar.training.step import Reduce, TrainStep, add_up, with_seed
from fastcifar.training.trained_part import TrainedPart, of_head, of_subset, whole
from fastcifar.training.transforms import Transforms


@dataclass(frozen=True)
class Phase:
    """A phase with its place in the run: steps and epochs count from 0 over the whole run.

    Attributes:
        config: the phase's part of the configuration.
        first_step: its first step.
        rates: float32, the learning rate of each of its steps.
        transforms: what happens to its images.
        train_size: side in pixels of its training images.
        starts_anew: the optimizer forgets the phase before.
        on_features: the head trains on what the feature cache keeps of the images.
        travelling_seed: the seed of the run comes with the batches, so that one compiled step
            serves runs of several seeds (`fastcifar.bench.seeded`); None: the step holds it.
    """

    config: PhaseConfig
    first_step: int
    rates: np.ndarray
    transforms: Transforms
    train_size: int
    starts_anew: bool
    on_features: bool = False
    travelling_seed: int | None = None

    @property
    def last_step(self) -> int:
        """The step after its last one."""
        return self.first_step + len(self.rates)

    @property
    def program(self) -> tuple[Any, ...]:
        """Phases of which this is equal run the same compiled step."""
        if self.on_features:
            return ("features",)  # whose width is that of the network, whatever the images
        phase = self.config
        trained = (phase.trainable, phase.freeze_batch_norm, phase.rate_decay)
        return (phase.augment, phase.image_size, self.train_size, *trained)


def plan(config: RunConfig, prepared: Prepared) -> list[Phase]:
    """Lay the phases of a run one after the other; one whose images grow is several, by size."""
    phases: list[Phase] = []
    step = 0
    for number, phase in enumerate(config.phases):
        rates = learning_rates(phase, prepared.steps_per_epoch)
        for part_number, (size, epochs) in enumerate(growing_sizes(phase)):
            made = transforms.make(
                config.data,
                config.model,
                phase,
                train_size=size,
                stored_size=prepared.splits.train.image_shape[:2],
                num_classes=len(prepared.splits.class_names),
                seed=config.seed,
                dtype=prepared.runtime.compute_dtype,
            )
            part, rates = np.split(rates, [epochs * prepared.steps_per_epoch])
            anew = number > 0 and part_number == 0
            on_features = trains_on_features(config.data, phase)
            phases.append(Phase(phase, step, part, made, size, anew, on_features))
            step += len(part)
    return phases


def trains_on_features(data: DataConfig, phase: PhaseConfig) -> bool:
    """Whether a phase trains on features: it trains the head alone, and they are to be kept."""
    return data.feature_cache != "off" and phase.trainable == "head"


def open_batches(
    config: RunConfig,
    prepared: Prepared,
    phase: Phase,
    first_step: int,
    features: FeatureSplit | None = None,
) -> Any:
    """Start the input of `phase` at `first_step`: an iterator whose batches lie on the devices."""
    dataset = host_batches(config, prepared, phase, first_step, features)
    return iter(pipeline.to_devices(dataset, prepared.runtime.strategy, config.data.prefetch))


def host_batches(
    config: RunConfig,
    prepared: Prepared,
    phase: Phase,
    first_step: int,
    features: FeatureSplit | None = None,
) -> tf.data.Dataset:
    """The host's part of the input of `phase` from `first_step` on: a dataset of `Batch`es.

    With `features` these take the place of the images, in the same order.
    """
    data = config.data
    images: dict[str, Any] = {"cache": data.cache, "transfer": data.transfer}
    transform = phase.transforms.on_host if features is None else None
    return pipeline.train_batches(
        prepared.splits.train if features is None else features,
        global_batch_size=config.global_batch_size,
        replicas=prepared.runtime.replicas,
        hosted=prepared.runtime.hosted,
        seed=config.seed,
        first_step=first_step,
        last_step=phase.last_step,
        order=data.order,
        parallel_map=data.parallel_map,
        prefetch=data.prefetch,
        say=prepared.say,
        host_transform=_marking(phase.travelling_seed, transform),
        **(images if features is None else {}),
    )


def _marking(seed: int | None, transform: HostTransform | None) -> HostTransform | None:
    """The host's transform, and then the seed that travels, if any."""
    if seed is None:
        return transform
    return lambda batch: with_seed(batch if transform is None else transform(batch), seed)


def build_step(
    config: RunConfig,
    prepared: Prepared,
    phase: Phase,
    phases: Sequence[Phase] = (),
    head: keras.Model | None = None,
    part: TrainedPart | None = None,
    reduce: Reduce = add_up,
) -> TrainStep:
    """Build the step of `phase`; it is traced and compiled by its first call.

    Args:
        config, prepared: of the run.
        phase: the first one that it is for.
        phases: all of the run, one after the other, if it is for others of the same program too.
        head: of `split_head`, if it trains on features and not on images.
        part: what is trained, if not that of the phase.
        reduce: see `TrainStep`.
    """
    chosen = prepared.runtime
    what: dict[str, Any]
    if head is not None:
        what = {"transform": _keep, "part": of_head(prepared.state, head)}
    else:
        what = {
            "transform": phase.transforms.on_device,
            "before": phase.transforms.before_program,
            "part": part or trained_part(prepared, phase.config),
        }
        if config.data.cache == "device":
            what["resident"] = pipeline.resident_images(prepared.splits.train, chosen.strategy)
    return TrainStep(
        state=prepared.state,
        optimizer=prepared.optimizer,
        learning_rates=np.concatenate([p.rates for p in phases]) if phases else phase.rates,
        first_step=phases[0].first_step if phases else phase.first_step,
        strategy=chosen.strategy,
        xla=chosen.xla,
        global_batch_size=config.global_batch_size,
        seed=config.seed if phase.travelling_seed is None else None,
        label_smoothing=config.optimizer.label_smoothing,
        clip_norm=config.optimizer.clip_norm,
        accumulate=config.optimizer.accumulate,
        ema=config.optimizer.ema,
        scale_loss=chosen.scales_loss,
        reduce_dtype=config.runtime.reduce_dtype,
        overlapped=config.runtime.reduction == "overlapped",
        sync_batch_norm=config.model.sync_batch_norm,
        reduce=reduce,
        **what,
    )


def _keep(features, labels, seed, positions, indices):
    """The transform of features: they are ready."""
    return features, labels


def trained_part(prepared: Prepared, phase: PhaseConfig) -> TrainedPart:
    """What of the network `phase` trains."""
    state = prepared.state
    everything = phase.trainable == "all" and not phase.freeze_batch_norm and phase.rate_decay == 1
    if everything:
        return whole(state)
    subset = select(state.model, phase.trainable, freeze_batch_norm=phase.freeze_batch_norm)
    return of_subset(state, subset, phase.rate_decay)
