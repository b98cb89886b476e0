"""Ways that read files: `tfds.load` and `keras.utils.image_dataset_from_directory`.

The files are written once, to a folder that is gone when the benchmark ends.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fastcifar.bench import textbook
from fastcifar.bench.augmentation import peers
from fastcifar.bench.augmentation.names import KERAS
from fastcifar.bench.feeds.candidate import (
    POLICY,
    PREFETCH,
    SEED,
    Candidate,
    augmented,
    endless,
)
from fastcifar.data import storage
from fastcifar.data.split import Split

TFDS, DIRECTORY = "tfds_load", "image_dataset_from_directory"
_STORED = "numbered"
_FLOAT32_BYTES = 4


def candidates(split: Split, global_batch_size: int, folder: Path) -> list[Candidate]:
    """The ways that read files, with and without augmentation.

    Args:
        split: the images.
        global_batch_size: images in a batch.
        folder: where their files are written when they are first needed.
    """
    size = split.image_shape[0]
    count = len(split)
    prepared = functools.cache(lambda: _prepare_tfds(split, folder / "tfds"))
    written = functools.cache(lambda: _write_classes(split, folder / "classes"))

    budget = 2 * PREFETCH * global_batch_size * size * size * 3 * _FLOAT32_BYTES

    def tfds(augment: Any) -> Callable[[], Any]:
        def make() -> tf.data.Dataset:
            batches = endless(_load_tfds(prepared()), count, global_batch_size, augment)
            return _bounded(batches, budget)

        return make

    def directory(with_layers: bool) -> Callable[[], Any]:
        def make() -> tf.data.Dataset:
            dataset = keras.utils.image_dataset_from_directory(
                str(written()),
                image_size=(size, size),
                batch_size=global_batch_size,
                shuffle=True,
                seed=SEED,
                verbose=False,
            )
            if with_layers:
                layers = peers.make(POLICY.operations, KERAS, (size, size), (size, size))
                dataset = dataset.map(
                    lambda images, labels: (layers(images, labels)[0], labels),
                    num_parallel_calls=tf.data.AUTOTUNE,
                )
            return _bounded(dataset.repeat().prefetch(PREFETCH), budget)

        return make

    # Its last batch is what is left of the epoch.
    per_batch = count / -(-count // global_batch_size)
    buffered = "shuffles file names once, then within eight batches"
    once = "RandomCrop draws one offset for a batch"
    return [
        Candidate(TFDS, tfds(None), count, global_batch_size),
        Candidate(DIRECTORY, directory(False), count, per_batch, differs=buffered),
        Candidate(
            augmented(TFDS),
            tfds(textbook.per_image(POLICY, size)),
            count,
            global_batch_size,
        ),
        Candidate(
            augmented(DIRECTORY), directory(True), count, per_batch, differs=f"{buffered}; {once}"
        ),
    ]


def _bounded(dataset: tf.data.Dataset, budget: int) -> tf.data.Dataset:
    """Let what tunes itself keep no more than `budget` bytes ready.

    Both libraries prefetch as many batches as fit half of the memory, which would be filled while
    others are timed, and would come for nothing in the next piece.
    """
    options = tf.data.Options()
    options.autotune.ram_budget = budget
    return dataset.with_options(options)


def _prepare_tfds(split: Split, data_dir: Path) -> Path:
    import tensorflow_datasets as tfds

    def examples() -> Iterator[dict[str, Any]]:
        for image, label in zip(split.images, split.labels, strict=True):
            yield {"image": image, "label": int(label)}

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=split.image_shape, encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=len(split.class_names)),
        }
    )
    signature = {
        "image": tf.TensorSpec(split.image_shape, tf.uint8),
        "label": tf.TensorSpec([], tf.int64),
    }
    tfds.disable_progress_bar()
    logging.getLogger("absl").setLevel("ERROR")
    with contextlib.redirect_stdout(io.StringIO()):  # it says that it downloads
        tfds.dataset_builders.store_as_tfds_dataset(
            name=_STORED,
            version="1.0.0",
            features=features,
            split_datasets={
                "train": tf.data.Dataset.from_generator(examples, output_signature=signature)
            },
            data_dir=data_dir,
            disable_shuffling=True,
        )
    return data_dir


def _load_tfds(data_dir: Path) -> tf.data.Dataset:
    """As its users write it: a set this small is cached by itself."""
    import tensorflow_datasets as tfds

    dataset = tfds.load(_STORED, split="train", data_dir=str(data_dir))
    return dataset.map(lambda example: (example["image"], tf.cast(example["label"], tf.int32)))


def _write_classes(split: Split, folder: Path) -> Path:
    """Write the images as PNG into a folder for each class."""
    for name in split.class_names:
        (folder / name).mkdir(parents=True)
    encoded = storage.encode(np.asarray(split.images)).numpy()
    for number, (png, label) in enumerate(zip(encoded, split.labels, strict=True)):
        (folder / split.class_names[label] / f"{number:06d}.png").write_bytes(png)
    return folder
