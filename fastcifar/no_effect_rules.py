"""The rules of `fastcifar.no_effect`: which settings have no effect, when and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastcifar.augment import operations as op
from fastcifar.augment import policies
from fastcifar.config import DataConfig, PhaseConfig, RunConfig
from fastcifar.environment import usable_cores

# Operations that move whole pixels: nothing is interpolated unless images are resized too.
_WHOLE = (op.Flip, op.AlternatingFlip, op.PadCrop)
# Calls before one can be traced: the one that compiles, and those that the number of steps per call
# is chosen by.
CALLS_BEFORE_A_TRACE = 3


@dataclass(frozen=True)
class Situation:
    """What decides whether a setting of a run has an effect.

    Attributes:
        config: of the run.
        replicas: devices taking part.
        on_gpu: they are GPUs.
        xla: the step is compiled by XLA.
        side: of the images as they are stored, in pixels.
        on_disk: the training images are read from disk while training.
        brings_validation: the source has validation images of its own.
        steps_per_epoch: global batches in an epoch.
    """

    config: RunConfig
    replicas: int
    on_gpu: bool
    xla: bool
    side: int
    on_disk: bool
    brings_validation: bool
    steps_per_epoch: int

    @property
    def data(self) -> DataConfig:
        """The configuration of the data."""
        return self.config.data

    def every_phase(self, holds: Callable[[PhaseConfig], bool]) -> bool:
        """Whether something holds in each phase."""
        return all(holds(phase) for phase in self.config.phases)

    @property
    def features_only(self) -> bool:
        """Whether no phase trains on images: all on features that are kept."""
        return self.data.feature_cache != "off" and self.every_phase(_head_only)


class Rule(NamedTuple):
    """A rule: the named settings have no effect `when`, because of `why`.

    `refused`: a user who gives one is about to compute something else than was asked for. `why`
    may name settings: {0.data.source}, {0.config.optimizer.optimizer}.
    """

    fields: tuple[str, ...]
    when: Callable[[Any], bool]
    why: str
    refused: bool = False


def _head_only(phase: PhaseConfig) -> bool:
    return phase.trainable == "head"


def _operations(phase: PhaseConfig) -> tuple[Any, ...]:
    return policies.get(phase.augment).operations


def _frozen_norms(situation: Situation) -> bool:
    """Whether no BatchNorm is ever in training mode (that of the head `mlp` always is)."""
    return situation.config.model.head == "linear" and situation.every_phase(
        lambda phase: _head_only(phase) or phase.freeze_batch_norm
    )


def _interpolates(situation: Situation) -> bool:
    """Whether images are resized, or moved by parts of a pixel."""
    return not situation.every_phase(
        lambda phase: (
            situation.side == phase.image_size == (phase.start_image_size or phase.image_size)
            and all(
                isinstance(o, (*_WHOLE, op.Erasing, op.Mixing, op.Photometric))
                for o in _operations(phase)
            )
        )
    )


def _moves(phase: PhaseConfig) -> bool:
    return any(isinstance(o, op.Geometric) for o in _operations(phase))


def _turns(phase: PhaseConfig) -> bool:
    """Whether the policy rotates or shears, which matrix products cannot."""
    return any(isinstance(o, op.Rotate | op.Shear | op.Automatic) for o in _operations(phase))


def _calls(situation: Situation) -> int:
    """The most calls to the device that a phase can have."""
    per_call = situation.config.runtime.steps_per_call
    steps = 1 if per_call == "auto" else int(per_call)
    per_epoch = -(-situation.steps_per_epoch // steps)
    return max(phase.epochs for phase in situation.config.phases) * per_epoch


def _views_capped(situation: Situation) -> bool:
    """Whether each phase of the head has fewer views than asked for, or needs no more than one."""
    heads = [phase for phase in situation.config.phases if _head_only(phase)]
    return all(
        not _operations(phase) or situation.data.feature_views > phase.epochs for phase in heads
    )


# What a source makes of the settings of the data: `when` is asked of a `DataConfig`.
OF_THE_SOURCE = (
    Rule(
        ("data_path",),
        lambda data: data.source == "synthetic",
        "source synthetic draws its own images and reads no folder: name the source that does, "
        "such as --source image_folder",
        refused=True,
    ),
    Rule(
        ("dataset",),
        lambda data: data.source == "synthetic",
        "source synthetic draws its own images and reads no data set: name the source that does, "
        "such as --source tfds",
        refused=True,
    ),
    Rule(
        ("dataset",),
        lambda data: data.source == "image_folder",
        "source image_folder reads what --data-path holds",
    ),
    Rule(
        ("storage_size",),
        lambda data: data.source == "synthetic",
        "source synthetic draws images of --synthetic-size pixels",
    ),
    Rule(
        ("non_square", "skip_unreadable", "workers"),
        lambda data: data.source == "synthetic",
        "source synthetic draws its images, all of them square",
    ),
    Rule(
        ("non_square",),
        lambda data: data.source in ("keras", "kaggle"),
        "the images of source {0.source} are square",
    ),
    Rule(
        ("skip_unreadable", "workers"),
        lambda data: data.source == "keras",
        "source keras has its images decoded and verified",
    ),
    Rule(
        ("synthetic_count", "synthetic_classes", "synthetic_size"),
        lambda data: data.source != "synthetic",
        "source {0.source} reads its images; it is source synthetic that draws them",
    ),
)

# `when` is asked of a `Situation`.
OF_TRAINING = (
    Rule(
        ("validation_fraction",),
        lambda s: s.brings_validation,
        "the source brings validation images of its own",
    ),
    Rule(
        ("cache",),
        lambda s: s.data.order == "shuffle_buffer" and s.data.cache != "device",
        "order shuffle_buffer keeps the images in memory",
    ),
    Rule(
        ("cache",),
        lambda s: s.on_disk and s.data.cache != "device",
        "the images are more than --memory-budget and are read from disk",
    ),
    Rule(
        ("cache", "transfer"),
        lambda s: s.features_only,
        "every phase trains on kept features, not on images",
    ),
    Rule(
        ("transfer",),
        lambda s: s.data.cache == "device",
        "with cache device the images are on the device already",
    ),
    Rule(
        ("transfer",),
        lambda s: "host" in (s.data.resize_on, s.data.augment_on),
        "images that the host resizes or augments cross as float32 in any case",
    ),
    Rule(
        ("feature_cache",),
        lambda s: s.data.feature_cache != "off" and not any(map(_head_only, s.config.phases)),
        "no phase trains the head alone; --trainable head does",
    ),
    Rule(
        ("feature_views",),
        lambda s: s.data.feature_cache == "off" or not any(map(_head_only, s.config.phases)),
        "there is no feature cache; --trainable head with --feature-cache memory makes one",
    ),
    Rule(
        ("feature_views",),
        _views_capped,
        "a phase has at most a view for each of its epochs, and one where its policy draws nothing",
    ),
    Rule(
        ("augment_on",),
        lambda s: s.data.augment_on == "host" and s.every_phase(lambda p: not _operations(p)),
        "the policy none does nothing to images",
    ),
    Rule(
        ("augment_form",),
        lambda s: s.every_phase(lambda p: not _moves(p) and not _turns(p)),
        "the policy moves no image",
    ),
    Rule(
        ("augment_form",),
        lambda s: s.data.augment_form == "gather" and s.every_phase(_turns),
        "the policy rotates or shears, which is done by lookups in any case",
    ),
    Rule(
        ("parallel_map",),
        lambda s: s.on_disk and s.data.parallel_map <= usable_cores(),
        "images that are read from disk are read by all cores",
    ),
    Rule(
        ("parallel_map",),
        lambda s: s.data.order == "shuffle_buffer" and s.data.resize_on == "device",
        "order shuffle_buffer assembles one batch at a time",
    ),
    Rule(
        ("zero_gamma",),
        lambda s: s.config.model.weights != "none",
        "the weights {0.config.model.weights} replace what the network would start with",
    ),
    Rule(
        ("batch_norm_momentum", "sync_batch_norm"),
        _frozen_norms,
        "every BatchNorm is frozen, and uses the statistics that it has",
    ),
    Rule(
        ("sync_batch_norm",),
        lambda s: s.replicas == 1,
        "on one replica BatchNorm sees the whole batch",
    ),
    Rule(
        ("resize_method",),
        lambda s: not _interpolates(s),
        "images are stored at the size that they are trained at, {0.side} pixels",
    ),
    Rule(
        ("momentum",),
        lambda s: s.config.optimizer.optimizer != "sgd",
        "it is of optimizer sgd, and the optimizer is {0.config.optimizer.optimizer}",
    ),
    Rule(
        ("rollback_factor", "max_rollbacks"),
        lambda s: s.config.on_divergence != "rollback",
        "a run that diverges stops; --on-divergence rollback goes back",
    ),
    Rule(
        ("devices",),
        lambda s: not s.on_gpu,
        "there is no GPU to choose; --logical-devices splits a CPU",
    ),
    Rule(
        ("devices", "logical_devices"),
        lambda s: s.config.runtime.strategy == "none",
        "strategy none trains on one device",
    ),
    Rule(
        ("worker_timeout",),
        lambda s: s.config.runtime.strategy != "multi_worker",
        "it is of strategy multi_worker, and there are no other workers to wait for",
    ),
    Rule(
        ("gpu_memory_limit",),
        lambda s: not s.on_gpu or s.config.runtime.logical_devices == 1,
        "it is for the parts of a GPU that --logical-devices splits",
    ),
    Rule(
        ("reduce_dtype", "reduction"),
        lambda s: s.replicas == 1,
        "one replica has nothing to add its gradients to",
    ),
    Rule(("tf32",), lambda s: not s.on_gpu, "only GPUs have TF32"),
    Rule(("deterministic",), lambda s: not s.on_gpu, "a CPU gives the same bits in any case"),
    Rule(
        ("compile_cache",),
        lambda s: s.config.runtime.compile_cache and not s.xla,
        "XLA is off; --xla on compiles the step",
    ),
    Rule(
        ("profile",),
        lambda s: s.config.runtime.profile is not None and _calls(s) <= CALLS_BEFORE_A_TRACE,
        f"a trace is of a call after the first {CALLS_BEFORE_A_TRACE} of a phase, and no phase has "
        "more; lower --steps-per-call or raise --epochs",
    ),
    Rule(
        ("warmup_epochs",),
        lambda s: (
            any(p.warmup_epochs for p in s.config.phases)
            and s.every_phase(lambda p: round(p.warmup_epochs * s.steps_per_epoch) == 0)
        ),
        "it is less than one step",
    ),
    Rule(
        ("start_image_size",),
        lambda s: (
            any(p.start_image_size for p in s.config.phases)
            and s.every_phase(lambda p: p.epochs == 1 or p.start_image_size in (None, p.image_size))
        ),
        "the size grows from epoch to epoch, and the phase has one epoch",
    ),
    Rule(
        ("freeze_batch_norm",),
        lambda s: s.every_phase(_head_only),
        "trainable head freezes the backbone's BatchNorms already",
    ),
    Rule(
        ("rate_decay",),
        lambda s: s.every_phase(_head_only),
        "trainable head trains one block, which has the whole rate",
    ),
)

# What only training reads: of no effect where images are evaluated or drawn.
_TRAINING_ONLY = (
    *("cache", "order", "transfer", "feature_cache", "feature_views", "augment_on", "augment_form"),
    *("resize_on", "prefetch", "parallel_map"),
)
OF_EVALUATION = (
    *OF_THE_SOURCE,
    Rule(
        (*_TRAINING_ONLY, "limit_train", "validation_fraction"),
        lambda data: True,
        "it is of training, and this evaluates",
    ),
)
OF_DRAWING = (
    *OF_THE_SOURCE,
    Rule(
        (*_TRAINING_ONLY, "limit_test"),
        lambda data: True,
        "it is of training, and this draws training images",
    ),
)
OF_PREPARING = (
    *OF_THE_SOURCE,
    Rule(
        ("storage_size",),
        lambda data: data.source == "keras",
        "prepare keras leaves the images in Keras' cache as they are",
    ),
)
