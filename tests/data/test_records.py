"""Images on disk: the same batches as from memory, and a set that TFDS reads."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.data import pipeline, records
from fastcifar.data.pipeline import Batch
from fastcifar.data.records import RecordSplit, RecordWriter, open_split
from fastcifar.data.split import Split, decoded_bytes
from fastcifar.data.splitting import hold_out, limit
from fastcifar.data.storage import empty_images
from fastcifar.errors import SourceError

EXAMPLES, SIZE, NAMES = 50, 8, ("a", "b", "c")


@pytest.fixture(scope="module")
def split() -> Split:
    images = empty_images((EXAMPLES, SIZE, SIZE, 3))
    images[:] = np.random.default_rng(0).integers(0, 256, images.shape)
    return Split(images, np.arange(EXAMPLES) % 3, NAMES)


def write(folder: Path, split: Split, name: str = "train") -> tuple[int, ...]:
    writer = RecordWriter(folder, name, count=len(split), size=split.image_shape[0])
    for start in range(0, len(split), 7):  # blocks that do not fit shards
        writer.add(split.images[start : start + 7], split.labels[start : start + 7])
    return writer.close()


@pytest.fixture(params=[1, 4], ids=["one-shard", "four-shards"])
def on_disk(
    split: Split, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> RecordSplit:
    monkeypatch.setattr(records, "_SHARD_BYTES", decoded_bytes(split) // request.param)
    counts = write(tmp_path, split)
    assert len(counts) == request.param
    return open_split(tmp_path, "train", counts, size=SIZE, class_names=NAMES)


def same(left: tuple, right: tuple) -> None:
    for one, other in zip(left, right, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def batches(split: Split | RecordSplit, first: int = 0, **arguments) -> list[Batch]:
    arguments = {"global_batch_size": 8, "replicas": 1, "seed": 5, **arguments}
    dataset = pipeline.train_batches(split, first_step=first, last_step=14, **arguments)
    assert dataset.element_spec.images.shape[1:] == (SIZE, SIZE, 3)
    assert dataset.element_spec.images.shape[0] is not None
    return list(dataset.as_numpy_iterator())


@pytest.mark.parametrize("arguments", [{}, {"replicas": 2}, {"transfer": "float32"}])
def test_batches_are_those_from_memory(split: Split, on_disk: RecordSplit, arguments: dict) -> None:
    expected, found = batches(split, **arguments), batches(on_disk, **arguments)
    assert len(expected) == 14 * arguments.get("replicas", 1)
    for one, other in zip(expected, found, strict=True):
        same(one, other)


@pytest.mark.parametrize("cache", ["disk", "none"])
def test_the_other_caches_read_the_records(split: Split, on_disk: RecordSplit, cache: str) -> None:
    for one, other in zip(batches(split), batches(on_disk, cache=cache), strict=True):
        same(one, other)


def test_batches_of_a_part_are_those_from_memory(split: Split, on_disk: RecordSplit) -> None:
    indices = np.arange(1, EXAMPLES, 2)[::-1]
    for one, other in zip(
        batches(split.take(indices)), batches(on_disk.take(indices)), strict=True
    ):
        same(one, other)


def test_resuming_continues_the_order(split: Split, on_disk: RecordSplit) -> None:
    """At step 9: in the middle of the second epoch."""
    for one, other in zip(batches(split)[9:], batches(on_disk, first=9), strict=True):
        same(one, other)


@pytest.mark.parametrize(("size", "replicas"), [(8, 1), (16, 2)])
def test_evaluation_is_that_from_memory(
    split: Split, on_disk: RecordSplit, size: int, replicas: int
) -> None:
    made = [
        pipeline.evaluation_batches(s, global_batch_size=size, replicas=replicas)
        for s in (split, on_disk)
    ]
    pairs = zip(*(dataset.as_numpy_iterator() for dataset in made), strict=True)
    assert [same(one, other) for one, other in pairs] == [None] * (-(-EXAMPLES // size) * replicas)


def test_splitting_reads_nothing_and_gives_the_same(split: Split, on_disk: RecordSplit) -> None:
    for memory, disk in (
        (limit(split, 20, seed=1), limit(on_disk, 20, seed=1)),
        *zip(hold_out(split, 0.2), hold_out(on_disk, 0.2), strict=True),
    ):
        assert isinstance(disk, RecordSplit)
        read = disk.in_memory()
        np.testing.assert_array_equal(read.images, memory.in_memory().images)
        np.testing.assert_array_equal(read.labels, memory.labels)
        assert read.class_names == NAMES


def test_tfds_reads_the_folder(split: Split, tmp_path: Path) -> None:
    import tensorflow_datasets as tfds

    counts = {"train": write(tmp_path, split), "test": write(tmp_path, split, "test")}
    records.describe(tmp_path, counts, ("a cat", "猫", "line\nbreak"), SIZE)
    builder = tfds.builder_from_directory(str(tmp_path))
    assert builder.info.supervised_keys == ("image", "label")
    assert builder.info.features["label"].names == ["a cat", "猫", "line break"]
    for name in ("train", "test"):
        examples = list(builder.as_data_source(split=name))
        assert builder.info.splits[name].num_examples == EXAMPLES
        np.testing.assert_array_equal([e["image"] for e in examples], split.images)
        np.testing.assert_array_equal([e["label"] for e in examples], split.labels)


def test_a_record_that_is_damaged_is_one_line(on_disk: RecordSplit) -> None:
    path = on_disk.records.paths[0]
    content = bytearray(path.read_bytes())
    content[1500:1600] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"prepared images in .* cannot be read") as refused:
        on_disk.in_memory()
    assert "\n" not in str(refused.value)


def test_reading_holds_no_set_in_memory(tmp_path: Path) -> None:
    """A pass over 150 MB of images takes a few batches' worth of memory."""
    import psutil

    size, count = 64, 12_000
    writer = RecordWriter(tmp_path, "train", count=count, size=size)
    block = np.random.default_rng(0).integers(0, 256, (500, size, size, 3), dtype=np.uint8)
    for _ in range(count // 500):
        writer.add(block, np.zeros(500, np.int64))
    opened = open_split(tmp_path, "train", writer.close(), size=size, class_names=("a", "b"))
    before, seen = psutil.Process().memory_info().rss, 0
    dataset = pipeline.train_batches(
        opened, global_batch_size=100, replicas=1, seed=0, first_step=0, last_step=count // 100
    )
    for batch in dataset:
        seen += len(batch.labels)
    assert seen == count
    assert psutil.Process().memory_info().rss - before < decoded_bytes(opened) / 2


@pytest.fixture
def _small_files() -> Iterator[None]:
    """For the time of a test, this process may write files of 1 MB at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("_small_files")
def test_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path, "train", count=1000, size=32)
    with pytest.raises(OSError, match=r"write\(\) failed: File too large"):  # noqa: PT012
        writer.add(np.ones((1000, 32, 32, 3), np.uint8), np.zeros(1000, np.int64))
        writer.close()
    writer.discard()
    assert not list(tmp_path.iterdir())


def test_shapes_are_static_in_a_graph(on_disk: RecordSplit) -> None:
    spec = tf.TensorSpec([6], tf.int64)
    traced = tf.function(on_disk.records.read).get_concrete_function(spec)
    assert traced.output_shapes == (6, SIZE, SIZE, 3)
