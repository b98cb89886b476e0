"""Ingest without a source: encoded images in memory, in and out of order."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from fastcifar.data.sources.ingest import Chunk, EncodedSplit, choose_storage_size, ingest
from fastcifar.data.split import Splits
from fastcifar.errors import SourceError

NAMES = ("cat", "dog")


class Source:
    """Square images of given sizes, image k in shade k; counts how often it is read."""

    def __init__(self, sizes: list[int], order: list[int] | None = None) -> None:
        self.sizes, self.order, self.readings = sizes, order or list(range(len(sizes))), 0

    def chunks(self) -> Iterator[Chunk]:
        self.readings += 1
        for start in range(0, len(self.order), 4):
            rows = np.array(self.order[start : start + 4])
            yield rows, rows % 2, [self._png(row) for row in rows]

    def _png(self, row: int) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (self.sizes[row],) * 2, (row, row, row)).save(buffer, "PNG")
        return buffer.getvalue()

    def split(self, count: int | None = None) -> EncodedSplit:
        return EncodedSplit(count or len(self.sizes), self.chunks, str)


def run(storage_size: int | None = None, **sources: Source | EncodedSplit) -> Splits:
    encoded = {n: s.split() if isinstance(s, Source) else s for n, s in sources.items()}
    return ingest(
        encoded,
        NAMES,
        storage_size=storage_size,
        seed=0,
        skip_unreadable=False,
        progress=None,
        notes=["from the source"],
    )


def test_rows_decide_the_order_not_the_reading() -> None:
    splits = run(train=Source([3] * 6, order=[5, 0, 3, 1, 4, 2]), test=Source([3] * 2))
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


def test_fewer_images_than_announced_are_an_error() -> None:
    with pytest.raises(SourceError, match=r"says that it holds 9 images\. Received: 6"):
        run(train=Source([3] * 6).split(count=9), test=Source([3] * 2))


def test_a_split_without_images_is_an_error() -> None:
    with pytest.raises(SourceError, match="the test split must hold images"):
        run(train=Source([3] * 6), test=Source([]))
