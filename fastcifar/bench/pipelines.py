"""`fastcifar bench pipelines`: from images to batches, this project's way against others.

    NAME              order and batching alone, of uint8 images
    naive/224px       the input of the ladder's first rung: decoding, augmentation and resizing to
                      float32 on the host, image by image, which our way leaves to the device
    augmented/NAME    with flip, pad and crop, to float32

All deliver the same images in batches of the same size, shuffled, and are first checked to deliver
no image twice in an epoch. Those of TensorFlow are consumed as a train step consumes them: inside a
graph, one batch after the other; those of other libraries by a loop in Python.

All rows share one process. They take turns; a row that has had its turn makes ready what it keeps
ready, which is little, and then its threads sleep (a test holds it to that). Processes of their own
would keep nothing apart that disturbs, and would hold the images, and all that is cached of them,
once a row.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.augment.build import build
from fastcifar.bench import measure, numbered, textbook
from fastcifar.bench.feeds import grain_dataset, naive, on_disk, torch_loader
from fastcifar.bench.feeds.candidate import (
    AUGMENTED,
    POLICY,
    PREFETCH,
    SEED,
    Candidate,
    augmented,
    endless,
)
from fastcifar.bench.measure import Contender, Lap
from fastcifar.bench.numbered import CLASSES
from fastcifar.bench.record import Row
from fastcifar.data import pipeline
from fastcifar.data.sources.image_folder import load_image_folder
from fastcifar.data.sources.ingest import ReadOptions
from fastcifar.data.split import Split
from fastcifar.errors import ConfigError

OURS, TEXTBOOK = "permutation", "cache_shuffle_repeat_batch"
# More steps than a benchmark can take, in the one range that a dataset runs through.
_ENDLESS = 1 << 40
# Long enough to hold hundreds of batches: what was prefetched while others ran is no share of it.
_PIECE_S = 0.5
# Outside the clock, until what the contender before has begun has come to rest.
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
        data_path: a folder of a folder for each class, whose images are used; None for noise that
            is drawn, whose PNGs are larger than those of photographs.
    """

    images: int = 50_000
    image_size: int = 32
    global_batch_size: int = 512
    seconds: float = 90.0
    rounds: int | None = None
    data_path: str | None = None


def candidates(split: Split, global_batch_size: int) -> list[Candidate]:
    """The pipelines that need neither files nor a package beside this project's own."""
    count, size = len(split), split.image_shape[0]
    whole = count // global_batch_size * global_batch_size
    per_image = textbook.per_image(POLICY, size)
    batched = build(POLICY, image_size=(size, size), num_classes=CLASSES, dtype="float32")

    def ours(order: str) -> tf.data.Dataset:
        dataset = pipeline.train_batches(
            split,
            global_batch_size=global_batch_size,
            replicas=1,
            seed=SEED,
            first_step=0,
            last_step=_ENDLESS,
            order=order,
        )
        return dataset

    def ours_augmented() -> tf.data.Dataset:
        def augment(batch: pipeline.Batch) -> tuple[tf.Tensor, tf.Tensor]:
            key = tf.stack([tf.constant(SEED, tf.int64), batch.epoch])
            return batched(batch.images, batch.labels, key, batch.positions)

        return ours("permutation").map(augment).prefetch(PREFETCH)

    def images_and_labels() -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((split.images, split.labels.astype(np.int32)))

    # As tf.data's guide writes it: https://www.tensorflow.org/guide/data_performance
    def by_the_guide(augment: Any = None) -> tf.data.Dataset:
        return endless(images_and_labels().cache(), count, global_batch_size, augment)

    # Shuffling what is cheap to shuffle, by those who know the guide's way to be slow.
    def indices() -> tf.data.Dataset:
        images, labels = tf.constant(split.images), tf.constant(split.labels, tf.int32)
        shuffled = tf.data.Dataset.range(count).shuffle(count, seed=SEED)
        batches = shuffled.repeat().batch(global_batch_size)
        gathered = batches.map(lambda i: (tf.gather(images, i), tf.gather(labels, i)))
        return gathered.prefetch(PREFETCH)

    makes: list[tuple[str, Callable[[], Any], int]] = [
        (OURS, lambda: ours("permutation"), whole),
        ("shuffle_buffer", lambda: ours("shuffle_buffer"), whole),
        (TEXTBOOK, by_the_guide, count),
        ("shuffled_indices", indices, count),
        (augmented(OURS), ours_augmented, whole),
        (augmented(TEXTBOOK), lambda: by_the_guide(per_image), count),
    ]
    found = [Candidate(name, make, per_epoch, global_batch_size) for name, make, per_epoch in makes]
    return [*found, naive.candidate(split, global_batch_size)]


def all_candidates(split: Split, global_batch_size: int, folder: Path) -> list[Candidate]:
    """The pipelines of all libraries; one that is not installed is named as lacking.

    Args:
        split: the images.
        global_batch_size: images in a batch.
        folder: where files of the images may be written.
    """
    found = candidates(split, global_batch_size)
    found += on_disk.candidates(split, global_batch_size, folder)
    optional = {
        torch_loader.candidates: (torch_loader.ITEMS, torch_loader.BATCHES),
        grain_dataset.candidates: (grain_dataset.NAME,),
    }
    for make, names in optional.items():
        try:
            found += make(split, global_batch_size)
        except ImportError:
            why = "not run: install fastcifar[peers]"
            rows = [*names, *map(augmented, names)]
            found += [Candidate(row, list, 0, global_batch_size, lacks=why) for row in rows]
    # Those without augmentation first, whatever the library.
    return sorted(found, key=lambda candidate: candidate.name.startswith(f"{AUGMENTED}/"))


def contender(candidate: Candidate, count: int) -> Contender:
    """Return what consumes a pipeline, in pieces of about half a second."""
    take: Callable[[int], object]
    batches = 8  # of a piece; the warm-up finds out how many fill it

    def run() -> float:
        take(batches)
        return batches * candidate.images_per_batch

    def calibrate() -> str:
        nonlocal batches, take
        if candidate.lacks:
            return candidate.lacks
        dataset = candidate.make()
        read = _on_the_host(dataset) if candidate.in_graph else _in_python(dataset)
        checked = numbered.check_order(read, count=count, per_epoch=candidate.per_epoch)
        take = _taker(candidate)
        run()  # traces
        for share in (0.2, 1.0):
            drain()
            seconds = measure.seconds_of(run) / batches
            batches = max(1, round(share * _PIECE_S / seconds))
        return checked

    def drain() -> None:
        # What was made ready while others were timed would come for nothing. One that keeps nothing
        # ready may still have a batch in the making.
        time.sleep(_SETTLE_S)
        take(max(1, 2 * candidate.ready))

    return Contender(candidate.name, run, check=calibrate, before=drain)


def _taker(candidate: Candidate) -> Callable[[int], object]:
    """Return what takes so many batches and waits for them."""
    iterator: Any = iter(candidate.make())
    if candidate.in_graph:
        consume = consumer()
        return lambda batches: consume(iterator, tf.constant(batches, tf.int64)).numpy()

    def loop(batches: int) -> int:
        total = 0
        for _ in range(batches):
            images, labels = next(iterator)
            # As much as the graph's consumer reads.
            total += int(images.reshape(len(images), -1)[:, -1].sum()) + int(labels.sum())
        return total

    return loop


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


def _in_python(batches: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for images, labels in batches:
        yield np.asarray(images), np.asarray(labels)


def numbered_images(plan: PipelinesPlan) -> Split:
    """The images of a plan, with their numbers at their centres.

    Raises:
        SourceError: if the folder does not hold images as `load_image_folder` wants them.
        ConfigError: if it holds fewer than the plan asks for.
    """
    if plan.data_path is None:
        return numbered.numbered_split(plan.images, plan.image_size)
    found = load_image_folder(plan.data_path, ReadOptions(storage_size=plan.image_size)).train
    if len(found) < plan.images:
        raise ConfigError(
            f"images must be at most the {len(found):,} training images of {plan.data_path}. "
            f"Received: {plan.images}; give --images {len(found)}"
        )
    return numbered.numbered_split(plan.images, plan.image_size, found.in_memory().images)


def _words(plan: PipelinesPlan) -> str:
    """What the images are: it matters to those that decode PNGs."""
    if plan.data_path is None:
        return "The images are drawn noise, whose PNGs are larger than those of photographs."
    size = plan.image_size
    return f"The images are those of --data-path at {size} px, numbered at their centres."


def measure_pipelines(plan: PipelinesPlan, split: Split, put: Callable[..., None]) -> None:
    """Measure all candidates, interleaved; `put(*rows)` receives all rows after every round.

    All have ratios to the guide's way, and this project's way over each of them is a figure.

    Args:
        plan: how long.
        split: its `numbered_images`.
        put: takes the rows.
    """
    with tempfile.TemporaryDirectory(prefix="fastcifar-bench-") as folder:
        found = {c.name: c for c in all_candidates(split, plan.global_batch_size, Path(folder))}

        def report(laps: dict[str, Lap]) -> None:
            rows = [_row(laps, candidate) for candidate in found.values()]
            if rows[0].images_per_s is not None:
                rows[0].figures["verdict"] = _words(plan)
            put(*rows)

        measure.interleave(
            [contender(candidate, plan.images) for candidate in found.values()],
            seconds=plan.seconds,
            rounds=plan.rounds,
            after_round=report,
        )


def _row(laps: dict[str, Lap], candidate: Candidate) -> Row:
    is_augmented = candidate.name.startswith(f"{AUGMENTED}/")
    reference, ours = TEXTBOOK, OURS
    if is_augmented:
        reference, ours = augmented(TEXTBOOK), augmented(OURS)
    figures = {"differs": candidate.differs} if candidate.differs else {}
    row = measure.row(
        laps, candidate.name, ratios_to=[] if candidate.name == reference else [reference]
    )
    if row.images_per_s is not None:
        row.figures.update(figures)
        gain = measure.ratio(laps, ours, candidate.name)
        if gain is not None and candidate.name != ours:
            row.figures["ours_to_this"] = dataclasses.asdict(gain)
    return row
