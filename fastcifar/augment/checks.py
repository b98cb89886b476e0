"""What every public function of the package demands of its arguments, checked before any work.

Shapes and dtypes are known when a function is traced, so a mistake is one ConfigError and not a
compiler's complaint about an inner operation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from fastcifar.augment import operations as op
from fastcifar.errors import ConfigError, nearest

Tensor = Any  # tf.Tensor; TensorFlow ships no types


def check_images(images: Tensor, *, floating: bool = False) -> Tensor:
    """Return `images` as a tensor of dtype uint8 or floating and shape [B, h, w, 3]."""
    images = tf.convert_to_tensor(images)
    wanted = "floating" if floating else "uint8 or floating"
    if not (images.dtype.is_floating or (images.dtype == tf.uint8 and not floating)):
        raise ConfigError(f"images must be {wanted}. Received: {images.dtype.name}")
    if images.shape.rank != 4 or images.shape[3] != 3:
        raise ConfigError(f"images must have shape [B, h, w, 3]. Received: {images.shape}")
    if images.shape[1] is None or images.shape[2] is None:
        raise ConfigError(f"the images' height and width must be static. Received: {images.shape}")
    if 0 in images.shape[1:3]:
        raise ConfigError(f"images must have at least one pixel. Received: {images.shape}")
    return images


def check_image_size(image_size: Any) -> tuple[int, int]:
    """Return `image_size` as a pair of positive integers."""
    legal = (
        isinstance(image_size, tuple | list)
        and len(image_size) == 2
        and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in image_size)
    )
    if not legal:
        raise ConfigError(
            f"image_size must be (height, width), whole numbers above 0. Received: {image_size!r}"
        )
    return image_size[0], image_size[1]


def check_choice(what: str, value: Any, legal: Iterable[str]) -> None:
    """Refuse a `value` that is not among `legal`."""
    legal = tuple(legal)
    if value not in legal:
        raise ConfigError(
            f"{what} must be one of {', '.join(legal)}.{nearest(str(value), legal)} "
            f"Received: {value!r}"
        )


def check_operations(operations: Iterable[Any], wanted: type) -> None:
    """Refuse an operation that is not of the kind `wanted`."""
    for operation in operations:
        if not isinstance(operation, wanted):
            raise ConfigError(
                f"operations must be of kind {wanted.__name__.lower()}. Received: {operation!r}"
            )


def check_keys(images: Tensor, seed: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return `seed` [2] and `positions` [B] as int64 tensors that fit `images`."""
    seed, positions = tf.convert_to_tensor(seed), tf.convert_to_tensor(positions)
    for name, tensor in (("seed", seed), ("positions", positions)):
        if not tensor.dtype.is_integer:
            raise ConfigError(f"{name} must hold integers. Received: {tensor.dtype.name}")
    if not seed.shape.is_compatible_with([2]):
        raise ConfigError(f"seed must have shape [2]: (run seed, epoch). Received: {seed.shape}")
    if not positions.shape.is_compatible_with(images.shape[:1]):
        raise ConfigError(
            f"positions must have shape {images.shape[:1]}, one for each image. "
            f"Received: {positions.shape}"
        )
    return tf.cast(seed, tf.int64), tf.cast(positions, tf.int64)


def check_indices(
    images: Tensor, indices: Tensor | None, operations: Iterable[Any]
) -> Tensor | None:
    """Return `indices` [B] as int64; None where there are none and no operation needs them."""
    if indices is None:
        if any(isinstance(operation, op.AlternatingFlip) for operation in operations):
            raise ConfigError(
                "an alternating flip needs indices, the place of each image in its split. "
                "Received: None"
            )
        return None
    indices = tf.convert_to_tensor(indices)
    shape = images.shape[:1]
    if not (indices.dtype.is_integer and indices.shape.is_compatible_with(shape)):
        raise ConfigError(
            f"indices must be integers of shape {shape}, one for each image. "
            f"Received: {indices.dtype.name} of shape {indices.shape}"
        )
    return tf.cast(indices, tf.int64)


def check_groups(images: Tensor, group_size: int, what: str) -> None:
    """Refuse a batch that is not a known multiple of `group_size`."""
    if group_size > 1 and (images.shape[0] is None or images.shape[0] % group_size):
        raise ConfigError(
            f"{what} works on groups of {group_size} images, so the batch (each replica's slice) "
            f"must have a static size that is a multiple of it. Received: {images.shape[0]}"
        )


def check_labels(labels: Tensor, images: Tensor, num_classes: int, *, mixes: bool) -> Tensor:
    """Return `labels` as a tensor: int [B], or where the policy mixes also float [B, C]."""
    labels = tf.convert_to_tensor(labels)
    batch = images.shape[0]
    if labels.dtype.is_integer and labels.shape.is_compatible_with([batch]):
        return labels
    if mixes and labels.dtype.is_floating and labels.shape.is_compatible_with([batch, num_classes]):
        return labels
    soft = f", or floating of shape [{batch}, {num_classes}]" if mixes else ""
    raise ConfigError(
        f"labels must be integers of shape [{batch}]{soft}. "
        f"Received: {labels.dtype.name} of shape {labels.shape}"
    )
