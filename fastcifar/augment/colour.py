"""The arithmetic of colour operations, with the amount of each image given.

Everywhere: `images` float32 [B, h, w, 3], RGB, 0..255, and the same out; amounts float32 [B].
Definitions are those of Pillow's ImageEnhance and ImageOps, as torchvision and RandAugment use
them, without rounding to whole numbers in between. Every operation but `equalise` is plain
arithmetic that XLA fuses into one pass; a lookup table for each image would cost three passes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

Tensor = Any  # tf.Tensor; TensorFlow ships no types

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's "L"


def luma(images: Tensor) -> Tensor:
    """Return the brightness of each pixel: float32 [B, h, w, 1]."""
    return tf.reduce_sum(images * _LUMA, axis=3, keepdims=True)


def blend(degenerate: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """Return degenerate + factor * (images - degenerate), clipped: the core of ImageEnhance."""
    return _clip(degenerate + _each(factor) * (images - degenerate))


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply by `factor`: 0 is black, 1 the identity."""
    return _clip(images * _each(factor))


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch differences from the image's mean brightness: 0 is that grey, 1 the identity."""
    return blend(tf.reduce_mean(luma(images), axis=[1, 2], keepdims=True), images, factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch differences from each pixel's brightness: 0 is greyscale, 1 the identity."""
    return blend(luma(images), images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch differences from a smoothed copy: 0 is that copy, 1 the identity.

    The copy is smoothed by the kernel (1 1 1, 1 5 1, 1 1 1) / 13 except on its outermost pixels.
    """
    height, width = images.shape[1:3]
    if height < 3 or width < 3:
        return images
    # The kernel is a box, separable, plus four times the centre.
    rows = images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    box = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    centre = images[:, 1:-1, 1:-1]
    change = (_each(factor) - 1) * (centre - (box + 4 * centre) * np.float32(1 / 13))
    return _clip(images + tf.pad(change, [[0, 0], [1, 1], [1, 1], [0, 0]]))


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of each pixel, keeping the HSV saturation and value.

    With k = (n + 6 * hue) mod 6 and n = 5, 3, 1 for red, green, blue, a channel is
    value - chroma * clip(min(k, 4 - k), 0, 1) (https://en.wikipedia.org/wiki/HSL_and_HSV).
    """
    red, green, blue = tf.unstack(images, axis=3)
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    sixth = tf.math.divide_no_nan
    sextant = tf.where(
        tf.equal(value, red),
        sixth(green - blue, chroma),
        tf.where(
            tf.equal(value, green), 2 + sixth(blue - red, chroma), 4 + sixth(red - green, chroma)
        ),
    )
    sextant = (sextant + 6 * turns[:, tf.newaxis, tf.newaxis])[..., tf.newaxis]
    k = sextant + np.array([5, 3, 1], np.float32)
    k = k - 6 * tf.floor(k * np.float32(1 / 6))
    share = tf.clip_by_value(tf.minimum(k, 4 - k), 0.0, 1.0)
    return _clip(value[..., tf.newaxis] - chroma[..., tf.newaxis] * share)


def greyscale(images: Tensor) -> Tensor:
    """Replace each pixel by its brightness."""
    return tf.broadcast_to(luma(images), tf.shape(images))


def invert(images: Tensor) -> Tensor:
    """Replace v by 255 - v."""
    return 255 - images


def posterise(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest `bits` (whole numbers, 0..8) of each value's 8 bits."""
    step = _each(tf.pow(2.0, 8 - bits))
    # Dividing by a power of two is exact, so no value falls below its own step.
    return tf.where(step > 1, tf.floor(images / step) * step, images)


def solarise(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values at or above `threshold`; 256 is the identity."""
    return tf.where(images >= _each(threshold), 255 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel of each image to 0..255; a channel of one value stays."""
    low = tf.reduce_min(images, axis=[1, 2], keepdims=True)
    high = tf.reduce_max(images, axis=[1, 2], keepdims=True)
    flat = tf.equal(low, high)
    scale = 255 / tf.where(flat, tf.ones_like(high), high - low)
    return tf.where(flat, images, _clip((images - low) * scale))


def equalise(images: Tensor) -> Tensor:
    """Flatten the histogram of each channel of each image, as Pillow's ImageOps.equalize.

    Values are rounded first. The one operation that needs a histogram (a scatter) and a lookup
    table (a gather) for each image and channel.
    """
    _, height, width, channels = images.shape
    values = tf.cast(tf.round(images), tf.int64)
    # Counted in int32, which a GPU's host does: a number of segments in int64 would be fetched from
    # the device.
    tables = tf.shape(values)[0] * channels
    first = tf.cast(tf.range(tables), tf.int64) * 256
    index = tf.reshape(first, [-1, 1, 1, channels]) + values
    # Sums of ones are whole in float32 below 2**24, in whatever order a GPU adds them.
    histogram = tf.math.unsorted_segment_sum(
        tf.ones_like(tf.reshape(values, [-1]), tf.float32),
        tf.reshape(index, [-1]),
        tables * 256,
    )
    histogram = tf.reshape(histogram, [-1, 256])
    total = np.float32(height * width)
    below = tf.cumsum(histogram, axis=1, exclusive=True)
    # Pillow shares out all pixels but those of the largest value that occurs.
    largest = tf.reduce_max(tf.where(below < total, below, 0.0), axis=1, keepdims=True)
    step = tf.floor((largest + 0.5) * np.float32(1 / 255))
    # Half a count more than a whole quotient: floor is then safe from division's last bit.
    table = tf.floor((below + tf.floor(step * 0.5) + 0.5) / tf.maximum(step, 1.0))
    table = tf.where(step > 0, tf.minimum(table, 255.0), np.arange(256, dtype=np.float32))
    return tf.gather(tf.reshape(table, [-1]), index)


def _each(amounts: Tensor) -> Tensor:
    return amounts[:, tf.newaxis, tf.newaxis, tf.newaxis]


def _clip(images: Tensor) -> Tensor:
    return tf.clip_by_value(images, 0.0, 255.0)
