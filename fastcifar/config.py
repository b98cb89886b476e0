"""The configuration of a run: frozen dataclasses that refuse an illegal value on construction.

Field names are the flags' names (`global_batch_size` is `--global-batch-size`); docstrings under
the fields become the flags' help. No heavy import: `fastcifar --help` reads this module.
"""

from __future__ import annotations

import itertools
import math
import re
import typing
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from fastcifar.errors import ConfigError, nearest
from fastcifar.paths import local_path

Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]
Normalisation = Literal["auto", "unit", "cifar", "imagenet", "caffe"]


def flag(name: str) -> str:
    """Return a field's name as its flag is spelt: `global_batch_size` -> `global-batch-size`."""
    return name.replace("_", "-")


def _require(ok: bool, name: str, rule: str, received: Any) -> None:
    if not ok:
        raise ConfigError(f"{flag(name)} must be {rule}. Received: {received}")


_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
_INT_LIMIT = 2**31  # what TensorFlow's int32 arguments hold


def check_value(name: str, hint: Any, value: Any) -> None:
    """Refuse a value that a field's type does not allow.

    Numbers must be finite, whole ones below 2147483648.

    Args:
        name: the field's.
        hint: its type: a Literal, int, float, str, bool, one of these or None; a type that is
            none of them allows everything.
        value: what it is given.

    Raises:
        ConfigError: if the type does not allow the value.
    """
    options = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        # By type too: to Python 50.0 == 50 and True == 1.
        if (type(value), value) not in [(type(option), option) for option in options]:
            guess = nearest(str(value), options) if isinstance(options[0], str) else ""
            raise ConfigError(
                f"{flag(name)} must be one of {', '.join(map(str, options))}. "
                f"Received: {value!r}.{guess}"
            )
        return
    if type(None) in options:
        if value is None:
            return
        hint = options[0]
    if hint not in _KINDS:
        return
    legal = isinstance(value, int | float if hint is float else hint)
    legal = legal and isinstance(value, bool) == (hint is bool)
    _require(legal, name, _KINDS[hint], repr(value))
    if isinstance(value, int):
        _require(value < _INT_LIMIT, name, f"a number below {_INT_LIMIT}", value)
    elif isinstance(value, float):
        _require(math.isfinite(value), name, "a finite number", value)


def _check_types(config: Any) -> None:
    """Check every field (dataclasses do not, JSON neither); nested dataclasses check themselves."""
    for name, hint in typing.get_type_hints(type(config)).items():
        check_value(name, hint, getattr(config, name))


def _settle_path(config: Any, name: str) -> None:
    """Replace a path by that of this machine: `~` in a file of a configuration counts too."""
    text = getattr(config, name)
    if text is not None:
        object.__setattr__(config, name, local_path(flag(name), text))


_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_bytes(name: str, text: str) -> int | None:
    """Return the bytes that a size such as `800MB`, `1.5GB` or `2GiB` stands for; None for `auto`.

    Args:
        name: the field's.
        text: what it is given.

    Raises:
        ConfigError: if it is no size, or below one byte.
    """
    if text == "auto":
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    size = 0
    if found and found[2].upper() in _UNITS:
        size = int(float(found[1]) * _UNITS[found[2].upper()])
    _require(size >= 1, name, "auto, or a size such as 800MB or 2GB", repr(text))
    return size


@dataclass(frozen=True)
class DataConfig:
    """Where examples come from and how they travel to the device."""

    source: Literal["tfds", "image_folder", "keras", "kaggle", "synthetic"] = "tfds"
    """Where examples come from."""
    dataset: str = "cifar10"
    """A TFDS name (source tfds), or cifar10, cifar100 or mnist (source keras)."""
    data_path: str | None = None
    """The TFDS data_dir (source tfds); a folder, a CSV or what `prepare` made (image_folder); the
    competition's files (kaggle; downloaded if not given)."""
    storage_size: int | None = None
    """Side in pixels at which images are kept; resized once at ingest. Default: as they are."""
    non_square: Literal["crop", "pad"] = "crop"
    """Crop images that are not square at the centre, or pad them with black."""
    memory_budget: str = "auto"
    """What decoded images may take, such as 2GB; auto is half of the memory. Larger sets are read
    from disk."""
    skip_unreadable: bool = False
    """Leave unreadable image files out instead of refusing the folder."""
    synthetic_count: int = 10_000
    """Training images of the synthetic source; a fifth as many again are its test split."""
    synthetic_classes: int = 10
    """Classes of the synthetic source."""
    synthetic_size: int = 32
    """Side in pixels of the synthetic source's images."""
    limit_train: int | None = None
    """Use this many training images: each class in its share, and at least one of it."""
    limit_test: int | None = None
    """Use this many test images: each class in its share, and at least one of it."""
    validation_fraction: float = 0.1
    """Share of the training images, and of each class, held out for validation; 0 for none."""
    cache: Literal["memory", "device", "disk", "none"] = "memory"
    """Where decoded images are kept: host memory, every device, a file, or nowhere."""
    order: Literal["permutation", "shuffle_buffer"] = "permutation"
    """A stateless permutation of each epoch, or tf.data's shuffle buffer (for comparison)."""
    transfer: Literal["uint8", "float32"] = "uint8"
    """What crosses the bus to the device."""
    feature_cache: Literal["off", "memory", "disk"] = "off"
    """In phases that train the head alone: compute the backbone's features once, and keep them."""
    feature_views: int = 4
    """Augmented views of each image in the feature cache: at most the phase's epochs, and one where
    the policy draws nothing."""
    augment_on: Literal["device", "host"] = "device"
    """Where images are augmented. With resize-on host, what is one resampling with the resize, or
    comes before it, is done there too, where sizes differ."""
    augment_form: Literal["auto", "matmul", "gather"] = "auto"
    """How images are moved and resized in one: by matrix products, by lookups, or as suits the
    device and the policy. The images are the same up to rounding."""
    resize_on: Literal["device", "host"] = "device"
    """Where images are resized."""
    prefetch: int = 2
    """Batches kept ready ahead of the device; 0 for none."""
    parallel_map: int = 2
    """Batches assembled at the same time on the host."""

    def __post_init__(self) -> None:
        _check_types(self)
        _settle_path(self, "data_path")
        for name in ("storage_size", "limit_train", "limit_test"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, "1 or more", value)
        for name in ("synthetic_count", "synthetic_size", "parallel_map", "feature_views"):
            _require(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
        _require(
            self.synthetic_classes >= 2, "synthetic_classes", "2 or more", self.synthetic_classes
        )
        parse_bytes("memory_budget", self.memory_budget)
        _require(self.prefetch >= 0, "prefetch", "0 or more", self.prefetch)
        _require(
            0 <= self.validation_fraction < 1,
            "validation_fraction",
            "0 or more and below 1",
            self.validation_fraction,
        )
        if self.source == "image_folder" and not self.data_path:
            raise ConfigError(
                "source image_folder needs its folder: add --data-path DIR. "
                f"Received: data-path {self.data_path!r}"
            )
        if self.source == "keras" and self.data_path:
            raise ConfigError(
                "source keras takes no data-path: its folder is $KERAS_HOME/datasets. "
                f"Received: data-path {self.data_path!r}"
            )
        if self.resize_on == "device" and self.augment_on == "host":
            raise ConfigError(
                "augment-on host needs resize-on host, because augmentation and resizing are one "
                "resampling. Received: resize-on device"
            )
        if self.cache == "device" and "host" in (self.resize_on, self.augment_on):
            raise ConfigError(
                "cache device keeps images on the device, so augment-on and resize-on must be "
                f"device. Received: augment-on {self.augment_on}, resize-on {self.resize_on}"
            )
        if self.cache == "device" and self.order != "permutation":
            raise ConfigError(f"cache device needs order permutation. Received: order {self.order}")


@dataclass(frozen=True)
class ModelConfig:
    """The network."""

    depth: Literal[14, 26, 50, 101, 152] = 50
    """Layers of the ResNet (14 and 26 are for tests and small machines)."""
    width: int = 64
    """Channels of the stem; 64 is the published network."""
    weights: str = "none"
    """Start from imagenet, a .h5, .weights.h5 or .keras file, or another run's folder: RUN for its
    best weights (its last where it had no validation), RUN:best or RUN:last."""
    stem: Literal["auto", "imagenet", "cifar"] = "auto"
    """7x7 stride 2 with pooling (imagenet), or 3x3 stride 1 without (cifar); auto follows the
    weights (imagenet without any)."""
    stride_version: Literal["auto", "v1", "v1.5"] = "auto"
    """Stride in a block's first 1x1 convolution (v1) or in its 3x3 (v1.5); auto follows the weights
    (v1 without any)."""
    head: Literal["linear", "mlp"] = "linear"
    """One dense layer, or BatchNorm and dense layers of 128 and 64 before it."""
    pooling: Literal["average", "flatten"] = "average"
    """What brings the last feature map to the head."""
    dropout: float = 0.0
    """Share of the head's values dropped in training."""
    zero_gamma: bool = True
    """Start the last BatchNorm of each block at zero."""
    batch_norm_momentum: float = 0.9
    """Share of the old moving statistics kept at each step."""
    batch_norm_epsilon: float | None = None
    """Added to the variance. Default: that of the weights (1.001e-5 without any)."""
    sync_batch_norm: bool = False
    """Normalise by the statistics of the global batch instead of each replica's own share."""
    normalise: Normalisation = "auto"
    """Pixel values the network sees; auto follows the weights (cifar without any)."""
    resize_method: Literal["bilinear", "nearest"] = "bilinear"
    """How images are brought to the training size."""

    def __post_init__(self) -> None:
        _check_types(self)
        _settle_path(self, "weights")
        _require(self.width >= 1, "width", "1 or more", self.width)
        _require(
            0 <= self.batch_norm_momentum < 1,
            "batch_norm_momentum",
            "0 or more and below 1",
            self.batch_norm_momentum,
        )
        epsilon = self.batch_norm_epsilon
        _require(epsilon is None or epsilon > 0, "batch_norm_epsilon", "above 0", epsilon)
        _require(0 <= self.dropout < 1, "dropout", "0 or more and below 1", self.dropout)
        _require(
            self.weights.strip() != "", "weights", "none, imagenet or a path", repr(self.weights)
        )


@dataclass(frozen=True)
class OptimizerConfig:
    """How a gradient becomes an update."""

    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    """sgd is with Nesterov momentum."""
    momentum: float = 0.9
    """Of sgd."""
    weight_decay: float = 5e-4
    """L2 in the gradient, or decoupled (adamw); never on BatchNorm parameters or biases."""
    label_smoothing: float = 0.0
    """Share of each label spread evenly over all classes."""
    clip_norm: float | None = None
    """Bound of the gradient's global norm."""
    accumulate: int = 1
    """Parts that each replica's share of a batch is computed in, one after the other, to save
    memory; one update for all of them."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, such as 0.999, used for evaluation."""

    def __post_init__(self) -> None:
        _check_types(self)
        _require(self.accumulate >= 1, "accumulate", "1 or more", self.accumulate)
        _require(self.ema is None or 0 < self.ema < 1, "ema", "above 0 and below 1", self.ema)
        _require(0 <= self.momentum < 1, "momentum", "0 or more and below 1", self.momentum)
        _require(
            self.weight_decay >= 0,
            "weight_decay",
            "0 or more",
            self.weight_decay,
        )
        _require(
            0 <= self.label_smoothing < 1,
            "label_smoothing",
            "0 or more and below 1",
            self.label_smoothing,
        )
        _require(
            self.clip_norm is None or self.clip_norm > 0,
            "clip_norm",
            "above 0",
            self.clip_norm,
        )


@dataclass(frozen=True)
class RuntimeConfig:
    """How the run uses the machine."""

    precision: Precision = "auto"
    """auto picks what this hardware computes natively, and says so."""
    xla: Literal["auto", "on", "off"] = "auto"
    """Compile the step; auto is on for GPUs, off for CPUs."""
    strategy: Literal["auto", "none", "mirrored", "multi_worker"] = "auto"
    """Replicate over devices; auto mirrors where there are two or more GPUs. multi_worker trains on
    several hosts, which TF_CONFIG or Slurm's variables name."""
    devices: int | None = None
    """Use this many GPUs. Default: all."""
    logical_devices: int = 1
    """Split the CPU, or the one GPU, into this many devices, to try a layout anywhere."""
    gpu_memory_limit: str = "auto"
    """What each part of a split GPU may take, such as 8GB; auto shares nine tenths of it out."""
    reduce_dtype: Literal["float32", "bfloat16"] = "float32"
    """What gradients are added up in across replicas; bfloat16 halves the traffic, and several GPUs
    can only with --reduction overlapped."""
    reduction: Literal["packed", "overlapped"] = "packed"
    """How replicas add up: all at the end of the backward pass, or stage by stage during it, for
    several GPUs with XLA (experimental: not yet measured on any)."""
    tf32: bool = True
    """Let GPUs of compute capability 8.0 or more multiply float32 as TF32."""
    worker_timeout: float = 600.0
    """Seconds that a worker waits at the start for the others of several."""
    intra_op_threads: int | None = None
    """Threads within one operation of the CPU. Default: one a core."""
    inter_op_threads: int | None = None
    """Operations of the CPU at the same time. Default: one a core."""
    compile_cache: str | None = None
    """Keep what XLA compiles in this folder, for the next start."""
    steps_per_call: str = "auto"
    """Steps in one call to the device; auto keeps a call within one second."""
    profile: int | None = None
    """Trace this many steady steps for TensorBoard's profiler."""
    deterministic: bool = False
    """Same bits on a GPU too, at a cost."""

    def __post_init__(self) -> None:
        _check_types(self)
        _settle_path(self, "compile_cache")
        _require(self.devices is None or self.devices >= 1, "devices", "1 or more", self.devices)
        _require(self.logical_devices >= 1, "logical_devices", "1 or more", self.logical_devices)
        parse_bytes("gpu_memory_limit", self.gpu_memory_limit)
        for name in ("intra_op_threads", "inter_op_threads", "profile"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, "1 or more", value)
        _require(
            self.compile_cache is None or self.compile_cache.strip() != "",
            "compile_cache",
            "a folder",
            repr(self.compile_cache),
        )
        _require(self.worker_timeout > 0, "worker_timeout", "above 0", self.worker_timeout)
        if self.strategy == "multi_worker" and self.logical_devices > 1:
            raise ConfigError(
                "strategy multi_worker uses the devices that a host has, so logical-devices must "
                f"be 1; for more workers on one host: scripts/launch_workers. "
                f"Received: {self.logical_devices}"
            )
        _require(
            self.steps_per_call == "auto"
            or (self.steps_per_call.isdecimal() and int(self.steps_per_call) >= 1),
            "steps_per_call",
            "auto, or 1 or more",
            repr(self.steps_per_call),
        )


@dataclass(frozen=True)
class PhaseConfig:
    """A part of a run with its own rates, augmentation and image size."""

    epochs: int = 5
    """Passes over the training images."""
    learning_rate: float = 0.1
    """The highest rate of the schedule."""
    schedule: Literal["constant", "cosine", "one_cycle"] = "cosine"
    """How the rate goes on after the warm-up; see `fastcifar.training.schedules`."""
    warmup_epochs: float = 0.0
    """Epochs over which the rate rises from zero."""
    augment: str = "flip-crop"
    """The augmentation policy."""
    image_size: int = 32
    """Side in pixels at which the network sees the images."""
    start_image_size: int | None = None
    """The side at the start, where it grows to `image_size` in a few steps (`128:224`)."""
    trainable: str = "all"
    """What trains: all, head, or from:LAYER (a layer, a block such as conv5_block1, or a stage such
    as conv5) on; the rest is frozen, its BatchNorms in inference mode."""
    freeze_batch_norm: bool = False
    """Keep the backbone's BatchNorms in inference mode, whatever trains."""
    rate_decay: float = 1.0
    """Each block's learning rate, as a share of that of the block behind it."""
    name: str = "train"
    """Of the phase, in metrics.jsonl."""

    def __post_init__(self) -> None:
        _check_types(self)
        _require(self.epochs >= 1, "epochs", "1 or more", self.epochs)
        _require(
            self.learning_rate > 0,
            "learning_rate",
            "above 0",
            self.learning_rate,
        )
        _require(
            0 <= self.warmup_epochs <= self.epochs,
            "warmup_epochs",
            "between 0 and the phase's epochs",
            self.warmup_epochs,
        )
        _require(0 < self.rate_decay <= 1, "rate_decay", "above 0 and at most 1", self.rate_decay)
        known = self.trainable in ("all", "head") or self.trainable.startswith("from:")
        _require(known, "trainable", "all, head or from:LAYER", repr(self.trainable))
        _require(self.image_size >= 1, "image_size", "1 or more", self.image_size)
        if self.start_image_size is not None:
            _require(
                1 <= self.start_image_size <= self.image_size,
                "image_size",
                "small:large for growing images",
                f"{self.start_image_size}:{self.image_size}",
            )


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes; saved as RUN/config.json."""

    recipe: Annotated[str, tyro.conf.Suppress] = "custom"
    """The name of the recipe that this came from."""
    global_batch_size: int = 128
    """Images in one step, over all replicas."""
    seed: int = 0
    """Of the weights, the order and the augmentation."""
    checkpoint_every: int = 1
    """Epochs between checkpoints (the last epoch always has one)."""
    on_divergence: Literal["stop", "rollback"] = "stop"
    """What a run does that diverges: stop, or go back to the last good checkpoint and on from there
    at a lower learning rate."""
    rollback_factor: float = 0.5
    """What a rollback multiplies the learning rate by."""
    max_rollbacks: int = 3
    """Rollbacks before a run that diverges stops."""
    test_weights: Literal["auto", "best", "last"] = "auto"
    """The weights whose test figures count: the best by validation accuracy, or the last; auto is
    the best where there is validation."""
    test_time_augmentation: Literal["none", "flip", "flip-shift"] = "none"
    """Views of a test image whose logits are averaged at the end of the run; validation has one."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    phases: Annotated[tuple[PhaseConfig, ...], tyro.conf.Suppress] = (PhaseConfig(),)
    """The parts of the run, one after the other."""

    def __post_init__(self) -> None:
        _check_types(self)
        _require(
            self.global_batch_size >= 1, "global_batch_size", "1 or more", self.global_batch_size
        )
        _require(self.seed >= 0, "seed", "0 or more", self.seed)
        _require(self.checkpoint_every >= 1, "checkpoint_every", "1 or more", self.checkpoint_every)
        _require(
            0 < self.rollback_factor < 1,
            "rollback_factor",
            "above 0 and below 1",
            self.rollback_factor,
        )
        _require(self.max_rollbacks >= 1, "max_rollbacks", "1 or more", self.max_rollbacks)
        if not self.phases:
            raise ConfigError("phases must hold one phase or more. Received: none")
        sizes = {phase.image_size for phase in self.phases}
        sizes |= {phase.start_image_size or phase.image_size for phase in self.phases}
        if self.model.pooling == "flatten" and len(sizes) > 1:
            raise ConfigError(
                "pooling flatten needs one image-size for all phases, because the head's width "
                f"depends on it. Received: {', '.join(map(str, sorted(sizes)))}"
            )

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def phase_at(self, epoch: int) -> PhaseConfig:
        """The phase that an epoch, counted from 1, is part of."""
        ends = itertools.accumulate(phase.epochs for phase in self.phases)
        return next(p for p, end in zip(self.phases, ends, strict=True) if epoch <= end)
