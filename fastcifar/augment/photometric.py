"""Random colour operations, a pure function of (images, seed, positions).

Every image draws its own amount, uniformly from the operation's range, and whether it applies. The
arithmetic is in `fastcifar.augment.colour`; erasing, which covers pixels and leaves colours alone,
in `fastcifar.augment.erasing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.augment import colour
from fastcifar.augment import operations as op
from fastcifar.augment.checks import check_images, check_keys, check_operations
from fastcifar.augment.randomness import between, draw
from fastcifar.augment.randomness import normal as normal_numbers

Tensor = Any  # tf.Tensor; TensorFlow ships no types
Normal = Callable[[tuple[int, int, int]], Tensor]


@tf.autograph.experimental.do_not_convert  # AutoGraph does not know `match`
def adjust(operation: op.Photometric, images: Tensor, numbers: Tensor, normal: Normal) -> Tensor:
    """Apply one operation with its parameters drawn from `numbers`.

    Args:
        operation: a `Photometric` operation.
        images: float32 [B, h, w, 3], 0..255.
        numbers: float32 [B, 2], uniform in [0, 1): whether it applies, and how strongly.
        normal: gives float32 [B, *shape] standard normal numbers (GaussianNoise only).

    Returns:
        float32 [B, h, w, 3], 0..255.
    """
    amount = numbers[:, 1]
    match operation:
        case op.Brightness(factor):
            result = colour.brightness(images, between(amount, factor))
        case op.Contrast(factor):
            result = colour.contrast(images, between(amount, factor))
        case op.Saturation(factor):
            result = colour.saturation(images, between(amount, factor))
        case op.Sharpness(factor):
            result = colour.sharpness(images, between(amount, factor))
        case op.Hue(turns):
            result = colour.hue(images, between(amount, turns))
        case op.Greyscale():
            result = colour.greyscale(images)
        case op.Invert():
            result = colour.invert(images)
        case op.Equalise():
            result = colour.equalise(images)
        case op.Autocontrast():
            result = colour.autocontrast(images)
        case op.Posterise((low, high)):
            result = colour.posterise(images, tf.floor(between(amount, (low, high + 1))))
        case op.Solarise(threshold):
            result = colour.solarise(images, between(amount, threshold))
        case op.GaussianNoise(sigma):
            noise = normal(tuple(images.shape[1:]))
            strength = between(amount, sigma)[:, tf.newaxis, tf.newaxis, tf.newaxis]
            result = tf.clip_by_value(images + strength * noise, 0.0, 255.0)
        case _:
            raise TypeError(f"not a photometric operation: {operation!r}")
    if operation.probability == 1:
        return result
    applies = numbers[:, 0] < np.float32(operation.probability)
    return tf.where(applies[:, tf.newaxis, tf.newaxis, tf.newaxis], result, images)


def recolour(
    images: Tensor,
    seed: Tensor,
    positions: Tensor,
    operations: Sequence[op.Photometric],
    *,
    stream: int = 0,
) -> Tensor:
    """Apply colour operations in order, each image with its own draws.

    Args:
        images: uint8 or floating [B, h, w, 3], 0..255.
        seed: integers [2]: (run seed, epoch).
        positions: integers [B]: global position of each image within the epoch.
        operations: `Photometric` operations of `fastcifar.augment.operations`.
        stream: gives independent numbers for the same seed and positions; noise takes the
            len(operations) streams after it too.

    Returns:
        [B, h, w, 3], 0..255, in the dtype of floating images, else float32. Computed in float32.

    Raises:
        ConfigError: if an argument is not as above.
    """
    images = check_images(images)
    seed, positions = check_keys(images, seed, positions)
    check_operations(operations, op.Photometric)
    dtype = images.dtype if images.dtype.is_floating else tf.float32
    images = tf.cast(images, tf.float32)
    drawn = draw(operations, seed, positions, stream=stream)
    for index, (operation, numbers) in enumerate(drawn):
        normal = partial(normal_numbers, seed, positions, stream=stream + 1 + index)
        images = adjust(operation, images, numbers, normal)
    return tf.cast(images, dtype)
