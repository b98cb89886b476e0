"""Test-time augmentation: evaluate an image in several views and average what the model says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from fastcifar.augment.checks import check_choice, check_images

Tensor = Any  # tf.Tensor; TensorFlow ships no types


@dataclass(frozen=True)
class View:
    """One way to look at an image: shifted down and right by -1, 0 or 1 pixels, then mirrored.

    The order matters: a mirrored image that is then shifted right is the mirror image of one that
    was shifted left.
    """

    weight: float
    mirrored: bool = False
    down: int = 0
    right: int = 0


# Weights sum to 1. "flip-shift" is the six views of Jordan, "94% on CIFAR-10 in 3.29 seconds"
# (2024), as in the code of airbench94 (`infer_mirror_translate`): half the weight on the image in
# place, a quarter on each of two shifts, up and left or down and right; each also mirrored after
# the shift.
VIEWS: dict[str, tuple[View, ...]] = {
    "none": (View(1.0),),
    "flip": (View(0.5), View(0.5, mirrored=True)),
    "flip-shift": tuple(
        View(weight, mirrored, shift, shift)
        for shift, weight in ((0, 0.25), (-1, 0.125), (1, 0.125))
        for mirrored in (False, True)
    ),
}


def look(images: Tensor, view: View) -> Tensor:
    """Return the images in one view, exactly: a shifted border mirrors the pixels inside.

    Args:
        images: uint8 or floating [B, h, w, 3], sides of at least 2.
        view: which.

    Returns:
        The same shape and dtype.

    Raises:
        ConfigError: if the images are not as above.
    """
    images = check_images(images)
    if view.down:
        images = _shift(images, view.down)
    if view.right:
        images = tf.transpose(_shift(tf.transpose(images, [0, 2, 1, 3]), view.right), [0, 2, 1, 3])
    if view.mirrored:
        images = tf.reverse(images, axis=[2])
    return images


def average(predict: Callable[[Tensor], Tensor], images: Tensor, views: str) -> Tensor:
    """Return the weighted mean of `predict` over the views of `images`.

    Args:
        predict: maps images [B, h, w, 3] to outputs [B, ...] (logits or probabilities), resizing
            and normalising included: shifts are by source pixels.
        images: uint8 or floating [B, h, w, 3].
        views: "none", "flip" (2 views) or "flip-shift" (6 views).

    Returns:
        What `predict` returns.

    Raises:
        ConfigError: if `views` is unknown or the images are not as above.
    """
    check_choice("test-time augmentation", views, VIEWS)
    outputs = [predict(look(images, view)) * view.weight for view in VIEWS[views]]
    return tf.add_n(outputs)


def _shift(images: Tensor, rows: int) -> Tensor:
    if rows > 0:
        return tf.concat([images[:, 1:2], images[:, :-1]], axis=1)
    return tf.concat([images[:, 1:], images[:, -2:-1]], axis=1)
