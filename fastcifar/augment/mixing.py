"""MixUp and CutMix: blend each image, and its label, with its partner's.

The partner of the image at position 2 i is the one at 2 i + 1 and the other way round: the order of
an epoch is random already, so fixed pairs are random pairs, and a replica that holds whole pairs
mixes what the whole batch would. Each image of a pair draws its own weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.augment import operations as op
from fastcifar.augment.checks import (
    check_groups,
    check_images,
    check_keys,
    check_labels,
    check_operations,
)
from fastcifar.augment.randomness import draw

Tensor = Any  # tf.Tensor; TensorFlow ships no types

_QUANTILES = 1024


def mix(
    images: Tensor,
    labels: Tensor,
    seed: Tensor,
    positions: Tensor,
    operations: Sequence[op.Mixing],
    *,
    num_classes: int,
    stream: int = 0,
) -> tuple[Tensor, Tensor]:
    """Blend pairs of neighbouring images and their labels.

    Args:
        images: floating [B, h, w, 3]; B static and even.
        labels: integers [B], or floating [B, num_classes] that already are distributions.
        seed: integers [2]: (run seed, epoch).
        positions: integers [B]: global position of each image within the epoch.
        operations: `MixUp` and `CutMix`. Of several, each image uses one, all equally likely.
        num_classes: C.
        stream: gives independent numbers for the same seed and positions.

    Returns:
        Images of the same shape and dtype, and labels float32 [B, num_classes] of the same sums.

    Raises:
        ConfigError: if an argument is not as above.
    """
    images = check_images(images, floating=True)
    seed, positions = check_keys(images, seed, positions)
    check_operations(operations, op.Mixing)
    check_groups(images, op.Mixing.group_size, "mixing")
    labels = check_labels(labels, images, num_classes, mixes=True)
    drawn = draw([*operations, CHOICE], seed, positions, stream=stream)
    return blend(images, labels, drawn[:-1], drawn[-1][1], num_classes)


class _Choice(op.Operation):
    """The number that decides between several mixing operations."""

    columns = 1


CHOICE = _Choice()


def blend(
    images: Tensor,
    labels: Tensor,
    drawn: Sequence[tuple[op.Mixing, Tensor]],
    choice: Tensor,
    num_classes: int,
) -> tuple[Tensor, Tensor]:
    """Blend with numbers already drawn.

    Args:
        images, labels, num_classes: as `mix`.
        drawn: each operation with its uniform numbers float32 [B, operation.columns].
        choice: float32 [B, 1], uniform; which of several operations an image uses.

    Returns:
        As `mix`.
    """
    if labels.dtype.is_integer:
        labels = tf.one_hot(labels, num_classes, dtype=tf.float32)
    labels = tf.cast(labels, tf.float32)
    if not drawn:
        return images, labels
    weights, shares = zip(*(_weights(o, n, images.shape[1:3]) for o, n in drawn), strict=True)
    weight, share = weights[0], shares[0]
    for index in range(1, len(drawn)):
        # The first of n has 1/n; in turn, each later one takes its share of what came before.
        taken = choice[:, 0] * np.float32(len(drawn)) >= np.float32(index)
        weight = tf.where(taken[:, tf.newaxis, tf.newaxis, tf.newaxis], weights[index], weight)
        share = tf.where(taken, shares[index], share)
    weight, share = tf.cast(weight, images.dtype), share[:, tf.newaxis]
    other, other_labels = _partners(images), _partners(labels)
    return other + weight * (images - other), other_labels + share * (labels - other_labels)


@tf.autograph.experimental.do_not_convert  # AutoGraph does not know `match`
def _weights(operation: op.Mixing, numbers: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """An image's own weight, in each pixel ([B, h or 1, w or 1, 1]) and in the label ([B])."""
    height, width = size
    own = beta(numbers[:, 1], operation.alpha)
    own = tf.where(numbers[:, 0] < np.float32(operation.probability), own, 1.0)
    if isinstance(operation, op.MixUp):
        return own[:, tf.newaxis, tf.newaxis, tf.newaxis], own
    # A window of the image's aspect, centred anywhere and clipped, as in the paper.
    side = tf.sqrt(1 - own)
    top, bottom = _interval(numbers[:, 2], side, height)
    left, right = _interval(numbers[:, 3], side, width)
    rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    in_rows = tf.logical_and(rows >= top[:, tf.newaxis], rows < bottom[:, tf.newaxis])
    in_columns = tf.logical_and(columns >= left[:, tf.newaxis], columns < right[:, tf.newaxis])
    pasted = tf.logical_and(in_rows[:, :, tf.newaxis], in_columns[:, tf.newaxis, :])
    # The label follows what is seen, not what was drawn before rounding and clipping.
    share = 1 - (bottom - top) * (right - left) / np.float32(height * width)
    return tf.where(pasted, 0.0, 1.0)[..., tf.newaxis], share


def _interval(number: Tensor, side: Tensor, length: int) -> tuple[Tensor, Tensor]:
    extent = tf.floor(side * np.float32(length))
    first = tf.floor(number * np.float32(length)) - tf.floor(extent * 0.5)
    return tf.maximum(first, 0.0), tf.minimum(first + extent, np.float32(length))


def _partners(batch: Tensor) -> Tensor:
    """Swap rows 2 i and 2 i + 1 of [B, ...]."""
    pairs = tf.reshape(batch, [batch.shape[0] // 2, 2, *batch.shape[1:]])
    return tf.reshape(tf.stack([pairs[:, 1], pairs[:, 0]], axis=1), batch.shape)


def beta(numbers: Tensor, alpha: float) -> Tensor:
    """Map uniform numbers in [0, 1) to Beta(alpha, alpha): float32 of the same shape.

    By inversion, with a table: gamma samplers, the usual way, loop until they accept and have no
    XLA kernel. The table is exact at 1,025 points of the distribution function, linear in between.
    """
    if alpha == 1:
        return numbers
    table = _quantiles(float(alpha))
    at = numbers * np.float32(_QUANTILES)
    cell = tf.cast(at, tf.int64)
    low, high = tf.gather(table, cell), tf.gather(table, cell + 1)
    return low + (at - tf.cast(cell, tf.float32)) * (high - low)


@lru_cache(maxsize=16)
def _quantiles(alpha: float) -> np.ndarray:
    """The values below which 0, 1/1024, ... 1 of Beta(alpha, alpha) lie: float32 [1025]."""
    # Integrate x^(a-1) (1-x)^(a-1) over the lower half; with r = x^a the pole at 0 is gone.
    r = np.linspace(0, 0.5**alpha, 100_001)
    x = r ** (1 / alpha)
    density = (1 - x) ** (alpha - 1)
    mass = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    lower = np.interp(np.linspace(0, 0.5, _QUANTILES // 2 + 1), mass / mass[-1] / 2, r)
    lower = lower ** (1 / alpha)
    return np.concatenate([lower, 1 - lower[-2::-1]]).astype(np.float32)
