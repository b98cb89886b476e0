"""Images on disk, read by position: TFDS ArrayRecord files.

A split is a few shards `images-SPLIT.array_record-00000-of-00004` of `tf.train.Example`s with the
pixels of one image ("image") and its label ("label"). With the metadata that `describe` writes the
folder is a TFDS data set, which `tfds.builder_from_directory(folder).as_data_source()` reads.

Pixels are stored as they are. Measured on 32, 96 and 224 pixels, reading an uncompressed record
costs a few µs and a copy; PNG saves a fifth to a half of the disk but takes ten times as long to
decode, and ArrayRecord's own compression takes twice as long for a few per cent.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.data.checksums import image_digests
from fastcifar.data.split import Split
from fastcifar.data.storage import empty_images
from fastcifar.errors import SourceError

_DATASET = "images"  # what TFDS calls the set

# A shard is at least so large, and a split has at most so many of them: a batch of random images
# asks each shard once, and every shard costs an open file.
_SHARD_BYTES = 64 << 20
_MOST_SHARDS = 64

# One record to a group, so that reading one image reads one image.
_WRITER_OPTIONS = "group_size:1,uncompressed"
_READER_OPTIONS = "readahead_buffer_size:0"  # the next record is somewhere else

# Images read at once where a split is brought into memory.
_BULK_BYTES = 32 << 20


class RecordWriter:
    """Writes the images of one split; its files get their names at `close`.

    Args:
        folder: where to; exists.
        split: name of the split.
        count: the images that will come, or a few more.
        size: height and width in pixels.

    Raises:
        OSError: from every method, if the disk refuses.
    """

    def __init__(self, folder: Path, split: str, *, count: int, size: int):
        self._folder, self._split = folder, split
        total = count * size * size * 3
        shards = min(_MOST_SHARDS, max(1, total // _SHARD_BYTES))
        self._rows = -(-count // shards)
        self._counts: list[int] = []
        self._labels: list[np.ndarray] = []
        self._digests: list[np.ndarray] = []
        self._writer: Any = None

    def add(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Append images (uint8 [m, S, S, 3]) and labels (int64 [m])."""
        self._labels.append(labels.astype(np.int64))
        self._digests.append(image_digests(images))
        for image, label in zip(images, labels.tolist(), strict=True):
            if not self._counts or self._counts[-1] == self._rows:
                self._next_shard()
            with _disk_errors():
                self._writer.write(_serialise(image, label))
            self._counts[-1] += 1

    def close(self) -> tuple[int, ...]:
        """Finish the files; return how many images each shard holds."""
        self._close_shard()
        for number in range(len(self._counts)):
            shard = shard_name(self._split, number, len(self._counts))
            os.rename(self._partial(number), self._folder / shard)
        for name, parts, dtype in (
            (labels_name(self._split), self._labels, np.int64),
            (digests_name(self._split), self._digests, np.uint64),
        ):
            np.save(self._folder / name, np.concatenate([np.empty(0, dtype), *parts]))
        return tuple(self._counts)

    def discard(self) -> None:
        """Remove what has been written."""
        with contextlib.suppress(OSError):
            self._close_shard()
        for number in range(len(self._counts)):
            self._partial(number).unlink(missing_ok=True)

    def _partial(self, number: int) -> Path:
        return self._folder / f"{self._split}-{number}.partial"

    def _next_shard(self) -> None:
        from array_record.python import array_record_module

        self._close_shard()
        path = self._partial(len(self._counts))
        self._writer = array_record_module.ArrayRecordWriter(str(path), _WRITER_OPTIONS)
        self._counts.append(0)

    def _close_shard(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with _disk_errors():
                writer.close()


def shard_name(split: str, number: int, shards: int) -> str:
    """The file name of a shard, as TFDS expects it."""
    return f"{_DATASET}-{split}.array_record-{number:05d}-of-{shards:05d}"


def labels_name(split: str) -> str:
    """The file name of a split's labels: int64 [N], so that they need not be read from records."""
    return f"labels-{split}.npy"


def digests_name(split: str) -> str:
    """The file name of a split's digests: uint64 [N], `image_digests` of its images."""
    return f"digests-{split}.npy"


def describe(
    folder: Path, counts: Mapping[str, Sequence[int]], class_names: Sequence[str], size: int
) -> None:
    """Write the metadata that makes the folder a TFDS data set.

    Args:
        folder: holds the shards.
        counts: for each split, how many images each shard holds.
        class_names: the name of each label.
        size: height and width in pixels.
    """
    import tensorflow_datasets as tfds

    template = tfds.core.ShardedFileTemplate(
        dataset_name=_DATASET,
        data_dir=folder,
        filetype_suffix="array_record",
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )
    label = tfds.features.ClassLabel(num_classes=len(class_names))
    label.names = [" ".join(name.splitlines()) for name in class_names]  # TFDS keeps one a line
    # TFDS warns of a deprecated property of its own.
    logging.getLogger("absl").setLevel(logging.ERROR)
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Tensor(
                    shape=(size, size, 3), dtype=np.uint8, encoding=tfds.features.Encoding.BYTES
                ),
                "label": label,
            }
        ),
        split_infos=[
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=list(lengths),
                num_bytes=sum(lengths) * size * size * 3,
                filename_template=template.replace(split=split),
            )
            for split, lengths in counts.items()
        ],
        filename_template=template,
        check_data=False,  # it would read by tf.data, which ArrayRecord does not support
        supervised_keys=("image", "label"),
    )


@dataclass(frozen=True)
class Records:
    """The shards of one split.

    Attributes:
        paths: of the shards.
        counts: images in each.
        size: height and width in pixels.
        digests: uint64 [N], `image_digests` of all images.
    """

    paths: tuple[Path, ...]
    counts: tuple[int, ...]
    size: int
    digests: np.ndarray

    def __len__(self) -> int:
        return sum(self.counts)

    def read(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the images at `rows` (int64 [b], any order): uint8 [b, S, S, 3].

        Works eagerly and inside tf.data, where calls run in parallel.
        """
        examples = tf.numpy_function(self._examples, [rows], tf.string, stateful=False)
        examples.set_shape(rows.shape)
        feature = {"image": tf.io.FixedLenFeature([], tf.string)}
        pixels = tf.io.decode_raw(tf.io.parse_example(examples, feature)["image"], tf.uint8)
        return tf.reshape(pixels, [rows.shape[0] or -1, self.size, self.size, 3])

    def _examples(self, rows: np.ndarray) -> np.ndarray:
        """Read serialised examples, each shard once: object [b]."""
        found = np.empty(len(rows), dtype=object)
        shards = np.searchsorted(self._ends, rows, side="right")
        for shard in np.unique(shards):
            where = np.flatnonzero(shards == shard)
            first = self._ends[shard] - self.counts[shard]
            try:
                found[where] = self._readers[shard].read((rows[where] - first).tolist())
            except Exception as error:  # of a kind that depends on what is damaged
                raise SourceError(_UNREADABLE.format(self.paths[shard].parent, error)) from error
        return found

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self.counts)

    @functools.cached_property
    def _readers(self) -> list[Any]:
        from array_record.python import array_record_module

        return [
            array_record_module.ArrayRecordReader(str(path), _READER_OPTIONS) for path in self.paths
        ]


@dataclass(frozen=True)
class RecordSplit:
    """One part of a data set whose images stay on disk (an `Examples`).

    Attributes:
        records: where the images are.
        rows: int64 [N], which record each example is.
        labels: int64 [N].
        class_names: the name of each label, in label order.
    """

    records: Records
    rows: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of every image."""
        return self.records.size, self.records.size, 3

    @property
    def digests(self) -> np.ndarray:
        """Of the pixels of each image, uint64 [N]; read from disk, not computed."""
        return self.records.digests[self.rows]

    def take(self, indices: np.ndarray) -> RecordSplit:
        """Return the examples at `indices` (int [M]) as a new split; no image is read."""
        return RecordSplit(self.records, self.rows[indices], self.labels[indices], self.class_names)

    def in_memory(self) -> Split:
        """Read all images, and nothing twice at the same time."""
        height, width, _ = self.image_shape
        bulk = max(1, _BULK_BYTES // (3 * height * width))
        images = empty_images((len(self), *self.image_shape))
        starts = tf.data.Dataset.range(0, len(self), bulk)
        rows = tf.constant(self.rows)
        batches = starts.map(
            lambda start: self.records.read(rows[start : start + bulk]),
            num_parallel_calls=2,  # one reads while the other one is copied
        )
        with refusing_damage():
            for start, batch in zip(range(0, len(self), bulk), batches, strict=True):
                images[start : start + bulk] = batch.numpy()
        return Split(images, self.labels, self.class_names)


def join(splits: Sequence[Any]) -> RecordSplit:
    """Return the examples of several `RecordSplit`s of one set, one split after the other."""
    records = [split.records for split in splits]
    starts = np.cumsum([0, *map(len, records)])
    return RecordSplit(
        Records(
            tuple(path for each in records for path in each.paths),
            tuple(count for each in records for count in each.counts),
            records[0].size,
            np.concatenate([each.digests for each in records]),
        ),
        np.concatenate([s.rows + start for s, start in zip(splits, starts, strict=False)]),
        np.concatenate([split.labels for split in splits]),
        splits[0].class_names,
    )


_UNREADABLE = "prepared images in '{}' cannot be read: {}; remove the folder to prepare them again"


@contextlib.contextmanager
def refusing_damage() -> Iterator[None]:
    """Turn a failed read inside, which TensorFlow reports in many lines, into a `SourceError`.

    Images on disk are read while others are computed on, so a failure comes to light in whatever
    waits for the batch.
    """
    pattern = _UNREADABLE.replace("{}", "(.*?)")
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(pattern, error.message, re.DOTALL)
        if found is None:
            raise
        folder, reason = found.groups()
        raise SourceError(_UNREADABLE.format(folder, " ".join(reason.split())[:200])) from error


def open_split(folder: Path, split: str, counts: Sequence[int], **described: Any) -> RecordSplit:
    """Open a split.

    Args:
        folder: where its shards are.
        split: its name.
        counts: images in each shard.
        described: `size` and `class_names`.

    Raises:
        OSError, ValueError: if its labels cannot be read, or are none.
    """
    paths = tuple(folder / shard_name(split, k, len(counts)) for k in range(len(counts)))
    digests = np.load(folder / digests_name(split))
    labels, class_names = np.load(folder / labels_name(split)), tuple(described["class_names"])
    for name, values, dtype in (
        (digests_name(split), digests, np.uint64),
        (labels_name(split), labels, np.int64),
    ):
        if values.shape != (sum(counts),) or values.dtype != dtype:
            raise ValueError(f"{name} does not fit the shards")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
        raise ValueError(
            f"labels in {labels_name(split)} must lie in [0, {len(class_names)}), the number of "
            f"classes. Received: {labels.min()} to {labels.max()}"
        )
    records = Records(paths, tuple(counts), described["size"], digests)
    return RecordSplit(records, np.arange(len(records)), labels, class_names)


def _serialise(image: np.ndarray, label: int) -> bytes:
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # ArrayRecord's only kind
        raise OSError(str(error)) from error
