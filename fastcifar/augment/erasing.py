"""Cutout and random erasing: cover a rectangle of each image with one colour.

The rectangle is drawn on the canvas, what the viewer will see, and cut from the source at the place
that the resampling brings there: covering 32 x 32 uint8 pixels costs nothing beside covering
224 x 224 resampled ones. What lies beyond the source stays border: a square that hangs over the
black margin of a shifted picture covers the picture only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.augment import operations as op
from fastcifar.augment.checks import check_images, check_keys, check_operations
from fastcifar.augment.randomness import between, draw
from fastcifar.augment.transforms import Transform

Tensor = Any  # tf.Tensor; TensorFlow ships no types
Rectangle = tuple[Tensor, Tensor, Tensor, Tensor]


def rectangle(operation: op.Erasing, numbers: Tensor, size: tuple[int, int]) -> Rectangle:
    """Draw (top, bottom, left, right) for each image, in whole pixels of the canvas.

    Args:
        operation: what to draw.
        numbers: float32 [B, operation.columns], uniform in [0, 1).
        size: (height, width) of the canvas.

    Returns:
        Four float32 [B]; pixels with top <= row < bottom and left <= column < right are covered.
        Nothing is covered where the operation does not apply.
    """
    height, width = size
    column = tf.unstack(numbers, num=operation.columns, axis=1)
    applies = tf.cast(column[0] < operation.probability, tf.float32)
    if isinstance(operation, op.Cutout):
        side = float(round(operation.side * min(size)))
        tall, wide = applies * side, applies * side
        # The centre is any pixel, so that the square may hang over the border.
        top = tf.floor(column[1] * np.float32(height)) - np.float32(side // 2)
        left = tf.floor(column[2] * np.float32(width)) - np.float32(side // 2)
        return top, top + tall, left, left + wide
    if not isinstance(operation, op.RandomErasing):
        raise TypeError(f"not an erasing operation: {operation!r}")
    pixels = between(column[1], operation.area) * np.float32(height * width)
    low, high = operation.aspect
    aspect = tf.exp(between(column[2], (float(np.log(low)), float(np.log(high)))))
    tall = tf.minimum(tf.round(tf.sqrt(pixels / aspect)), float(height))
    wide = tf.minimum(tf.round(tf.sqrt(pixels * aspect)), float(width))
    top = tf.floor(column[3] * (np.float32(height + 1) - tall))
    left = tf.floor(column[4] * (np.float32(width + 1) - wide))
    return top, top + applies * tall, left, left + applies * wide


def cover(
    images: Tensor,
    covered: Rectangle,
    fill: tuple[float, float, float],
    transform: Transform | None = None,
) -> Tensor:
    """Fill a rectangle of the canvas, as it lies in the source.

    Args:
        images: uint8 or floating [B, h, w, 3].
        covered: (top, bottom, left, right) from `rectangle`, each float32 [B].
        fill: three values in the images' range.
        transform: the map canvas to source; None where they are the same.

    Returns:
        The same shape and dtype.
    """
    height, width = images.shape[1:3]
    rows = (np.arange(height, dtype=np.float32) - (height - 1) / 2)[np.newaxis, :]
    columns = (np.arange(width, dtype=np.float32) - (width - 1) / 2)[np.newaxis, :]
    top, bottom, left, right = (v[:, tf.newaxis] for v in covered)
    if transform is not None:
        back = transform.inverse()
        if back.yx is not None and back.xy is not None:
            yx, xy = back.yx[:, tf.newaxis, tf.newaxis], back.xy[:, tf.newaxis, tf.newaxis]
            tilt_y, tilt_x = yx * columns[:, np.newaxis, :], xy * rows[:, :, np.newaxis]
            top, bottom, left, right = (v[:, :, tf.newaxis] for v in (top, bottom, left, right))
        rows = back.yy[:, tf.newaxis] * rows + back.y0[:, tf.newaxis]
        columns = back.xx[:, tf.newaxis] * columns + back.x0[:, tf.newaxis]
        if back.yx is not None:
            rows = rows[:, :, tf.newaxis] + tilt_y
            columns = columns[:, tf.newaxis, :] + tilt_x
    # Pixel i covers [i - 1/2, i + 1/2): round, or an edge would hang on the last float bit.
    rows = tf.floor(rows + np.float32((height - 1) / 2 + 0.5))
    columns = tf.floor(columns + np.float32((width - 1) / 2 + 0.5))
    in_rows = tf.logical_and(rows >= top, rows < bottom)
    in_columns = tf.logical_and(columns >= left, columns < right)
    if in_rows.shape.rank == 2:
        in_rows, in_columns = in_rows[:, :, tf.newaxis], in_columns[:, tf.newaxis, :]
    mask = tf.logical_and(in_rows, in_columns)[..., tf.newaxis]
    return tf.where(mask, tf.cast(tf.constant(fill, tf.float32), images.dtype), images)


def erase(
    images: Tensor,
    seed: Tensor,
    positions: Tensor,
    operations: Sequence[op.Erasing],
    *,
    stream: int = 0,
) -> Tensor:
    """Cover the rectangles of `Cutout` and `RandomErasing` operations.

    Args:
        images: uint8 or floating [B, h, w, 3], 0..255.
        seed: integers [2]: (run seed, epoch).
        positions: integers [B]: global position of each image within the epoch.
        operations: of `fastcifar.augment.operations`.
        stream: gives independent numbers for the same seed and positions.

    Returns:
        The same shape and dtype.

    Raises:
        ConfigError: if an argument is not as above.
    """
    images = check_images(images)
    seed, positions = check_keys(images, seed, positions)
    check_operations(operations, op.Erasing)
    for operation, numbers in draw(operations, seed, positions, stream=stream):
        covered = rectangle(operation, numbers, images.shape[1:3])
        images = cover(images, covered, operation.fill)
    return images
