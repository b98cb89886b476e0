"""What a run is made of, once machine and data are known: shared by training and benchmarks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from fastcifar import environment, no_effect, runtime
from fastcifar.config import RunConfig
from fastcifar.data import ordering
from fastcifar.data.records import RecordSplit
from fastcifar.data.split import Splits
from fastcifar.errors import ConfigError
from fastcifar.models.pretrained import STEM_CONV, load_into
from fastcifar.models.subsets import select
from fastcifar.no_effect_rules import Situation
from fastcifar.runtime import Runtime
from fastcifar.training import differences, opening, same_data, transforms
from fastcifar.training.assembly import (
    build_network,
    check_reduction,
    check_sync_batch_norm,
    load_splits,
    named_run,
    per_replica_batch_size,
    read_weights,
    settle_model,
)
from fastcifar.training.optimizers import Optimizer
from fastcifar.training.progress import Display
from fastcifar.training.state import TrainState


@dataclass(frozen=True)
class Prepared:
    """The parts of a run.

    Attributes:
        config: with everything settled that was left to weights, so that it says what is computed.
        warnings: what the run's summary should tell.
        notes: what else the user should know: of the images, and of settings without effect.
        runtime: devices and what was chosen for them.
        environment: of `fastcifar.environment.fingerprint`, and how the run computes.
        splits: the images.
        steps_per_epoch: whole global batches in the training split.
        model, optimizer, state: made under the strategy's scope.
        say: shows a line to the user.
    """

    config: RunConfig
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    runtime: Runtime
    environment: dict[str, Any]
    splits: Splits
    steps_per_epoch: int
    model: keras.Model
    optimizer: Optimizer
    state: TrainState
    say: Callable[[str], None] | None = None


def prepare(
    config: RunConfig,
    display: Display,
    *,
    fresh: bool = True,
    typed: Collection[str] = (),
    notes_on_flags: Sequence[str] = (),
    allow_changed_data: bool = False,
) -> Prepared:
    """Set up devices, data and network; what can fail for the user's reasons fails here.

    Args:
        config: of the run.
        display: where what was chosen is shown.
        fresh: read the weights to start from; not needed where a checkpoint will replace them.
        typed: the fields that were given by flags, even if with the recipe's values.
        notes_on_flags: what the user should know of flags that are no fields.
        allow_changed_data: test on images that the weights have been trained on.

    Raises:
        UserError: for anything the configuration asks that this machine or data cannot do.
    """
    given = no_effect.given_fields(config, typed)
    no_effect.refuse(config.data, given)
    chosen = runtime.setup(config.runtime, display.line)
    accumulate = config.optimizer.accumulate
    part = per_replica_batch_size(config.global_batch_size, chosen.replicas, accumulate)
    transforms.check_policies(config.phases, part)
    check_sync_batch_norm(config.model, chosen)
    check_reduction(config.runtime, chosen)
    for note in chosen.notes:
        display.line(note)
    weights = read_weights(config.model) if fresh else None
    model_config, notes, warnings = settle_model(config.model, weights)
    warnings = (*chosen.warnings, *warnings)
    config = dataclasses.replace(config, model=model_config)
    splits = load_splits(config.data, seed=config.seed, progress=display.count)
    for note in splits.notes:
        display.line(f"note: {note}")
    if weights is not None:
        warnings += same_data.check_weights(
            named_run(config.model.weights), splits, allow=allow_changed_data
        )
    steps = ordering.steps_per_epoch(len(splits.train), config.global_batch_size)
    if not steps:
        raise ConfigError(
            f"global-batch-size must be at most the {len(splits.train)} training images. "
            f"Received: {config.global_batch_size}"
        )
    optimizer = Optimizer(config.optimizer)
    with chosen.strategy.scope():
        model = build_network(config, chosen, num_classes=len(splits.class_names))
        if weights is not None:
            notes += load_into(model, weights, class_names=splits.class_names)
        average = config.optimizer.ema is not None
        state = TrainState(model, optimizer, scale_loss=chosen.scales_loss, average=average)
    # A layer that does not exist should not wait for its phase.
    subsets = [select(model, phase.trainable) for phase in config.phases]
    fresh_stem = weights is not None and weights.meaning.stem == "imagenet" != config.model.stem
    if fresh_stem and all(STEM_CONV in subset.frozen for subset in subsets):
        warnings += (
            f"{STEM_CONV} starts fresh under the stem cifar, and no phase trains it: the network "
            "sees the images through random filters",
        )
    for note in notes:
        display.line(f"weights {config.model.weights}: {note}")
    situation = Situation(
        config,
        replicas=chosen.replicas,
        on_gpu=bool(chosen.gpus),
        xla=chosen.xla,
        side=splits.train.image_shape[0],
        on_disk=isinstance(splits.train, RecordSplit),
        brings_validation=splits.validation is not None and "validation" not in splits.held_out,
        steps_per_epoch=steps,
    )
    without_effect = (*notes_on_flags, *no_effect.of_training(situation, given))
    for note in without_effect:
        display.line(f"note: {note}")
    return Prepared(
        config=config,
        warnings=warnings,
        notes=(*splits.notes, *without_effect),
        runtime=chosen,
        environment={
            **environment.fingerprint(list(chosen.gpus), dict(chosen.threads)),
            "computing": differences.computing(config, chosen),
        },
        splits=splits,
        steps_per_epoch=steps,
        model=model,
        optimizer=optimizer,
        state=state,
        say=display.line,
    )


def describe(prepared: Prepared) -> list[str]:
    """Return what a run trains on, how and by what, as lines for its start."""
    splits, chosen, config = prepared.splits, prepared.runtime, prepared.config
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    counts = {name: len(part) for name, part in parts.items() if part is not None}
    return opening.lines(
        [
            *opening.of_set(splits.class_names, counts, splits.held_out),
            opening.of_batches(len(splits.train), config.global_batch_size, chosen.replicas),
            *opening.of_phases(config, splits.train.image_shape[0]),
            *opening.of_machine(
                chosen.replicas, chosen.gpus, environment.cpu_name(), chosen.precision, chosen.xla
            ),
        ]
    )
