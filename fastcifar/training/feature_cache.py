"""The feature cache: where only the head trains, the backbone runs once and not in every step.

A frozen backbone makes of an image, in a given view, the same features in every epoch. They are
computed once, at the speed of inference, and the head trains on them: the same step, with features
in the place of images. Order, labels and dropout are keyed as ever, so that with a policy that
draws nothing the losses are those of the whole network. Of a random policy V views of each image
are kept, keyed by (seed, view, place in the split); epoch e trains on view e mod V.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fastcifar.augment import policies
from fastcifar.config import DataConfig, PhaseConfig, RunConfig
from fastcifar.data.checksums import Damaged
from fastcifar.data.features import FeatureSplit, collect
from fastcifar.data.split import Examples, Split, decoded_bytes
from fastcifar.errors import ConfigError
from fastcifar.models.heads import split_head
from fastcifar.training import feature_files, feature_key
from fastcifar.training.assembly import memory_budget
from fastcifar.training.feature_key import Key
from fastcifar.training.feature_pass import FeaturePass
from fastcifar.training.phase import Phase, trains_on_features
from fastcifar.training.preparation import Prepared
from fastcifar.training.progress import Display


@dataclass(frozen=True)
class PhaseFeatures:
    """What a phase trains and validates on.

    Attributes:
        head: features [B, F] -> logits [B, C]; shares the network's variables.
        averages: of the head's trainable and then its other variables; empty where none are kept.
        train: of the training images.
        validation: of the validation images, in one view, by the weights that are evaluated.
    """

    head: keras.Model
    averages: tuple[tf.Variable, ...]
    train: FeatureSplit
    validation: FeatureSplit | None


def check(config: RunConfig) -> None:
    """Refuse a phase whose features cannot be kept, before anything is loaded.

    Raises:
        ConfigError: naming the phase's setting, the rule and the mend.
    """
    for phase in config.phases:
        if not trains_on_features(config.data, phase):
            continue
        policy = policies.get(phase.augment)
        if policy.mixes or not policy.compiled:
            what = "mixes images" if policy.mixes else "does not follow from the seed alone"
            raise ConfigError(
                "feature-cache needs a policy that makes each view of its own image alone, keyed "
                f"by the seed. Received: augment {phase.augment}, which {what}; choose another, or "
                "--feature-cache off"
            )
        if phase.start_image_size is not None:
            raise ConfigError(
                "feature-cache needs one image-size in a phase of the head, because each size has "
                f"features of its own. Received: {phase.start_image_size}:{phase.image_size}; give "
                "one size, or --feature-cache off"
            )
        if config.data.order != "permutation":
            raise ConfigError(
                "feature-cache needs order permutation, because features are kept by position. "
                f"Received: order {config.data.order}; change it, or --feature-cache off"
            )


def views_of(data: DataConfig, phase: PhaseConfig) -> int:
    """How many views of each image a phase trains on: no more than it has epochs."""
    draws = bool(policies.get(phase.augment).operations)
    return min(data.feature_views, phase.epochs) if draws else 1


def check_memory(prepared: Prepared) -> None:
    """Refuse features that do not fit beside the images into the memory that both may take.

    Raises:
        ConfigError: naming the mend.
    """
    data, splits = prepared.config.data, prepared.splits
    views = [views_of(data, p) for p in prepared.config.phases if trains_on_features(data, p)]
    if not views or data.feature_cache != "memory":
        return
    backbone, _ = split_head(prepared.model)
    images = max(views) * len(splits.train) + len(splits.validation or ())
    needed = images * _width(backbone) * _dtype(prepared).itemsize
    budget = memory_budget(data)
    left = budget - sum(decoded_bytes(s) for s in splits.all() if isinstance(s, Split))
    if needed > left:
        fewer = f", fewer --feature-views than {max(views)}" if max(views) > 1 else ""
        raise ConfigError(
            f"feature-cache memory needs {needed / 1e9:.2f} GB for features, and of memory-budget, "
            f"{budget / 1e9:.2f} GB, images leave {max(left, 0) / 1e9:.2f} GB. Use --feature-cache "
            f"disk{fewer} or a higher --memory-budget"
        )


def open_cache(config: RunConfig, prepared: Prepared, display: Display) -> FeatureCache | None:
    """Return the feature cache of a run; None if no phase of it trains on features."""
    if any(trains_on_features(config.data, phase) for phase in config.phases):
        return FeatureCache(config, prepared, display)
    return None


class FeatureCache:
    """The features of a run, those of one phase at a time.

    Args:
        config: of the run, with everything settled that was left to weights.
        prepared: its parts.
        display: where what is computed is shown.
    """

    def __init__(self, config: RunConfig, prepared: Prepared, display: Display):
        self._config = config
        self._prepared = prepared
        self._display = display
        self._on_disk = config.data.feature_cache == "disk"
        self._kept: dict[str, tuple[Key, FeatureSplit]] = {}
        self._backbone, self._head = split_head(prepared.model)
        self._dtype = _dtype(prepared)
        used = [phase for phase in config.phases if trains_on_features(config.data, phase)]
        self._pass = FeaturePass(
            self._backbone,
            examples=len(prepared.splits.train),
            multiple=math.lcm(*(policies.get(phase.augment).group_size for phase in used)),
            strategy=prepared.runtime.strategy,
            xla=prepared.runtime.xla,
        )

    def of(self, phase: Phase, between: Callable[[], None] | None = None) -> PhaseFeatures:
        """Return the features of `phase`: kept ones where they still hold, else computed now.

        Args:
            phase: one that trains on features.
            between: called between batches of images; may raise to stop.

        Raises:
            SourceError: if the disk refuses what it should keep.
        """
        state, splits, transforms = self._prepared.state, self._prepared.splits, phase.transforms
        policy = policies.get(phase.config.augment)

        def evaluation(images, labels, seed, positions, indices):
            return transforms.for_evaluation(images), labels

        train = self._features(
            "training",
            splits.train,
            image_size=phase.train_size,
            policy=policy,
            views=views_of(self._config.data, phase.config),
            weights=[v.value for v in _variables(self._backbone)],
            transform=transforms.on_device,
            host_transform=transforms.on_host,
            groups=policy.group_size,
            between=between,
        )
        own = [id(v) for v in (*state.trainable, *state.statistics)]
        averages = dict(zip(own, state.averages, strict=bool(state.averages)))

        def evaluated(model: keras.Model) -> list[tf.Variable]:
            return [averages.get(id(v.value), v.value) for v in _variables(model)]

        validation = None
        if splits.validation is not None:
            validation = self._features(
                "validation",
                splits.validation,
                image_size=phase.config.image_size,
                policy=None,
                views=1,
                weights=evaluated(self._backbone),
                transform=evaluation,
                between=between,
            )
        head_averages = tuple(evaluated(self._head)) if averages else ()
        return PhaseFeatures(self._head, head_averages, train, validation)

    def forget(self) -> None:
        """Let go of what is in memory."""
        self._kept.clear()

    def _features(
        self,
        what: str,
        split: Examples,
        *,
        image_size: int,
        policy: policies.Policy | None,
        views: int,
        weights: list[tf.Variable],
        between: Callable[[], None] | None,
        **transforms: Any,
    ) -> FeatureSplit:
        paths = [v.path for v in _variables(self._backbone)]
        key = feature_key.describe(
            self._config,
            self._prepared.runtime,
            split=split,
            backbone=list(zip(paths, weights, strict=True)),
            policy=policy,
            views=views,
            image_size=image_size,
        )
        known, features = self._kept.pop(what, (None, None))
        if known != key or features is None:
            features = None  # the old ones must be free to go before there are new ones
            shape = (views, len(split), _width(self._backbone))
            passed = self._pass(
                split, weights=weights, seed=self._config.seed, views=views, **transforms
            )
            blocks = self._counted(what, shape, passed, between)
            values = self._values(what, key, shape, blocks)
            features = FeatureSplit(values, split.labels, split.class_names)
        self._kept[what] = key, features
        return features

    def _values(
        self, what: str, key: Key, shape: tuple[int, int, int], blocks: Iterator[np.ndarray]
    ) -> np.ndarray:
        place = "in memory"
        if self._on_disk:
            place = f"in {feature_files.path_of(key)}"
            try:
                found = feature_files.find(key, shape, self._dtype)
            except Damaged as error:
                found = None
                self._display.line(
                    f"features of the {what} images: those kept are damaged, so they are computed "
                    f"again ({error})"
                )
            if found is not None:
                self._display.line(f"features of the {what} images: found {place}")
                return found
            changed = feature_files.changed_parts(key)
            if changed:
                self._display.line(
                    f"features of the {what} images: those kept were computed with other "
                    f"{', '.join(changed)}, so they are computed again"
                )
        began = time.perf_counter()
        if self._on_disk:
            values = feature_files.write(key, shape, self._dtype, blocks)
        else:
            values = collect(blocks, shape, self._dtype)
        seconds = time.perf_counter() - began
        views, images, _ = shape
        self._display.line(
            f"features of the {what} images: {images:,} images in {views} "
            f"view{'s' if views > 1 else ''}, {views * images / seconds:,.0f} images/s, "
            f"{values.nbytes / 1e6:,.1f} MB {place}"
        )
        return values

    def _counted(
        self,
        what: str,
        shape: tuple[int, int, int],
        blocks: Iterator[np.ndarray],
        between: Callable[[], None] | None,
    ) -> Iterator[np.ndarray]:
        done, total = 0, shape[0] * shape[1]
        for block in blocks:
            yield block
            done += len(block)
            self._display.count(f"features of the {what} images", done, total)
            if between is not None and done < total:
                between()


def _width(backbone: keras.Model) -> int:
    """Numbers that are kept of an image."""
    return math.prod(backbone.output_shape[1:])


def _dtype(prepared: Prepared) -> np.dtype:
    """What they are kept in: the compute dtype."""
    return np.dtype(tf.as_dtype(prepared.runtime.compute_dtype).as_numpy_dtype)


def _variables(model: keras.Model) -> list[Any]:
    """A network's variables in the order in which `stateless_call` takes them."""
    return [*model.trainable_variables, *model.non_trainable_variables]
