"""From a configuration to data and network: what training, evaluation and benchmarks share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from fastcifar import environment
from fastcifar.config import DataConfig, ModelConfig, RunConfig, RuntimeConfig, parse_bytes
from fastcifar.data import sources, splitting, storage
from fastcifar.data.sources import image_folder
from fastcifar.data.sources.ingest import ReadOptions
from fastcifar.data.split import Splits, decoded_bytes
from fastcifar.errors import ConfigError
from fastcifar.models import pretrained
from fastcifar.models.meaning import Choice, Meaning, settle
from fastcifar.models.pretrained import Pretrained
from fastcifar.models.resnet import build_resnet
from fastcifar.paths import local_path
from fastcifar.rundir import RunDir
from fastcifar.runtime import Runtime
from fastcifar.training import checkpoints, same_data
from fastcifar.training.checkpoints import Checkpoints
from fastcifar.training.state import AVERAGES, WEIGHTS


def load_splits(
    data: DataConfig, *, seed: int, progress: Callable[[str, int, int], None] | None = None
) -> Splits:
    """Load the source, limit it, and hold validation out, in this order.

    What then fits the memory budget is in memory, the rest is read from disk while training.

    Args:
        data: the source and its limits.
        seed: of the images that `limit_train` keeps and that the synthetic source draws. What is
            held out and what `limit_test` keeps are the same for all seeds.
        progress: called with (what, done, total) while images are read.

    Raises:
        SourceError: if the source is absent, unreadable, or too small for the limits.
        ConfigError: if the images do not fit the budget and the configuration needs them in memory.
    """
    budget = memory_budget(data)
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
    train, test, validation = loaded.train, loaded.test, loaded.validation
    notes, held_out = loaded.notes, dict(loaded.held_out)
    del loaded  # each step below copies, and what it copied from must be free to go
    if data.limit_train is not None:
        train = splitting.limit(train, data.limit_train, seed)
    if data.limit_test is not None:
        test = splitting.limit(test, data.limit_test, splitting.FIXED_SEED)
    if validation is None and data.validation_fraction:
        whole = len(train)
        train, validation = splitting.hold_out(train, data.validation_fraction)
        held_out["validation"] = len(validation), whole
    splits = Splits(train, test, validation, notes, held_out)
    return splits.in_memory() if _fit(splits, budget, data) else splits


def load_labelled(
    data: DataConfig, *, progress: Callable[[str, int, int], None] | None = None
) -> Splits:
    """Load all labelled images of an image folder as the test split; train is empty.

    Args:
        data: of the source image_folder; `limit_test` counts.
        progress: as for `load_splits`.

    Raises:
        SourceError: if the folder is absent, unreadable, or holds fewer images than the limit.
    """
    budget = memory_budget(data)
    options = ReadOptions(
        storage_size=data.storage_size,
        non_square=data.non_square,
        skip_unreadable=data.skip_unreadable,
        memory_budget=budget,
        progress=progress,
    )
    images, notes = image_folder.load_labelled(str(data.data_path), options)
    if data.limit_test is not None:
        images = splitting.limit(images, data.limit_test, splitting.FIXED_SEED)
    nothing = images.take(np.zeros(0, dtype=np.int64))
    splits = Splits(train=nothing, test=images, notes=notes)
    return splits.in_memory() if _fit(splits, budget, data) else splits


def memory_budget(data: DataConfig) -> int:
    """The bytes that decoded images, and what is kept in their place, may take."""
    return parse_bytes("memory_budget", data.memory_budget) or storage.host_memory_bytes() // 2


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


def read_weights(config: ModelConfig) -> Pretrained | None:
    """Read the weights to start from; None without any.

    Raises:
        WeightsError, RunDirError: if they cannot be read, or are none.
        ConfigError: if there are no ImageNet weights for the network's depth.
    """
    if config.weights == "none":
        return None
    named = named_run(config.weights)
    if named is None:
        return pretrained.read(config.weights, depth=config.depth)
    run = RunDir.open(named[0])
    model = run.read_config().model
    which, path = Checkpoints(run.checkpoints_path).chosen(named[1])
    arrays, progress = checkpoints.load(path)
    settled = _settle(model, None)
    return pretrained.from_arrays(
        arrays,
        origin=f"{path} ({which} weights, of epoch {progress.epoch})",
        meaning=Meaning(
            stem=settled.stem,
            stride_version=settled.stride_version,
            padding="symmetric",
            batch_norm_epsilon=settled.batch_norm_epsilon,
            normalise=settled.normalise,
        ),
        class_names=same_data.class_names(run, progress),
        # Where averages were kept, it is them that the run was evaluated with.
        prefix=AVERAGES if any(name.startswith(AVERAGES) for name in arrays) else WEIGHTS,
    )


def named_run(weights: str) -> tuple[Path, str] | None:
    """The run folder that `--weights` names, and which weights of it: RUN, RUN:best or RUN:last."""
    if weights in ("none", "imagenet"):
        return None
    folder, _, which = weights.rpartition(":")
    for text, chosen in ((weights, "auto"), (folder, which)):
        if not text or chosen not in ("auto", "best", "last"):
            continue
        path = Path(local_path("weights", text))
        if RunDir(path).holds_run():
            return path, chosen
    return None


def settle_model(
    config: ModelConfig, weights: Pretrained | None
) -> tuple[ModelConfig, tuple[str, ...], tuple[str, ...]]:
    """Replace what the configuration leaves to the weights: (configuration, notes, warnings).

    Raises:
        ConfigError: if it contradicts them.
    """
    choice = _settle(config, None if weights is None else weights.meaning)
    values: dict[str, Any] = {
        "stem": choice.stem,
        "stride_version": choice.stride_version,
        "batch_norm_epsilon": choice.batch_norm_epsilon,
        "normalise": choice.normalise,
    }
    settled = dataclasses.replace(config, **values)
    of_a_run = weights is not None and weights.origin != config.weights
    notes = (f"taken from {weights.origin}",) if weights is not None and of_a_run else ()
    return settled, notes + choice.notes, choice.warnings


def _settle(config: ModelConfig, meaning: Meaning | None) -> Choice:
    return settle(
        meaning,
        stem=config.stem,
        stride_version=config.stride_version,
        batch_norm_epsilon=config.batch_norm_epsilon,
        normalise=config.normalise,
    )


def build_model(
    config: ModelConfig,
    *,
    num_classes: int,
    seed: int,
    dtype: Any,
    replicas: int = 1,
    image_size: int | None = None,
    fused_pooling: bool = False,
) -> keras.Model:
    """Build the network: images [B, H, W, 3] of any size -> float32 logits [B, num_classes].

    Args:
        config: which network.
        num_classes: width of the logits.
        seed: of the initial weights.
        dtype: the Keras dtype policy, such as `mixed_bfloat16`.
        replicas: devices taking part.
        image_size: side in pixels, which the pooling `flatten` has to know.
        fused_pooling: see `build_resnet`.
    """
    choice = _settle(config, None)
    flat = config.pooling == "flatten"
    return build_resnet(
        depth=config.depth,
        num_classes=num_classes,
        head=config.head,
        pooling=config.pooling,
        dropout=config.dropout,
        image_size=(image_size, image_size) if flat and image_size else None,
        stem=choice.stem,
        stride_version=choice.stride_version,
        width=config.width,
        zero_gamma=config.zero_gamma,
        batch_norm_momentum=config.batch_norm_momentum,
        batch_norm_epsilon=choice.batch_norm_epsilon,
        # On one replica the fused kernel already sees the whole batch.
        sync_batch_norm=config.sync_batch_norm and replicas > 1,
        fused_pooling=fused_pooling,
        dtype=dtype,
        seed=seed,
    )


def build_network(config: RunConfig, chosen: Runtime, *, num_classes: int) -> keras.Model:
    """Build the network of a run, for whoever trains it or loads its weights.

    Call it under the strategy's scope.
    """
    return build_model(
        config.model,
        num_classes=num_classes,
        seed=config.seed,
        dtype=chosen.precision,
        replicas=chosen.replicas,
        # Where the size matters (pooling `flatten`), all phases have the same.
        image_size=config.phases[0].image_size,
        fused_pooling=chosen.xla,
    )


def check_reduction(config: RuntimeConfig, chosen: Runtime) -> None:
    """Refuse to add up in a way in which TensorFlow cannot.

    Raises:
        ConfigError: for bfloat16 between programs on several GPUs, or a reduction within the
            program of anything else than several GPUs.
    """
    if chosen.replicas == 1:
        return  # a note says that there is nothing to add up
    nccl = bool(chosen.gpus) and config.logical_devices == 1
    if config.reduction == "overlapped":
        _check_overlapped(chosen, nccl)
    elif nccl and config.reduce_dtype == "bfloat16":
        raise ConfigError(
            "reduce-dtype must be float32 on several GPUs, because TensorFlow's reduction between "
            "them (NCCL) takes no bfloat16: leave --reduce-dtype out, or try --reduction "
            "overlapped, which is by XLA. Received: bfloat16"
        )


def _check_overlapped(chosen: Runtime, nccl: bool) -> None:
    if not (nccl and chosen.xla):
        kind = f"{chosen.replicas} replicas on {'one GPU' if chosen.gpus else 'CPUs'}"
        raise ConfigError(
            "reduction overlapped is of programs that XLA compiles for several GPUs: leave "
            f"--reduction out. Received: overlapped, {'xla off' if nccl else kind}"
        )
    threads = chosen.threads.get("inter_op") or environment.usable_cores()
    if threads < len(chosen.gpus):
        raise ConfigError(
            "inter-op-threads must be at least the number of GPUs with reduction overlapped, whose "
            f"programs wait for each other: add --inter-op-threads {len(chosen.gpus)}. "
            f"Received: {threads}"
        )


def check_sync_batch_norm(config: ModelConfig, chosen: Runtime) -> None:
    """Refuse BatchNorm over all replicas where the step cannot do it.

    Raises:
        ConfigError: naming the mend.
    """
    if config.sync_batch_norm and chosen.xla and chosen.replicas > 1:
        raise ConfigError(
            f"sync-batch-norm needs xla off on {chosen.replicas} replicas, because XLA's programs "
            "cannot talk to each other in their middle: add --xla off. Received: xla on"
        )


def per_replica_batch_size(global_batch_size: int, replicas: int, accumulate: int = 1) -> int:
    """Divide the global batch: the one place of batch arithmetic.

    Args:
        global_batch_size: images in one step.
        replicas: devices that share them.
        accumulate: parts that each device computes its share in.

    Returns:
        the images in one part.

    Raises:
        ConfigError: if it does not divide, with the nearest sizes that do.
    """
    unit = replicas * accumulate
    if global_batch_size % unit:
        below = global_batch_size // unit * unit
        nearest = " or ".join(str(size) for size in (below, below + unit) if size)
        factors = [f"the {replicas} replicas"] if replicas > 1 else []
        factors += [f"the {accumulate} parts of --accumulate"] if accumulate > 1 else []
        raise ConfigError(
            f"global-batch-size must be a multiple of {' times '.join(factors)}, such as "
            f"{nearest}. Received: {global_batch_size}"
        )
    return global_batch_size // unit
