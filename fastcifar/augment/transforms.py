"""Per-image affine maps: what geometric operations become before anything is resampled.

An operation is a map from a *canvas* of the source's size to the source: for every canvas pixel,
where in the source its colour comes from. Maps of several operations compose into one map, and
`fastcifar.augment.resampling` follows it once. Coordinates are in source pixels, centred on the
image, so that a rotation stays a rotation when the image is not square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.augment import operations as op
from fastcifar.augment.randomness import between, uniform

Tensor = Any  # tf.Tensor; TensorFlow ships no types
# The stream of numbers that belong to an image and not to its position; no operation has so many.
_OF_INDICES = 2**31 - 1


@dataclass(frozen=True)
class Transform:
    """source_y = yy * y + yx * x + y0 and source_x = xy * y + xx * x + x0, for each image.

    Attributes:
        yy, xx, y0, x0: float32 [B].
        yx, xy: float32 [B], or None where the map keeps rows rows and columns columns.
        whole: whether every image only flips and shifts by whole pixels.
        excess: how many source pixels (rows, columns) beyond the border a separable map can reach.
        magnification: the largest |yy| or |xx| that can occur; above 1 the picture shrinks.
    """

    yy: Tensor
    xx: Tensor
    y0: Tensor
    x0: Tensor
    yx: Tensor | None = None
    xy: Tensor | None = None
    whole: bool = False
    excess: tuple[float, float] = (0.0, 0.0)
    magnification: float = 1.0

    @property
    def separable(self) -> bool:
        """Whether rows and columns can be resampled one after the other."""
        return self.yx is None

    @property
    def reach(self) -> tuple[int, int]:
        """`excess` in whole pixels."""
        return math.ceil(self.excess[0]), math.ceil(self.excess[1])

    def on_resized(self, down: float, across: float) -> Transform:
        """The same map for a source whose sides are `down` and `across` times as long."""
        return Transform(
            self.yy,
            self.xx,
            self.y0 * np.float32(down),
            self.x0 * np.float32(across),
            None if self.yx is None else self.yx * np.float32(down / across),
            None if self.xy is None else self.xy * np.float32(across / down),
        )

    def inverse(self) -> Transform:
        """The map from the source to the canvas."""
        if self.yx is None or self.xy is None:
            return Transform(1 / self.yy, 1 / self.xx, -self.y0 / self.yy, -self.x0 / self.xx)
        scale = 1 / (self.yy * self.xx - self.yx * self.xy)
        yy, xx, yx, xy = self.xx * scale, self.yy * scale, -self.yx * scale, -self.xy * scale
        return Transform(
            yy, xx, -(yy * self.y0 + yx * self.x0), -(xy * self.y0 + xx * self.x0), yx, xy
        )


def compose(first: Transform, second: Transform) -> Transform:
    """The map of doing `first` to the picture and then `second`."""
    grown = max(1.0, first.magnification)
    excess = (
        first.excess[0] + grown * second.excess[0],
        first.excess[1] + grown * second.excess[1],
    )
    bounds: dict[str, Any] = {
        "whole": first.whole and second.whole,
        "excess": excess,
        "magnification": first.magnification * second.magnification,
    }
    if first.yx is None and second.yx is None:
        return Transform(
            first.yy * second.yy,
            first.xx * second.xx,
            first.yy * second.y0 + first.y0,
            first.xx * second.x0 + first.x0,
            **bounds,
        )
    fyx, fxy = _zero_if_none(first)
    syx, sxy = _zero_if_none(second)
    return Transform(
        yy=first.yy * second.yy + fyx * sxy,
        xx=fxy * syx + first.xx * second.xx,
        y0=first.yy * second.y0 + fyx * second.x0 + first.y0,
        x0=fxy * second.y0 + first.xx * second.x0 + first.x0,
        yx=first.yy * syx + fyx * second.xx,
        xy=fxy * second.yy + first.xx * sxy,
        **bounds,
    )


def _zero_if_none(transform: Transform) -> tuple[Tensor, Tensor]:
    zero = tf.zeros_like(transform.yy)
    return (
        zero if transform.yx is None else transform.yx,
        zero if transform.xy is None else transform.xy,
    )


@tf.autograph.experimental.do_not_convert  # AutoGraph does not know `match`
def transform(
    operation: op.Geometric,
    numbers: Tensor,
    *,
    images: Tensor,
    seed: Tensor,
    indices: Tensor | None = None,
) -> Transform:
    """Draw the map of one operation for each image.

    Args:
        operation: a `Geometric` operation.
        numbers: float32 [B, operation.columns], uniform in [0, 1).
        images: [B, h, w, 3], for their size.
        seed: int64 [2], (run seed, epoch); of `AlternatingFlip` only, as are
        indices: int64 [B], the place of each image in its split.

    Returns:
        The map, canvas to source.
    """
    height, width = images.shape[1:3]
    one = tf.ones_like(tf.cast(images[:, 0, 0, 0], tf.float32))
    zero = tf.zeros_like(one)
    column = tf.unstack(numbers, num=operation.columns, axis=1) if operation.columns else []
    match operation:
        case op.Flip(axis, probability):
            sign = tf.where(column[0] < probability, -one, one)
            down, across = (sign, one) if axis == "vertical" else (one, sign)
            return Transform(down, across, zero, zero, whole=True)
        case op.AlternatingFlip():
            sign = tf.where(_mirrored(seed, indices), -one, one)
            return Transform(one, sign, zero, zero, whole=True)
        case op.PadCrop(padding):
            choices = 2 * padding + 1
            dy, dx = (tf.floor(c * np.float32(choices)) - np.float32(padding) for c in column)
            return Transform(one, one, dy, dx, whole=True, excess=(padding, padding))
        case op.RandomResizedCrop(area, aspect):
            return _crop(numbers, operation.tries, (height, width), area, aspect)
        case op.Translate(down_range, right_range):
            y0 = between(column[0], down_range) * np.float32(-height)
            x0 = between(column[1], right_range) * np.float32(-width)
            farthest = (height * _largest(down_range), width * _largest(right_range))
            return Transform(one, one, y0, x0, excess=farthest)
        case op.Zoom(factor):
            scale = 1 / between(column[0], factor)
            largest = 1 / factor[0]
            beyond = max(0.0, largest - 1) / 2
            excess = (beyond * height, beyond * width)
            return Transform(scale, scale, zero, zero, excess=excess, magnification=largest)
        case op.Rotate(degrees):
            angle = between(column[0], degrees) * np.float32(math.pi / 180)
            cos, sin = tf.cos(angle), tf.sin(angle)
            # y points down, so this is counter-clockwise to the eye.
            return Transform(cos, cos, zero, zero, yx=sin, xy=-sin)
        case op.Shear(x, y):
            return Transform(one, one, zero, zero, between(column[1], y), between(column[0], x))
    raise TypeError(f"not a geometric operation: {operation!r}")


def _crop(
    numbers: Tensor,
    tries: int,
    size: tuple[int, int],
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Transform:
    """The map of a crop as torchvision's `RandomResizedCrop` draws it."""
    height, width = size
    pixels = between(numbers[:, :tries], area) * np.float32(height * width)
    ratio = tf.exp(between(numbers[:, tries : 2 * tries], _log(aspect)))
    tall, wide = tf.round(tf.sqrt(pixels / ratio)), tf.round(tf.sqrt(pixels * ratio))
    fits = (tall > 0) & (tall <= np.float32(height)) & (wide > 0) & (wide <= np.float32(width))
    # Where none fits: the whole image, or all of one side and as much of the other as is allowed.
    whole = width / height
    last_tall = round(width / aspect[0]) if whole < aspect[0] else height
    last_wide = round(height * aspect[1]) if whole > aspect[1] else width
    down, right = numbers[:, 2 * tries], numbers[:, 2 * tries + 1]
    h, w = tf.fill(tf.shape(down), float(last_tall)), tf.fill(tf.shape(down), float(last_wide))
    top = tf.fill(tf.shape(down), float((height - last_tall) // 2))
    left = tf.fill(tf.shape(down), float((width - last_wide) // 2))
    for attempt in reversed(range(tries)):  # the first that fits is the last to be taken
        taken, t, v = fits[:, attempt], tall[:, attempt], wide[:, attempt]
        h, w = tf.where(taken, t, h), tf.where(taken, v, w)
    found = tf.reduce_any(fits, axis=1)
    top = tf.where(found, tf.floor(down * (np.float32(height + 1) - h)), top)
    left = tf.where(found, tf.floor(right * (np.float32(width + 1) - w)), left)
    return Transform(
        h / np.float32(height),
        w / np.float32(width),
        y0=top + (h - np.float32(height)) / 2,
        x0=left + (w - np.float32(width)) / 2,
    )


def identity(images: Tensor) -> Transform:
    """The map that changes nothing, for each of `images` [B, ...]."""
    one = tf.ones_like(tf.cast(images[:, 0, 0, 0], tf.float32))
    return Transform(one, one, tf.zeros_like(one), tf.zeros_like(one), whole=True)


def compose_all(transforms: list[Transform]) -> Transform:
    """The map of doing all `transforms` (at least one) in order."""
    return reduce(compose, transforms)


def canvas_coordinates(target: int, source: int, method: str) -> np.ndarray:
    """Where the pixels of a resized canvas lie along one axis, centred: float32 [target].

    Half-pixel centres, as `tf.image.resize`; for "nearest" the middle of the nearest pixel.
    """
    at = (np.arange(target) + 0.5) * (source / target)
    at = np.floor(at) if method == "nearest" else at - 0.5
    return (at - (source - 1) / 2).astype(np.float32)


def window(scale: Tensor, offset: Tensor, source: int) -> tuple[Tensor, Tensor]:
    """The first and last source pixel whose centre the canvas covers, along one axis.

    Interpolating between these only is what cropping first and resizing then would do.

    Args:
        scale: float32, any shape: source pixels per canvas pixel, negative where mirrored.
        offset: the same shape: where the middle of the canvas lies in the source, in pixels.
        source: the length of source and canvas.

    Returns:
        Two whole float32, shaped like `scale`; they may lie outside the source.
    """
    half = tf.abs(scale) * np.float32(source / 2)
    # A window edge that falls on a pixel centre up to rounding covers that pixel; a window
    # narrower than a pixel shows one.
    low = tf.math.ceil(offset - half - 1e-3)
    return low, tf.maximum(tf.floor(offset + half + 1e-3), low)


def _mirrored(seed: Tensor, indices: Tensor) -> Tensor:
    """Whether (hash(run seed, index) + epoch) is odd: bool [B]."""
    # Without the epoch: the hash is an image's own for the whole run.
    hashed = uniform(tf.stack([seed[0], 0]), indices, 1, stream=_OF_INDICES)[:, 0]
    odd_epoch = tf.equal(tf.bitwise.bitwise_and(seed[1], 1), 1)
    return tf.not_equal(hashed >= 0.5, odd_epoch)


def _log(bounds: tuple[float, float]) -> tuple[float, float]:
    return math.log(bounds[0]), math.log(bounds[1])


def _largest(bounds: tuple[float, float]) -> float:
    return max(abs(bounds[0]), abs(bounds[1]))
