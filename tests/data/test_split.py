"""`Split` and `Splits` refuse what their consumers could not use."""

from __future__ import annotations

import numpy as np
import pytest

from fastcifar.data.split import Split, Splits
from fastcifar.errors import SourceError

NAMES = ("cat", "dog")


def split_of(count: int = 4, size: int = 2, names: tuple[str, ...] = NAMES) -> Split:
    labels = np.arange(count, dtype=np.int64) % len(names)
    images = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return Split(np.tile(images, (1, size, size, 3)), labels, names)


def test_take_keeps_the_order_asked_for_and_copies() -> None:
    whole = split_of()
    part = whole.take(np.array([3, 0]))
    assert part.labels.tolist() == [1, 0]
    assert part.images[:, 0, 0, 0].tolist() == [3, 0]
    assert len(part) == 2
    assert not np.shares_memory(part.images, whole.images)
    assert part.image_shape == (2, 2, 3)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 2, 2, 3), dtype=np.float32),
        np.zeros((1, 2, 2, 1), dtype=np.uint8),
        np.zeros((2, 2, 3), dtype=np.uint8),
    ],
)
def test_images_of_another_form_are_refused(images: np.ndarray) -> None:
    with pytest.raises(SourceError, match="images must be uint8 of shape"):
        Split(images, np.zeros(1, dtype=np.int64), NAMES)


@pytest.mark.parametrize(
    "labels", [np.zeros(1, dtype=np.int32), np.zeros(2, dtype=np.int64), np.zeros((1, 1), np.int64)]
)
def test_labels_of_another_form_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(SourceError, match="labels must be int64 of shape"):
        Split(np.zeros((1, 2, 2, 3), dtype=np.uint8), labels, NAMES)


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_without_a_name_are_refused(label: int) -> None:
    with pytest.raises(SourceError, match=r"labels must lie in \[0, 2\)"):
        Split(np.zeros((1, 2, 2, 3), dtype=np.uint8), np.array([label]), NAMES)


def test_splits_share_their_classes_and_image_size() -> None:
    with pytest.raises(SourceError, match="same classes"):
        Splits(split_of(), split_of(names=("cat", "cow")))
    with pytest.raises(SourceError, match="one size"):
        Splits(split_of(), split_of(), validation=split_of(size=3))
    assert Splits(split_of(), split_of()).class_names == NAMES
    assert Splits(split_of(), split_of()).notes == ()
