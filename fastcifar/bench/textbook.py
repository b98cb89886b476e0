"""The input as TensorFlow's guides write it: image by image, then batched.

https://www.tensorflow.org/tutorials/images/data_augmentation
https://www.tensorflow.org/guide/data_performance
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.augment import operations as op
from fastcifar.augment import policies
from fastcifar.augment.policies import Policy
from fastcifar.config import DataConfig, RunConfig
from fastcifar.data import pipeline, storage
from fastcifar.data.pipeline import Batch
from fastcifar.data.split import Examples
from fastcifar.errors import ConfigError
from fastcifar.training.phase import Phase
from fastcifar.training.preparation import Prepared

# uint8 [h, w, 3] -> float32 [H, W, 3], both 0..255
Augment = Callable[[tf.Tensor], tf.Tensor]


def check(policy: Policy) -> None:
    """Refuse a policy that the guides have no way for.

    Raises:
        ConfigError: naming those that they have one for.
    """
    if not _all_known(policy):
        known = [p.name for p in policies.POLICIES.values() if _all_known(p)]
        raise ConfigError(
            f"the textbook's way is known for augment {', '.join(known)}. Received: {policy.name}"
        )


def _all_known(policy: Policy) -> bool:
    return all(type(operation) in _WAYS for operation in policy.operations)


def per_image(policy: Policy, image_size: int) -> Augment:
    """The operations of `policy` on one image, then the resize: uint8 -> float32.

    Raises:
        ConfigError: see `check`.
    """
    check(policy)

    def augment(image: tf.Tensor) -> tf.Tensor:
        for operation in policy.operations:
            image = _WAYS[type(operation)](operation, image)
        image = tf.cast(image, tf.float32)
        if tuple(image.shape[:2]) != (image_size, image_size):
            image = tf.image.resize(image, [image_size, image_size])
        return image

    return augment


def _flip(operation: op.Flip, image: tf.Tensor) -> tf.Tensor:
    return tf.image.random_flip_left_right(image)


def _pad_crop(operation: op.PadCrop, image: tf.Tensor) -> tf.Tensor:
    pad = operation.padding
    padded = tf.pad(image, [[pad, pad], [pad, pad], [0, 0]])
    return tf.image.random_crop(padded, image.shape)


def _cutout(operation: op.Cutout, image: tf.Tensor) -> tf.Tensor:
    height, width, _ = image.shape
    side = round(operation.side * min(height, width))
    top = tf.random.uniform([], 0, height, tf.int32) - side // 2
    left = tf.random.uniform([], 0, width, tf.int32) - side // 2
    rows, columns = tf.range(height), tf.range(width)
    in_rows = (rows >= top) & (rows < top + side)
    in_columns = (columns >= left) & (columns < left + side)
    covered = (in_rows[:, tf.newaxis] & in_columns[tf.newaxis, :])[..., tf.newaxis]
    return tf.where(covered, tf.constant(operation.fill, tf.float32), tf.cast(image, tf.float32))


_WAYS: dict[type, Callable[[Any, tf.Tensor], tf.Tensor]] = {
    op.Flip: _flip,
    op.PadCrop: _pad_crop,
    op.Cutout: _cutout,
}


def image_batches(
    split: Examples,
    data: DataConfig,
    policy: Policy,
    *,
    image_size: int,
    global_batch_size: int,
    seed: int,
) -> tf.data.Dataset:
    """The textbook's batches: shuffle, then image by image, without end.

    It obeys `cache` (`none`: an image is decoded each time it is read), `augment_on`, `resize_on`,
    `transfer` and `parallel_map`. What is shuffled are images as they are stored, encoded or uint8:
    a buffer of finished ones would hold 50,000 of 602 kB at 224 px.

    Args:
        split: the images.
        data: where and how.
        policy: of augmentation, where the host augments.
        image_size: height and width in pixels, where the host resizes.
        global_batch_size: images in a batch; what does not fill one at an epoch's end is left out.
        seed: of the order.

    Returns:
        (images [B, H, W, 3], float32 or uint8, labels int32 [B]).

    Raises:
        ConfigError: see `check`.
    """
    images, labels = split.in_memory().images, split.labels.astype(np.int32)
    height, width, _ = split.image_shape
    on_host = policy if data.augment_on == "host" else policies.get("none")
    augment = per_image(on_host, image_size)
    touched = "host" in (data.augment_on, data.resize_on)
    decoded = data.cache != "none"

    def transform(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if not decoded:
            image = tf.io.decode_png(image, channels=3)
            image = tf.ensure_shape(image, [height, width, 3])
        if touched:
            image = augment(image)
        elif data.transfer == "float32":
            image = tf.cast(image, tf.float32)
        return image, label

    stored = storage.tensor(images) if decoded else storage.encode(images)
    return (
        tf.data.Dataset.from_tensor_slices((stored, labels))
        .shuffle(len(split), seed=seed)
        .map(transform, num_parallel_calls=data.parallel_map if data.parallel_map > 1 else None)
        .batch(global_batch_size, drop_remainder=True)
        .repeat()
    )


def open_batches(config: RunConfig, prepared: Prepared, phase: Phase, first_step: int) -> Any:
    """Start the textbook's input of `phase`: an iterator whose batches lie on the devices.

    In the place of `fastcifar.training.phase.open_batches`; see `image_batches` for what it obeys,
    and `prefetch`. It is one replica's, and starts at an epoch's beginning.
    """
    data, size, per_epoch = config.data, config.global_batch_size, prepared.steps_per_epoch
    batches = image_batches(
        prepared.splits.train,
        data,
        policies.get(phase.config.augment),
        image_size=phase.config.image_size,
        global_batch_size=size,
        seed=config.seed,
    )

    def number(step: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> Batch:
        start = step % per_epoch * size
        positions = start + tf.range(size, dtype=tf.int64)
        # It shuffles images and knows none by its index; no policy that it has a way for asks.
        unknown = tf.fill([size], tf.constant(-1, tf.int64))
        return Batch(*batch, positions, step // per_epoch, unknown)

    steps = tf.data.Dataset.range(first_step, phase.last_step)
    dataset = tf.data.Dataset.zip(steps, batches).map(number)
    if data.prefetch:
        dataset = dataset.prefetch(data.prefetch)
    return iter(pipeline.to_devices(dataset, prepared.runtime.strategy, data.prefetch))
