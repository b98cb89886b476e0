"""Resampling rows and columns one after the other, as products with interpolation matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.augment.transforms import Transform, canvas_coordinates, window

Tensor = Any  # tf.Tensor; TensorFlow ships no types


def resize_matrix(target: int, source: int) -> np.ndarray:
    """The [target, source] matrix of `tf.image.resize(..., "bilinear", antialias=True)`."""
    ratio = source / target
    at = (np.arange(target)[:, None] + 0.5) * ratio - 0.5
    weights = np.maximum(0, 1 - np.abs(at - np.arange(source)) / max(ratio, 1))
    # Weights outside the image are lost; scaling up the rest is what clamps at the edge.
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def apply(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """down [B, H, h] . images [B, h, w, C] . across^T [B, w, W], in the matrices' dtype."""
    _, height, width, channels = images.shape
    rows, columns = down.shape[-2], across.shape[-2]
    # Across first: it works on the small image, and the second product leaves the wanted layout.
    x = tf.reshape(
        tf.transpose(tf.cast(images, across.dtype), [0, 2, 1, 3]), [-1, width, height * channels]
    )
    x = tf.reshape(tf.matmul(across, x), [-1, columns, height, channels])
    x = tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [-1, height, columns * channels])
    return tf.reshape(tf.matmul(down, x), [-1, rows, columns, channels])


def follow(
    images: Tensor,
    transform: Transform,
    image_size: tuple[int, int],
    *,
    border: str,
    method: str,
    dtype: Any,
) -> Tensor:
    """Follow a separable map and resize, antialiased where an image shrinks.

    Arguments and result as of `fastcifar.augment.resampling.resample`.
    """
    height, width = images.shape[1:3]
    rows, columns = transform.reach
    down = _matrices(transform.yy, transform.y0, image_size[0], height, border, method, rows)
    across = _matrices(transform.xx, transform.x0, image_size[1], width, border, method, columns)
    return apply(images, tf.cast(down, dtype), tf.cast(across, dtype))


def _matrices(
    scale: Tensor, offset: Tensor, target: int, source: int, border: str, method: str, reach: int
) -> Tensor:
    """Interpolation matrices float32 [B, target, source] of one axis."""
    taps = np.arange(-reach, source + reach, dtype=np.float32)
    scale, offset = scale[:, tf.newaxis], offset[:, tf.newaxis] + np.float32((source - 1) / 2)
    at = scale * canvas_coordinates(target, source, method) + offset
    if method == "nearest":
        at = tf.floor(at + 0.5)
        weights = tf.cast(tf.equal(at[:, :, tf.newaxis], taps), tf.float32)
    else:
        stretch = tf.maximum(tf.abs(scale) * np.float32(source / target), 1.0)[:, :, tf.newaxis]
        weights = tf.maximum(0.0, 1 - tf.abs(at[:, :, tf.newaxis] - taps) / stretch)
        low, high = window(scale, offset, source)
        inside = tf.logical_and(taps >= low, taps <= high)  # [B, taps]
        weights = tf.where(inside[:, tf.newaxis], weights, 0.0)
        weights = tf.math.divide_no_nan(weights, tf.reduce_sum(weights, axis=2, keepdims=True))
    if reach == 0:
        return weights
    if border == "zero":
        return weights[:, :, reach : reach + source]
    fold = np.eye(source, dtype=np.float32)[_fold(taps.astype(int), source, border)]
    return tf.matmul(weights, fold)


def _fold(index: Any, source: int, border: str) -> Any:
    """Bring indices from outside back inside [0, source), for NumPy arrays."""
    if border == "edge" or source == 1:
        return np.clip(index, 0, source - 1)
    index = np.mod(index, 2 * (source - 1))
    return np.minimum(index, 2 * (source - 1) - index)
