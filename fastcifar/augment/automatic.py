"""TrivialAugment and RandAugment without evaluating every operation for every image.

Both draw one of 14 operations for each image, uniformly: eight change colours, six (the identity
among them) are affine maps. The affine ones cost nothing of their own: their parameters go into the
one resampling of the policy. The colour ones differ too much for one formula, and a switch for each
image or block would run one small kernel after another. So slot k of every eight neighbouring
positions is a candidate for colour operation k only, with probability 8/14, and otherwise takes one
of the six others: each operation is computed for an eighth of the batch, in tensors of static
shape, and each is drawn with probability 1/8 * 8/14 = 6/14 * 1/6 = 1/14, because the image that
stands at a position is random.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.augment import colour
from fastcifar.augment import operations as op
from fastcifar.augment.transforms import Transform, compose_all

Tensor = Any  # tf.Tensor; TensorFlow ships no types

# Column 0 picks, column 1 is the strength (TrivialAugment), column 2 the sign.
_COLUMNS = op.Automatic.columns_per_layer
_COLOURS = op.Automatic.group_size
_GEOMETRIC = 6
_OPERATIONS = _COLOURS + _GEOMETRIC


def apply(
    operation: op.TrivialAugment | op.RandAugment, images: Tensor, numbers: Tensor
) -> tuple[Tensor, Transform]:
    """Draw operations; do the colour ones and return the affine ones as a map.

    Args:
        operation: `TrivialAugment` or `RandAugment`.
        images: float32 [B, h, w, 3], 0..255; B static and a multiple of `operation.group_size`.
        numbers: float32 [B, operation.columns], uniform in [0, 1).

    Returns:
        The images recoloured, in the same shape and dtype, and the map canvas to source.
    """
    maps = []
    for layer in range(operation.layers):
        pick, strength, sign = tf.unstack(
            numbers[:, layer * _COLUMNS : (layer + 1) * _COLUMNS], num=_COLUMNS, axis=1
        )
        if operation.strength is not None:
            strength = tf.fill(tf.shape(strength), np.float32(operation.strength))
        sign = tf.where(sign < 0.5, -1.0, 1.0)
        pick = tf.floor(pick * np.float32(_OPERATIONS))
        # Another operation in each layer, or an image could never be, say, equalised and darkened.
        first = 3 * layer
        images = _recolour(operation, images, pick < _COLOURS, strength, sign, first)
        maps.append(_map(operation, images.shape[1:3], pick - _COLOURS, strength, sign))
    return images, compose_all(maps)


def _recolour(
    operation: op.Automatic,
    images: Tensor,
    applies: Tensor,
    strength: Tensor,
    sign: Tensor,
    first: int,
) -> Tensor:
    batch, height, width, channels = images.shape
    slots = tf.unstack(
        tf.reshape(images, [batch // _COLOURS, _COLOURS, height, width, channels]), axis=1
    )
    applies, strength, sign = (
        tf.reshape(v, [batch // _COLOURS, _COLOURS]) for v in (applies, strength, sign)
    )
    factor = 1 + strength * sign * np.float32(operation.blend)
    # Pillow's scale: 255 is (almost) the identity, 0 inverts everything. 256 is the identity.
    threshold = 256 - strength * 256
    bits = 8 - tf.round(strength * np.float32(operation.lost_bits))
    changes: tuple[Callable[[Tensor, int], Tensor], ...] = (
        lambda x, k: colour.brightness(x, factor[:, k]),
        lambda x, k: colour.contrast(x, factor[:, k]),
        lambda x, k: colour.saturation(x, factor[:, k]),
        lambda x, k: colour.sharpness(x, factor[:, k]),
        lambda x, k: colour.posterise(x, bits[:, k]),
        lambda x, k: colour.solarise(x, threshold[:, k]),
        lambda x, k: colour.autocontrast(x),
        lambda x, k: colour.equalise(x),
    )
    done = []
    for k, slot in enumerate(slots):
        changed = changes[(k + first) % _COLOURS](slot, k)
        applied = applies[:, k, tf.newaxis, tf.newaxis, tf.newaxis]
        done.append(tf.where(applied, changed, slot))
    return tf.reshape(tf.stack(done, axis=1), images.shape)


def _map(
    operation: op.TrivialAugment | op.RandAugment,
    size: tuple[int, int],
    pick: Tensor,
    strength: Tensor,
    sign: Tensor,
) -> Transform:
    """The map of the affine operation that was picked (1 ... 5); the identity for other picks."""
    height, width = size
    amount = strength * sign

    def chosen(index: int, largest: float) -> Tensor:
        return tf.where(tf.equal(pick, float(index)), amount * np.float32(largest), 0.0)

    angle = chosen(5, operation.degrees * math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    slide_y, slide_x = chosen(1, operation.shear), chosen(2, operation.shear)
    # A map is about the centre; that a shear leaves the upper or left edge alone is a shift.
    return Transform(
        cos,
        cos,
        y0=chosen(3, operation.farthest(height)) + slide_y * np.float32(width / 2),
        x0=chosen(4, operation.farthest(width)) + slide_x * np.float32(height / 2),
        yx=sin + slide_y,
        xy=slide_x - sin,
    )
