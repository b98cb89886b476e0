"""Random geometry, a pure function of (images, seed, positions): one resampling for everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fastcifar.augment import operations as op
from fastcifar.augment import resampling, transforms
from fastcifar.augment.checks import (
    check_choice,
    check_image_size,
    check_images,
    check_indices,
    check_keys,
    check_operations,
)
from fastcifar.augment.randomness import draw
from fastcifar.errors import ConfigError

Tensor = Any  # tf.Tensor; TensorFlow ships no types


def warp(
    images: Tensor,
    seed: Tensor,
    positions: Tensor,
    operations: Sequence[op.Geometric],
    *,
    image_size: tuple[int, int] | None = None,
    border: str | None = None,
    method: str = "bilinear",
    form: str = "auto",
    dtype: Any = None,
    stream: int = 0,
    indices: Tensor | None = None,
) -> Tensor:
    """Apply geometric operations in order and resize, all in one resampling.

    Args:
        images: uint8 or floating [B, h, w, 3].
        seed: integers [2]: (run seed, epoch).
        positions: integers [B]: global position of each image within the epoch.
        operations: `Geometric` operations of `fastcifar.augment.operations`.
        image_size: (H, W); the images' own size by default.
        border: "zero", "reflect" or "edge" beyond the source; the operations' own by default.
        method: "bilinear" or "nearest".
        form: "auto", "matmul" or "gather"; see `fastcifar.augment.resampling`.
        dtype: floating dtype of the output; by default that of floating images, else float32.
        stream: gives independent numbers for the same seed and positions.
        indices: integers [B], the place of each image in its split, for `AlternatingFlip`.

    Returns:
        `dtype` [B, H, W, 3], in the range of the input.

    Raises:
        ConfigError: if an argument is not as above, or `form` cannot follow the operations.
    """
    images = check_images(images)
    seed, positions = check_keys(images, seed, positions)
    size = tuple(images.shape[1:3]) if image_size is None else check_image_size(image_size)
    check_operations(operations, op.Geometric)
    indices = check_indices(images, indices, operations)
    borders = {o.border for o in operations if hasattr(o, "border")} if border is None else {border}
    if len(borders) > 1:
        raise ConfigError(f"one resampling has one border. Received: {', '.join(sorted(borders))}")
    border = next(iter(borders), "zero")
    check_choice("border", border, op.BORDERS)
    check_choice("method", method, resampling.METHODS)
    check_choice("form", form, resampling.FORMS)
    if dtype is None:
        dtype = images.dtype if images.dtype.is_floating else tf.float32
    maps = [
        transforms.transform(operation, numbers, images=images, seed=seed, indices=indices)
        for operation, numbers in draw(operations, seed, positions, stream=stream)
    ]
    return resampling.resample(
        images,
        transforms.compose_all(maps) if maps else None,
        size,
        border=border,
        method=method,
        form=form,
        dtype=tf.as_dtype(dtype),
    )
