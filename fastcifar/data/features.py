"""Features in place of images: what a frozen backbone makes of each image of a split."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcifar.data.storage import empty_images


@dataclass(frozen=True)
class FeatureSplit:
    """The features of a split's images, in memory or mapped from a file.

    Attributes:
        values: floating [V, N, F]: V views of each image, aligned as `collect` does it.
        labels: int64 [N].
        class_names: the name of each label, in label order.
    """

    values: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def views(self) -> int:
        """How many views of each image there are; epoch e trains on view e mod V."""
        return len(self.values)


def collect(blocks: Iterable[np.ndarray], shape: tuple[int, int, int], dtype: Any) -> np.ndarray:
    """Put successive blocks [n, F] of features together in memory: `dtype`, `shape` [V, N, F]."""
    dtype = np.dtype(dtype)
    values = empty_images((math.prod(shape) * dtype.itemsize,)).view(dtype)
    rows, start = values.reshape(-1, shape[-1]), 0
    for block in blocks:
        rows[start : start + len(block)] = block
        start += len(block)
    return values.reshape(shape)
