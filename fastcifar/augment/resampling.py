"""Follow an affine map from source to output, in whichever form suits the device.

What is computed does not depend on the form. The output is the canvas (`transforms.Transform`)
resized to the output size: bilinear with half-pixel centres, clamped at the canvas' edge and
antialiased when shrinking, as `tf.image.resize`. Map and resize are one interpolation, and what
lies outside the source is black ("zero"), mirrored about the outermost pixel ("reflect") or that
pixel again ("edge").

- matmul (`matrices`): out = Wy . image . Wx^T with interpolation matrices for each image. Two
  batched matrix products, 11 MFLOP an image from 32 to 224 pixels. Rows stay rows, so no rotation.
- gather (`lookups`): for whole-pixel moves at equal size one index per pixel into the flattened
  batch, exact and 30 times as fast on a CPU as `tf.gather(batch_dims=1)`; otherwise one index per
  pixel into the 2 x 2 neighbourhoods of the source (a quarter of the lookups of four taps).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.augment import lookups, matrices
from fastcifar.augment.transforms import Transform, canvas_coordinates
from fastcifar.errors import ConfigError

Tensor = Any  # tf.Tensor; TensorFlow ships no types
FORMS = ("auto", "matmul", "gather")
METHODS = ("bilinear", "nearest")


def resample(
    images: Tensor,
    transform: Transform | None,
    image_size: tuple[int, int],
    *,
    border: str = "zero",
    method: str = "bilinear",
    form: str = "auto",
    dtype: Any = tf.float32,
) -> Tensor:
    """Return the images seen through `transform` and resized.

    Args:
        images: [B, h, w, C], any real dtype, any value range.
        transform: the map canvas to source; None resizes only.
        image_size: (H, W) of the output.
        border: "zero", "reflect" or "edge".
        method: "bilinear" or "nearest".
        form: "matmul", "gather", or "auto": gather where it is exact and for maps that mix rows
            and columns, matmul otherwise.
        dtype: floating dtype of the output; the products of `matmul` run in it. (In float32 on a
            GPU with TF32 they keep 10 bits; pixels that only move stay exact all the same.)

    Returns:
        `dtype` [B, H, W, C], values in the range of the input.

    Raises:
        ConfigError: if `form` cannot follow the map.
    """
    height, width = images.shape[1:3]
    how: dict[str, Any] = {"border": border, "method": method, "dtype": dtype}
    if transform is None:
        return resize(images, image_size, method=method, dtype=dtype)
    if not transform.separable:
        if form == "matmul":
            raise ConfigError(
                "form 'matmul' resamples rows and columns one after the other and cannot rotate or "
                "shear: use 'gather' or 'auto'"
            )
        # Shrinking needs a filter wider than a pixel: it goes first, at fixed size, and the map,
        # which is about the centre, follows on the smaller image.
        smaller = (min(height, image_size[0]), min(width, image_size[1]))
        if smaller != (height, width):
            images = resize(images, smaller, method=method, dtype=dtype)
            transform = transform.on_resized(smaller[0] / height, smaller[1] / width)
        return lookups.follow(images, transform, image_size, **how)
    if form == "auto":
        on_gpu = bool(tf.config.list_physical_devices("GPU"))
        form = "gather" if transform.whole and not on_gpu else "matmul"
    if form == "matmul":
        return matrices.follow(images, transform, image_size, **how)
    if transform.whole:
        moved = lookups.move(images, transform, border=border)
        return resize(moved, image_size, method=method, dtype=dtype)
    shrinks = transform.magnification > 1 or image_size[0] < height or image_size[1] < width
    if shrinks and method == "bilinear":
        raise ConfigError(
            "form 'gather' looks at four pixels and cannot shrink without aliasing: use 'matmul' "
            "or 'auto'"
        )
    return lookups.follow(images, transform, image_size, **how)


def resize(images: Tensor, image_size: tuple[int, int], *, method: str, dtype: Any) -> Tensor:
    """Resize without any map: `dtype` [B, H, W, C]; a cast where the size is that already."""
    height, width = images.shape[1:3]
    if (height, width) == tuple(image_size):
        return tf.cast(images, dtype)
    if method == "nearest":
        rows, columns = (
            (canvas_coordinates(target, source, method) + (source - 1) / 2).astype(np.int64)
            for target, source in zip(image_size, (height, width), strict=True)
        )
        images = tf.cast(images, dtype)  # first: GPUs gather no uint8
        return tf.gather(tf.gather(images, columns, axis=2), rows, axis=1)
    # A copy for each image: XLA's CPU compiler multiplies batches of matrices three times as fast
    # as one matrix by a batch, and elsewhere it makes no difference.
    batch = tf.shape(images)[0]
    down, across = (
        tf.broadcast_to(
            tf.cast(matrices.resize_matrix(target, source), dtype), [batch, target, source]
        )
        for target, source in zip(image_size, (height, width), strict=True)
    )
    return matrices.apply(images, down, across)
