"""Resampling by looking pixels up, one index for each output pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.augment.transforms import Transform, canvas_coordinates, window

Tensor = Any  # tf.Tensor; TensorFlow ships no types


def move(images: Tensor, transform: Transform, *, border: str) -> Tensor:
    """Follow a map of whole pixels at equal size: exact, in the images' own dtype and shape."""
    height, width, channels = images.shape[1:]
    reach = transform.reach
    if border == "zero":
        images = tf.pad(images, [[0, 0], [reach[0]] * 2, [reach[1]] * 2, [0, 0]])
        padded = (height + 2 * reach[0], width + 2 * reach[1])
    else:
        padded = (height, width)
    axes = []
    for scale, offset, size, margin in (
        (transform.yy, transform.y0, height, reach[0]),
        (transform.xx, transform.x0, width, reach[1]),
    ):
        middle = (size - 1) / 2
        canvas = (np.arange(size) - middle).astype(np.float32)
        at = scale[:, tf.newaxis] * canvas + (offset[:, tf.newaxis] + np.float32(middle))
        at = at + np.float32(margin) if border == "zero" else _fold(at, size, border)
        axes.append(tf.cast(at, tf.int64))
    return _lookup(images, _flat_index(axes[0], axes[1], padded), channels)


def follow(
    images: Tensor,
    transform: Transform,
    image_size: tuple[int, int],
    *,
    border: str,
    method: str,
    dtype: Any,
) -> Tensor:
    """Follow any affine map onto an output that is no smaller than the source.

    Arguments and result as of `fastcifar.augment.resampling.resample`.
    """
    height, width, channels = images.shape[1:]
    at_y, at_x = _source_coordinates(transform, (height, width), image_size, method)
    if border == "zero":
        # One black ring: whatever lies further out is as black as the ring.
        images = tf.pad(images, [[0, 0], [1, 2], [1, 2], [0, 0]])
        at_y = tf.clip_by_value(at_y, -1.0, float(height)) + 1.0
        at_x = tf.clip_by_value(at_x, -1.0, float(width)) + 1.0
        height, width = height + 3, width + 3
    else:
        images = tf.pad(images, [[0, 0], [0, 1], [0, 1], [0, 0]])
        at_y, at_x = _fold(at_y, height, border), _fold(at_x, width, border)
        height, width = height + 1, width + 1
    if method == "nearest":
        rows, columns = (tf.cast(tf.floor(v + 0.5), tf.int64) for v in (at_y, at_x))
        return tf.cast(
            _lookup(images, _flat_index(rows, columns, (height, width)), channels), dtype
        )
    floor_y, floor_x = tf.floor(at_y), tf.floor(at_x)
    above = tf.concat([images[:, :-1, :-1], images[:, :-1, 1:]], axis=3)
    below = tf.concat([images[:, 1:, :-1], images[:, 1:, 1:]], axis=3)
    index = _flat_index(
        tf.cast(floor_y, tf.int64), tf.cast(floor_x, tf.int64), (height - 1, width - 1)
    )
    taps = _lookup(tf.concat([above, below], axis=3), index, 4 * channels)
    # One plane for each tap and channel: slices of the last axis would leave a CPU to do arithmetic
    # in strides of 12 numbers, at two thirds of the speed.
    planes = [tf.cast(plane, tf.float32) for plane in tf.unstack(taps, axis=-1)]
    share_y, share_x = at_y - floor_y, at_x - floor_x
    blended = []
    for channel in range(channels):
        top_left, top_right, low_left, low_right = planes[channel::channels]
        top = top_left + share_x * (top_right - top_left)
        low = low_left + share_x * (low_right - low_left)
        blended.append(tf.cast(top + share_y * (low - top), dtype))
    return tf.stack(blended, axis=-1)


def _source_coordinates(
    transform: Transform, size: tuple[int, int], image_size: tuple[int, int], method: str
) -> tuple[Tensor, Tensor]:
    """Where each output pixel lies in the source: two float32, together [B, H, W]."""
    yy, xx, y0, x0 = (
        v[:, tf.newaxis, tf.newaxis]
        for v in (transform.yy, transform.xx, transform.y0, transform.x0)
    )
    y0, x0 = y0 + np.float32((size[0] - 1) / 2), x0 + np.float32((size[1] - 1) / 2)
    y = canvas_coordinates(image_size[0], size[0], method)[np.newaxis, :, np.newaxis]
    x = canvas_coordinates(image_size[1], size[1], method)[np.newaxis, np.newaxis, :]
    if transform.yx is None or transform.xy is None:
        shape = [tf.shape(yy)[0], *image_size]
        at_y = tf.clip_by_value(yy * y + y0, *window(yy, y0, size[0]))
        at_x = tf.clip_by_value(xx * x + x0, *window(xx, x0, size[1]))
        return tf.broadcast_to(at_y, shape), tf.broadcast_to(at_x, shape)
    yx, xy = transform.yx[:, tf.newaxis, tf.newaxis], transform.xy[:, tf.newaxis, tf.newaxis]
    # A window that is turned has no first row to stop at: stop at the canvas' own.
    y = np.clip(y, -(size[0] - 1) / 2, (size[0] - 1) / 2)
    x = np.clip(x, -(size[1] - 1) / 2, (size[1] - 1) / 2)
    return yy * y + yx * x + y0, xx * x + xy * y + x0


def _fold(at: Tensor, size: int, border: str) -> Tensor:
    """Bring coordinates from outside back inside [0, size - 1]."""
    last = np.float32(size - 1)
    if border == "edge" or size == 1:
        return tf.clip_by_value(at, 0.0, last)
    at = tf.abs(at)
    at = at - 2 * last * tf.floor(at / (2 * last))
    return tf.minimum(at, 2 * last - at)


def _flat_index(rows: Tensor, columns: Tensor, size: tuple[int, int]) -> Tensor:
    """Index into [B * h * w] of pixel (row, column) of each image: int64 [B, H, W].

    int64, because int32 arithmetic has no GPU kernels outside XLA. `rows` and `columns` are
    [B, H] and [B, W], or both [B, H, W].
    """
    height, width = size
    if rows.shape.rank == 2:
        rows, columns = rows[:, :, tf.newaxis], columns[:, tf.newaxis, :]
    first = tf.cast(tf.range(tf.shape(rows)[0]), tf.int64)[:, tf.newaxis, tf.newaxis]
    return (first * height + rows) * width + columns


def _lookup(images: Tensor, index: Tensor, channels: int) -> Tensor:
    if images.dtype == tf.uint8 and tf.config.list_physical_devices("GPU"):
        images = tf.cast(images, tf.float32)  # no uint8 gather there outside XLA
    return tf.gather(tf.reshape(images, [-1, channels]), index)
