"""From a configuration to data and network: what training, evaluation and benchmarks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from fastcifar.config import DataConfig, ModelConfig, parse_bytes
from fastcifar.data import sources, splitting, storage
from fastcifar.data.split import Splits, decoded_bytes
from fastcifar.errors import ConfigError
from fastcifar.models.resnet import build_resnet


def load_splits(
    data: DataConfig, *, seed: int, progress: Callable[[str, int, int], None] | None = None
) -> Splits:
    """Load the source, limit it, and hold validation out, in this order.

    What then fits the memory budget is in memory, the rest is read from disk while training.

    Args:
        data: the source and its limits.
        seed: of the choice of images.
        progress: called with (what, done, total) while images are read.

    Raises:
        SourceError: if the source is absent, unreadable, or too small for the limits.
        ConfigError: if the images do not fit the budget and the configuration needs them in memory.
    """
    budget = parse_bytes("memory_budget", data.memory_budget) or storage.host_memory_bytes() // 2
    loaded = sources.load(
        data.source,
        dataset=data.dataset,
        data_path=data.data_path,
        storage_size=data.storage_size,
        non_square=data.non_square,
        seed=seed,
        skip_unreadable=data.skip_unreadable,
        memory_budget=budget,
        synthetic_count=data.synthetic_count,
        synthetic_classes=data.synthetic_classes,
        synthetic_size=data.synthetic_size,
        progress=progress,
    )
    train, test, validation, notes = loaded.train, loaded.test, loaded.validation, loaded.notes
    del loaded  # each step below copies, and what it copied from must be free to go
    if data.limit_train is not None:
        train = splitting.limit(train, data.limit_train, seed)
    if data.limit_test is not None:
        test = splitting.limit(test, data.limit_test, seed)
    if validation is None and data.validation_fraction:
        train, validation = splitting.hold_out(train, data.validation_fraction, seed)
    splits = Splits(train=train, test=test, validation=validation, notes=notes)
    return splits.in_memory() if _fit(splits, budget, data) else splits


def _fit(splits: Splits, budget: int, data: DataConfig) -> bool:
    """Whether all splits may be in memory; if not, refuse what needs them there."""
    total = sum(decoded_bytes(split) for split in splits.all())
    if total <= budget:
        return True
    for name, value in (("cache", data.cache), ("order", data.order)):
        if value in ("device", "shuffle_buffer"):
            raise ConfigError(
                f"{name} {value} needs the images in memory, {total / 1e9:.2f} GB, and "
                f"memory-budget is {budget / 1e9:.2f} GB. Raise it, or leave --{name} out"
            )
    return False


def build_model(config: ModelConfig, *, num_classes: int, seed: int, dtype: Any) -> keras.Model:
    """Build the network: images [B, H, W, 3] of any size -> float32 logits [B, num_classes].

    Args:
        config: which network.
        num_classes: width of the logits.
        seed: of the initial weights.
        dtype: the Keras dtype policy, such as `mixed_bfloat16`.
    """
    return build_resnet(
        depth=config.depth,
        num_classes=num_classes,
        stem=config.stem,
        stride_version=config.stride_version,
        width=config.width,
        zero_gamma=config.zero_gamma,
        batch_norm_momentum=config.batch_norm_momentum,
        batch_norm_epsilon=config.batch_norm_epsilon,
        dtype=dtype,
        seed=seed,
    )


def per_replica_batch_size(global_batch_size: int, replicas: int) -> int:
    """Divide the global batch: the one place of batch arithmetic.

    Raises:
        ConfigError: if it does not divide, with the nearest sizes that do.
    """
    if global_batch_size % replicas:
        below = global_batch_size // replicas * replicas
        nearest = " or ".join(str(size) for size in (below, below + replicas) if size)
        raise ConfigError(
            f"global-batch-size must be a multiple of the {replicas} replicas, such as {nearest}. "
            f"Received: {global_batch_size}"
        )
    return global_batch_size // replicas
