"""Ingest without a source: encoded images in memory."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from fastcifar.data.prepared import Key
from fastcifar.data.sources.decode_pool import Chunk, workers_for
from fastcifar.data.sources.delivery import deliver
from fastcifar.data.sources.ingest import (
    EncodedSet,
    EncodedSplit,
    ReadOptions,
    choose_storage_size,
)
from fastcifar.data.split import Splits
from fastcifar.errors import SourceError

NAMES = ("cat", "dog")


class Source:
    """Square images of given sizes, image k in shade k; counts how often it is read."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes, self.readings = sizes, 0

    def chunks(self) -> Iterator[Chunk]:
        self.readings += 1
        for start in range(0, len(self.sizes), 4):
            rows = np.arange(start, min(start + 4, len(self.sizes)))
            yield rows % 2, [self._png(row) for row in rows]

    def _png(self, row: int) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (self.sizes[row],) * 2, (row, row, row)).save(buffer, "PNG")
        return buffer.getvalue()

    def split(self, count: int | None = None) -> EncodedSplit:
        return EncodedSplit(len(self.sizes) if count is None else count, self.chunks, str)


def run(storage_size: int | None = None, **sources: Source | EncodedSplit) -> Splits:
    encoded = {n: s.split() if isinstance(s, Source) else s for n, s in sources.items()}
    data = EncodedSet(encoded, NAMES, Key("a test", {}), ("from the source",))
    return deliver(data, ReadOptions(storage_size=storage_size))


def test_the_order_is_that_of_the_source() -> None:
    splits = run(train=Source([3] * 6), test=Source([3] * 2))
    assert splits.train.images[:, 0, 0, 0].tolist() == list(range(6))
    assert splits.train.labels.tolist() == [0, 1] * 3
    assert splits.notes == ("from the source",)


def test_one_size_is_read_once() -> None:
    """One reading, and the first chunk of another for the guess of the size."""
    train, test = Source([3] * 6), Source([3] * 2)
    assert run(train=train, test=test).train.image_shape == (3, 3, 3)
    assert (train.readings, test.readings) == (2, 1)


def test_a_chosen_size_needs_no_guess() -> None:
    train, test = Source([3] * 6), Source([3] * 2)
    assert run(storage_size=5, train=train, test=test).test.image_shape == (5, 5, 3)
    assert (train.readings, test.readings) == (1, 1)


def test_a_wrong_guess_of_the_size_is_mended() -> None:
    train, test = Source([3] * 4 + [6] * 8), Source([3] * 2)
    splits = run(train=train, test=test)
    assert splits.train.image_shape == splits.test.image_shape == (6, 6, 3)
    assert splits.train.images[:, 0, 0, 0].tolist() == list(range(12))
    assert (train.readings, test.readings) == (3, 1)
    assert splits.notes[1].startswith("6 of 14 images (3×3 to 6×6)")


def test_train_decides_the_size() -> None:
    splits = run(test=Source([9] * 20), train=Source([3] * 4))
    assert splits.test.image_shape == (3, 3, 3)


@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ([(32, 32)] * 3, 32),
        ([(32, 32), (32, 32), (1, 1)], 32),
        ([(28, 40), (30, 30), (64, 32)], 30),
        ([(500, 375)] * 3, 224),
        ([(0, 0), (0, 0), (8, 9)], 8),
        ([(0, 0)], 1),
    ],
)
def test_the_default_size_is_the_median_of_the_shorter_sides(
    shapes: list[tuple[int, int]], size: int
) -> None:
    assert choose_storage_size(np.array(shapes)) == size


@pytest.mark.parametrize(("announced", "found"), [(3, "more"), (9, "6")])
def test_another_number_of_images_than_announced_is_an_error(announced: int, found: str) -> None:
    message = f"says that it holds {announced} images. Received: {found}"
    with pytest.raises(SourceError, match=message):
        run(train=Source([3] * 6).split(count=announced), test=Source([3] * 2))


def test_a_split_without_images_is_an_error() -> None:
    with pytest.raises(SourceError, match="the test split must hold images"):
        run(train=Source([3] * 6), test=Source([]))


def test_images_without_a_label_are_an_error() -> None:
    def chunks() -> Iterator[Chunk]:
        yield np.array([-1]), [np.zeros((3, 3, 3), np.uint8)]

    with pytest.raises(SourceError, match="every image must have a label"):
        run(train=Source([3] * 6), test=EncodedSplit(1, chunks, str))


@pytest.mark.parametrize(
    ("count", "encoded_bytes", "workers"),
    [(600, 600 * 800, 1), (60_000, 60_000 * 800, 8), (2000, 2000 * 100_000, 8)],
)
def test_processes_are_started_where_they_pay(count: int, encoded_bytes: int, workers: int) -> None:
    assert workers_for(count, encoded_bytes, cores=8) == workers
