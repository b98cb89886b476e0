"""`standard` on batches on the device, against the same on each image in `tf.data.map`.

    input/device_DTYPE   the real pipeline's uint8 batches, augmented and resized by the policy
    input/xla_DTYPE      the same with the policy compiled by XLA
    input/map            flip, pad and crop, cutout (and resize) as `tf.data` users write them, on
                         each image on all cores, then batched; float32
    input/copy_DTYPE     a finished batch written again: its bytes read, as many allocated and
                         written, which no way can do without

All hand over finished batches to a graph that reads a value of each image. They take turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.augment import policies
from fastcifar.augment.build import build
from fastcifar.bench import measure, textbook
from fastcifar.bench.augmentation import references
from fastcifar.bench.augmentation.names import INPUT, row_name
from fastcifar.bench.augmentation.rates import judge_images
from fastcifar.bench.measure import Contender, Lap
from fastcifar.bench.numbered import CLASSES, numbered_split
from fastcifar.bench.record import OK
from fastcifar.data import pipeline
from fastcifar.runtime import Runtime

POLICY = "standard"
MAP = row_name(INPUT, "map")
_OPERATIONS: tuple[Any, ...] = policies.get(POLICY).operations
_, _CROP, _CUTOUT = _OPERATIONS
_SEED = 0
_ENDLESS = 1 << 40
_PIECE_S = 0.5
# Batches kept ready, as in training; as many are thrown away before a piece, or they would come for
# nothing. Before that, those that the contender before had in the making come to rest.
_PREFETCH = 2
_SETTLE_S = 0.1


@dataclass(frozen=True)
class InputPlan:
    """What to measure.

    Attributes:
        source_size, image_size: side in pixels of the images that come and that go.
        global_batch_size: images in a batch.
        images: size of the set.
        seconds: for all rounds together, start-up apart.
        rounds: at most this many.
    """

    source_size: int = 32
    image_size: int = 32
    global_batch_size: int = 128
    images: int = 8192
    seconds: float = 40.0
    rounds: int | None = None


def measure_input(plan: InputPlan, runtime: Runtime, put: Callable[..., None]) -> None:
    """Measure all ways, interleaved; `put(*rows)` receives all rows after every round."""
    dtypes = list(dict.fromkeys(["float32", runtime.compute_dtype]))
    contenders = [_mapped(plan)]
    for xla in (False, True):
        contenders += [_on_device(plan, runtime, dtype, xla) for dtype in dtypes]
    contenders += [_copy(plan, dtype) for dtype in dtypes]

    def report(laps: dict[str, Lap]) -> None:
        rows = []
        for name in laps:
            dtype = "float32" if name == MAP else name.rpartition("_")[2]
            on_device = name in (device_name(dtype, xla=False), device_name(dtype, xla=True))
            rows.append(
                measure.row(
                    laps,
                    name,
                    ratios_to=[MAP, copy_name(dtype)] if on_device else [],
                    precision=dtype,
                    bytes_per_image=bytes_per_image(plan.image_size, dtype),
                )
            )
        put(*rows)

    measure.interleave(contenders, seconds=plan.seconds, rounds=plan.rounds, after_round=report)


def device_name(dtype: str, *, xla: bool) -> str:
    """The row of the batched augmentation on the device."""
    return row_name(INPUT, f"{'xla' if xla else 'device'}_{dtype}")


def copy_name(dtype: str) -> str:
    """The row of the copy."""
    return row_name(INPUT, f"copy_{dtype}")


def bytes_per_image(image_size: int, dtype: str) -> int:
    """What one finished image takes in memory."""
    return image_size * image_size * 3 * tf.as_dtype(dtype).size


def usual(image_size: int) -> textbook.Augment:
    """`standard` for one image, as `tf.data` users write it: uint8 -> float32 [H, W, 3]."""
    return textbook.per_image(policies.get(POLICY), image_size)


def consumer(augment: Callable[[Any], tf.Tensor]) -> Callable[[Any, tf.Tensor], tf.Tensor]:
    """Return (iterator, batches) -> checksum: runs batches through `augment` as a step would."""

    def consume(iterator: Any, batches: tf.Tensor) -> tf.Tensor:
        def one(i: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            images = augment(iterator.get_next())
            # One value of each image: enough for nothing to be optimised away.
            return i + 1, total + tf.reduce_sum(tf.cast(images[:, -1, -1, -1], tf.float32))

        start = (tf.constant(0, tf.int64), tf.constant(0.0))
        return tf.while_loop(lambda i, _: i < batches, one, start, parallel_iterations=1)[1]

    return tf.function(consume, autograph=False)


class _Piece:
    """Batches of a dataset through an augmentation, as many as fill a piece of work."""

    def __init__(self, plan: InputPlan, dataset: Any, augment: Callable[[Any], tf.Tensor]):
        self._size = plan.global_batch_size
        self._iterator = iter(dataset)
        self._consume = consumer(augment)
        self._batches = 2

    def run(self) -> float:
        self._consume(self._iterator, tf.constant(self._batches, tf.int64)).numpy()
        return float(self._batches * self._size)

    def drain(self) -> None:
        time.sleep(_SETTLE_S)
        for _ in range(2 * _PREFETCH):  # a device with a memory of its own keeps as many again
            next(self._iterator)

    def calibrate(self) -> None:
        self.run()  # traces; what tunes itself begins to
        seconds = min(measure.seconds_of(self.run) for _ in range(3)) / self._batches
        self._batches = max(2, round(_PIECE_S / seconds))


def _mapped(plan: InputPlan) -> Contender:
    split = numbered_split(plan.images, plan.source_size)
    augment = usual(plan.image_size)
    piece: _Piece

    def check() -> str:
        nonlocal piece
        images = references.sample()
        few = tf.data.Dataset.from_tensor_slices(images).map(usual(references.SIZE))
        found = _judge(images, next(iter(few.batch(len(images)))))
        dataset = (
            tf.data.Dataset.from_tensor_slices(split.images)
            .repeat()
            .map(augment, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(plan.global_batch_size, drop_remainder=True)
            .prefetch(_PREFETCH)
        )
        piece = _Piece(plan, dataset, lambda batch: batch)
        piece.calibrate()
        return found

    return Contender(MAP, lambda: piece.run(), check=check, before=lambda: piece.drain())


def _on_device(plan: InputPlan, runtime: Runtime, dtype: str, xla: bool) -> Contender:
    split = numbered_split(plan.images, plan.source_size)
    size = (plan.image_size, plan.image_size)
    augment = build(POLICY, image_size=size, num_classes=CLASSES, dtype=dtype)
    piece: _Piece

    def augmented(batch: pipeline.Batch) -> tf.Tensor:
        key = tf.stack([tf.constant(_SEED, tf.int64), batch.epoch])
        return augment(batch.images, batch.labels, key, batch.positions)[0]

    def check() -> str:
        nonlocal piece
        images = references.sample()
        same = build(POLICY, image_size=images.shape[1:3], num_classes=CLASSES, dtype=dtype)
        numbers = np.arange(len(images))
        found = _judge(images, same(images, numbers % CLASSES, np.array([_SEED, 0]), numbers)[0])
        batches = pipeline.train_batches(
            split,
            global_batch_size=plan.global_batch_size,
            replicas=1,
            seed=_SEED,
            first_step=0,
            last_step=_ENDLESS,
            prefetch=_PREFETCH,
        )
        device = pipeline.to_devices(batches, runtime.strategy, _PREFETCH)
        piece = _Piece(plan, device, tf.function(augmented, jit_compile=True) if xla else augmented)
        piece.calibrate()
        return found

    name = device_name(dtype, xla=xla)
    return Contender(name, lambda: piece.run(), check=check, before=lambda: piece.drain())


def _copy(plan: InputPlan, dtype: str) -> Contender:
    # As float32 whatever the dtype: bytes are copied, and arithmetic in others may be slower.
    size = plan.global_batch_size * bytes_per_image(plan.image_size, dtype) // 4
    values = tf.ones([size])
    copies = 2

    @tf.function(autograph=False)
    def copy(times: tf.Tensor) -> tf.Tensor:
        def one(i: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # A factor that differs from turn to turn, or it would be done once for all.
            return i + 1, total + (values * tf.cast(i, tf.float32))[-1]

        start = (tf.constant(0, tf.int64), tf.constant(0.0))
        return tf.while_loop(lambda i, _: i < times, one, start, parallel_iterations=1)[1]

    def run() -> float:
        copy(tf.constant(copies, tf.int64)).numpy()
        return float(copies * plan.global_batch_size)

    def calibrate() -> str:
        nonlocal copies
        run()  # traces
        seconds = min(measure.seconds_of(run) for _ in range(3)) / copies
        copies = max(2, round(_PIECE_S / 2 / seconds))
        return OK

    return Contender(copy_name(dtype), run, check=calibrate, before=lambda: time.sleep(_SETTLE_S))


def _judge(images: np.ndarray, received: tf.Tensor) -> str:
    """Whether `received` is `images` augmented by `standard` at their own size."""
    found = judge_images(received, images.shape, received.dtype)
    if found != OK:
        return found
    side = round(_CUTOUT.side * images.shape[1])
    received = tf.cast(received, tf.float32).numpy()
    return references.judge_standard(images, received, _CROP.padding, side)
