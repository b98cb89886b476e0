"""What a run is made of, once machine and data are known: shared by training and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from fastcifar import environment, runtime
from fastcifar.config import RunConfig
from fastcifar.data import ordering
from fastcifar.data.split import Splits
from fastcifar.errors import ConfigError
from fastcifar.runtime import Runtime
from fastcifar.training import transforms
from fastcifar.training.assembly import (
    build_model,
    check_sync_batch_norm,
    load_splits,
    per_replica_batch_size,
)
from fastcifar.training.optimizers import Optimizer
from fastcifar.training.progress import Display
from fastcifar.training.state import TrainState


@dataclass(frozen=True)
class Prepared:
    """The parts of a run.

    Attributes:
        runtime: devices and what was chosen for them.
        environment: see `fastcifar.environment.fingerprint`.
        splits: the images.
        steps_per_epoch: whole global batches in the training split.
        model, optimizer, state: made under the strategy's scope.
    """

    runtime: Runtime
    environment: dict[str, Any]
    splits: Splits
    steps_per_epoch: int
    model: keras.Model
    optimizer: Optimizer
    state: TrainState


def prepare(config: RunConfig, display: Display) -> Prepared:
    """Set up devices, data and network; what can fail for the user's reasons fails here.

    Raises:
        UserError: for anything the configuration asks that this machine or data cannot do.
    """
    chosen = runtime.setup(config.runtime)
    accumulate = config.optimizer.accumulate
    part = per_replica_batch_size(config.global_batch_size, chosen.replicas, accumulate)
    transforms.check_policies(config.phases, part)
    check_sync_batch_norm(config.model, chosen)
    for note in chosen.notes:
        display.line(note)
    splits = load_splits(config.data, seed=config.seed, progress=display.count)
    for note in splits.notes:
        display.line(note)
    steps = ordering.steps_per_epoch(len(splits.train), config.global_batch_size)
    if not steps:
        raise ConfigError(
            f"global-batch-size must be at most the {len(splits.train)} training images. "
            f"Received: {config.global_batch_size}"
        )
    optimizer = Optimizer(config.optimizer)
    with chosen.strategy.scope():
        model = build_model(
            config.model,
            num_classes=len(splits.class_names),
            seed=config.seed,
            dtype=chosen.precision,
            replicas=chosen.replicas,
        )
        average = config.optimizer.ema is not None
        state = TrainState(model, optimizer, scale_loss=chosen.scales_loss, average=average)
    return Prepared(
        runtime=chosen,
        environment=environment.fingerprint(list(chosen.gpus), dict(chosen.threads)),
        splits=splits,
        steps_per_epoch=steps,
        model=model,
        optimizer=optimizer,
        state=state,
    )
