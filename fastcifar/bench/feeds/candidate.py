"""What `bench pipelines` compares: batches of a numbered split, by whatever library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from fastcifar.augment import policies

# Rows with augmentation; the same for all, as far as a library has it.
AUGMENTED = "augmented"
POLICY = policies.get("flip-crop")
SEED = 0
# Batches kept ready, the same for all. The guide writes AUTOTUNE, whose buffer can grow to hundreds
# of batches, filled while other contenders are timed: it would deliver what cost no time at all.
PREFETCH = 2


@dataclass(frozen=True)
class Candidate:
    """A pipeline over a numbered split.

    Attributes:
        name: of its row.
        make: makes its endless batches of (images, labels): a `tf.data.Dataset`, or an iterable of
            arrays where it does not run `in_graph`.
        per_epoch: images that it delivers in one epoch.
        images_per_batch: on average.
        in_graph: consumed inside a TensorFlow graph, or by Python.
        differs: what it does otherwise than the others, or empty.
        lacks: why it cannot be measured here, or empty.
        ready: batches that it keeps ready.
    """

    name: str
    make: Callable[[], Any]
    per_epoch: int
    images_per_batch: float
    in_graph: bool = True
    differs: str = ""
    lacks: str = ""
    ready: int = PREFETCH


def augmented(name: str) -> str:
    """The row of `name` with augmentation."""
    return f"{AUGMENTED}/{name}"


def endless(
    dataset: tf.data.Dataset, split_size: int, global_batch_size: int, augment: Any = None
) -> tf.data.Dataset:
    """Shuffle single images, repeat, augment and batch them, as tf.data's guide does."""
    dataset = dataset.shuffle(split_size, seed=SEED).repeat()
    if augment is not None:
        dataset = dataset.map(
            lambda image, label: (augment(image), label), num_parallel_calls=tf.data.AUTOTUNE
        )
    return dataset.batch(global_batch_size).prefetch(PREFETCH)
