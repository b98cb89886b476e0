"""`fastcifar bench pipelines`: order and batching alone, this project's against the textbook's.

All contenders deliver the same uint8 images in batches of the same size, shuffled over the whole
set, and are first checked to deliver no image twice in an epoch. They are consumed as a train step
consumes them: inside a graph, one batch after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.bench import measure, numbered
from fastcifar.bench.measure import Contender, Lap
from fastcifar.data import pipeline
from fastcifar.data.split import Split

OURS, TEXTBOOK = "permutation", "cache_shuffle_repeat_batch"
# More steps than a benchmark can take, in the one range that a dataset runs through.
_ENDLESS = 1 << 40
_SEED = 0
# Batches kept ready, the same for all. The guide writes AUTOTUNE, whose buffer can grow to hundreds
# of batches, filled while other contenders are timed: it would deliver what cost no time at all.
_PREFETCH = 2
# Long enough to hold hundreds of batches: what was prefetched while others ran is no share of it.
_PIECE_S = 0.5
# Outside the clock, until the prefetching of the contender before has come to rest.
_SETTLE_S = 0.1


@dataclass(frozen=True)
class PipelinesPlan:
    """What to measure.

    Attributes:
        images: size of the set.
        image_size: height and width in pixels.
        global_batch_size: images in a batch.
        seconds: for all rounds together.
        rounds: at most this many.
    """

    images: int = 50_000
    image_size: int = 32
    global_batch_size: int = 512
    seconds: float = 30.0
    rounds: int | None = None


@dataclass(frozen=True)
class Candidate:
    """A pipeline over a numbered split.

    Attributes:
        name: of its row.
        dataset: endless batches of (images, labels).
        per_epoch: images that it delivers in one epoch.
    """

    name: str
    dataset: tf.data.Dataset
    per_epoch: int


def candidates(split: Split, global_batch_size: int) -> list[Candidate]:
    """The pipelines that need no package beside this project's own."""
    whole = len(split) // global_batch_size * global_batch_size

    def ours(order: str) -> tf.data.Dataset:
        dataset = pipeline.train_batches(
            split,
            global_batch_size=global_batch_size,
            replicas=1,
            seed=_SEED,
            first_step=0,
            last_step=_ENDLESS,
            order=order,
        )
        return dataset

    def images_and_labels() -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((split.images, split.labels.astype(np.int32)))

    # As tf.data's guide writes it: https://www.tensorflow.org/guide/data_performance
    textbook = (
        images_and_labels()
        .cache()
        .shuffle(len(split), seed=_SEED)
        .repeat()
        .batch(global_batch_size)
        .prefetch(_PREFETCH)
    )
    # Shuffling what is cheap to shuffle, by those who know the guide's way to be slow.
    indices = (
        tf.data.Dataset.range(len(split))
        .shuffle(len(split), seed=_SEED)
        .repeat()
        .batch(global_batch_size)
    )
    images, labels = tf.constant(split.images), tf.constant(split.labels, tf.int32)
    gathered = indices.map(lambda i: (tf.gather(images, i), tf.gather(labels, i)))
    return [
        Candidate(OURS, ours("permutation"), whole),
        Candidate("shuffle_buffer", ours("shuffle_buffer"), whole),
        Candidate(TEXTBOOK, textbook, len(split)),
        Candidate("shuffled_indices", gathered.prefetch(_PREFETCH), len(split)),
    ]


def contender(candidate: Candidate, count: int, global_batch_size: int) -> Contender:
    """Return what consumes a pipeline inside a graph, in pieces of about half a second."""
    iterator: Any = iter(candidate.dataset)
    consume = consumer()
    batches = 8  # of a piece; the warm-up finds out how many fill it

    def run() -> float:
        consume(iterator, tf.constant(batches, tf.int64)).numpy()
        return float(batches * global_batch_size)

    def calibrate() -> str:
        nonlocal batches
        checked = numbered.check_order(
            _on_the_host(candidate.dataset), count=count, per_epoch=candidate.per_epoch
        )
        run()  # traces
        seconds = min(measure.seconds_of(run) for _ in range(2))
        batches = max(1, round(batches * _PIECE_S / seconds))
        return checked

    return Contender(candidate.name, run, check=calibrate, before=lambda: time.sleep(_SETTLE_S))


def consumer() -> Callable[[Any, tf.Tensor], tf.Tensor]:
    """Return (iterator, batches) -> int64 checksum: takes batches as a train step does."""

    def consume(iterator: Any, batches: tf.Tensor) -> tf.Tensor:
        def one(i: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            images, labels, *_ = iterator.get_next()
            # One value of each image and each label: enough for nothing to be optimised away.
            last = tf.reshape(images, [tf.shape(images)[0], -1])[:, -1]
            seen = tf.reduce_sum(tf.cast(last, tf.int64))
            return i + 1, total + seen + tf.reduce_sum(tf.cast(labels, tf.int64))

        zero = tf.constant(0, tf.int64)
        _, total = tf.while_loop(lambda i, _: i < batches, one, (zero, zero), parallel_iterations=1)
        return total

    return tf.function(consume, autograph=False)


def _on_the_host(dataset: tf.data.Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for images, labels, *_ in dataset:
        yield images.numpy(), labels.numpy()


def measure_pipelines(plan: PipelinesPlan, put: Callable[..., None]) -> None:
    """Measure all candidates, interleaved; `put(*rows)` receives all rows after every round."""
    split = numbered.numbered_split(plan.images, plan.image_size)
    contenders = [
        contender(candidate, plan.images, plan.global_batch_size)
        for candidate in candidates(split, plan.global_batch_size)
    ]

    def report(laps: dict[str, Lap]) -> None:
        put(*(measure.row(laps, n, ratios_to=[TEXTBOOK] if n != TEXTBOOK else []) for n in laps))

    measure.interleave(contenders, seconds=plan.seconds, rounds=plan.rounds, after_round=report)
