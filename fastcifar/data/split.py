"""`Split` and `Splits`: what every source delivers, whatever it reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastcifar.data.storage import empty_images
from fastcifar.errors import SourceError


@dataclass(frozen=True)
class Split:
    """One part of a data set, decoded and in memory.

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

    def take(self, indices: np.ndarray) -> Split:
        """Return the examples at `indices` (int [M]) as a new split, in that order (a copy)."""
        images = empty_images((len(indices), *self.image_shape))
        np.take(self.images, indices, axis=0, out=images, mode="clip")
        return Split(images, self.labels[indices], self.class_names)


@dataclass(frozen=True)
class Splits:
    """The splits of one data set.

    Attributes:
        train: what to learn from.
        test: what to report the final accuracy on.
        validation: None where the source has none and none has been held out (yet).
        notes: what the user should know about how the splits came to be, one line each.

    Raises:
        SourceError: if the splits differ in their classes or in the size of their images.
    """

    train: Split
    test: Split
    validation: Split | None = None
    notes: tuple[str, ...] = ()

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
