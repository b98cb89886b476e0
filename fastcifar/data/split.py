"""`Split` and `Splits`: what every source delivers, whatever it reads.

A set that fits is held in memory (`Split`); a larger one stays on disk
(`fastcifar.data.records.RecordSplit`). What both can do is `Examples`; only the pipeline needs to
know which of the two it has.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np

from fastcifar.data.checksums import image_digests
from fastcifar.data.storage import empty_images
from fastcifar.errors import SourceError, nearest


class Examples(Protocol):
    """One part of a data set, wherever its images are.

    Attributes:
        labels: int64 [N], each in [0, len(class_names)), in memory.
        class_names: the name of each label, in label order.
        image_shape: (height, width, 3) of every image.
        digests: uint64 [N], `fastcifar.data.checksums.image_digests` of the images.
    """

    @property
    def labels(self) -> np.ndarray: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def image_shape(self) -> tuple[int, int, int]: ...
    @property
    def digests(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> Examples:
        """Return the examples at `indices` (int [M]), in that order."""

    def in_memory(self) -> Split:
        """Return the same examples with their images in memory."""


def relabelled(split: Examples, class_names: tuple[str, ...]) -> Examples:
    """Return a split with the labels that its classes have among `class_names`, by name.

    Raises:
        SourceError: if one of its classes is not among them.
    """
    label_of = {name: label for label, name in enumerate(class_names)}
    for name in split.class_names:
        if name not in label_of:
            raise SourceError(
                f"the images must be of the classes of the run: {', '.join(class_names)}. "
                f"Received: class {name!r}.{nearest(name, class_names)}"
            )
    labels = np.array([label_of[name] for name in split.class_names], dtype=np.int64)[split.labels]
    return cast(
        Examples, dataclasses.replace(cast(Any, split), labels=labels, class_names=class_names)
    )


def decoded_bytes(split: Examples) -> int:
    """Return what the images of a split take in memory."""
    return len(split) * math.prod(split.image_shape)


@dataclass(frozen=True)
class Split:
    """One part of a data set, decoded and in memory (an `Examples`).

    Attributes:
        images: uint8 [N, H, W, 3], RGB, 0..255, C-contiguous.
        labels: int64 [N], each in [0, len(class_names)).
        class_names: the name of each label, in label order.

    Raises:
        SourceError: if shapes, dtypes or label values do not fit the description above.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise SourceError(
                "images must be uint8 of shape [N, H, W, 3]. "
                f"Received: {images.dtype} of shape {list(images.shape)}"
            )
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise SourceError(
                f"labels must be int64 of shape [{images.shape[0]}], one for each image. "
                f"Received: {labels.dtype} of shape {list(labels.shape)}"
            )
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.class_names):
            raise SourceError(
                f"labels must lie in [0, {len(self.class_names)}), the number of classes. "
                f"Received: {labels.min()} to {labels.max()}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of every image."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    @functools.cached_property
    def digests(self) -> np.ndarray:
        """Of the pixels of each image, uint64 [N]."""
        return image_digests(self.images)

    def take(self, indices: np.ndarray) -> Split:
        """Return the examples at `indices` (int [M]) as a new split, in that order (a copy)."""
        images = empty_images((len(indices), *self.image_shape))
        np.take(self.images, indices, axis=0, out=images, mode="clip")
        return Split(images, self.labels[indices], self.class_names)

    def in_memory(self) -> Split:
        """Return the split itself."""
        return self


@dataclass(frozen=True)
class Splits:
    """The splits of one data set.

    Attributes:
        train: what to learn from.
        test: what to report the final accuracy on.
        validation: None where the source has none and none has been held out (yet).
        notes: what the user should know about how the splits came to be, one line each.
        held_out: those of the splits that were held out of train: how many images of how many.

    Raises:
        SourceError: if the splits differ in their classes or in the size of their images.
    """

    train: Examples
    test: Examples
    validation: Examples | None = None
    notes: tuple[str, ...] = ()
    held_out: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, split in (("test", self.test), ("validation", self.validation)):
            if split is None:
                continue
            if split.class_names != self.train.class_names:
                raise SourceError(
                    f"train and {name} must have the same classes. Received: "
                    f"{', '.join(self.train.class_names)} against {', '.join(split.class_names)}"
                )
            if split.image_shape != self.train.image_shape:
                raise SourceError(
                    f"train and {name} must have images of one size. Received: "
                    f"{self.train.image_shape} against {split.image_shape}"
                )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label, in label order."""
        return self.train.class_names

    def all(self) -> tuple[Examples, ...]:
        """Return the splits that there are."""
        return tuple(s for s in (self.train, self.validation, self.test) if s is not None)

    def in_memory(self) -> Splits:
        """Return the same splits with their images in memory."""
        validation = None if self.validation is None else self.validation.in_memory()
        return dataclasses.replace(
            self,
            train=self.train.in_memory(),
            test=self.test.in_memory(),
            validation=validation,
        )
