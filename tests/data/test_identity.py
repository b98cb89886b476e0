"""The identity of data: the same for the same images, and what differs is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fastcifar.data.identity import identify, other_classes, other_images
from fastcifar.data.records import RecordWriter, open_split
from fastcifar.data.split import Split, Splits

NAMES = ("cat", "dog", "emu")


def split_of(count: int, seed: int = 0, side: int = 4) -> Split:
    images = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)
    return Split(images, np.arange(count) % 3, NAMES)


def splits(**changes) -> Splits:
    parts = {"train": split_of(9), "validation": split_of(3, 1), "test": split_of(6, 2)}
    return Splits(**{**parts, **changes})


def test_what_is_on_disk_has_the_identity_of_what_is_in_memory(tmp_path: Path) -> None:
    whole, on_disk = split_of(9), {}
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        writer = RecordWriter(folder, "train", count=9, size=4)
        writer.add(whole.images, whole.labels)
        on_disk = open_split(folder, "train", writer.close(), size=4, class_names=NAMES)
        assert identify(splits(train=on_disk)) == identify(splits())
    order = np.array([3, 1, 2])
    taken = splits(train=on_disk.take(order)), splits(train=whole.take(order))
    assert identify(taken[0]) == identify(taken[1])


def one_pixel() -> Split:
    other = split_of(9)
    other.images[5, 1, 1, 1] ^= 1
    return other


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"train": split_of(12)}, ["train: 9 images before, 12 now"]),
        ({"train": one_pixel()}, ["train: 9 images, the content of some is another"]),
        (
            {"train": split_of(9).take(np.arange(9)[::-1])},
            ["train: the same images in another order"],
        ),
        (
            {"test": dataclasses.replace(split_of(6, 2), labels=np.array([0, 1, 2, 0, 2, 1]))},
            ["test: the same images with other labels"],
        ),
        ({"validation": None}, ["validation: 3 images before, 0 now"]),
        (
            {"train": split_of(9, side=5), "validation": None, "test": split_of(7, 2, side=5)},
            [
                "train: images of 4×4 before, of 5×5 now",
                "validation: 3 images before, 0 now",
                "test: 6 images before, 7 now",
            ],
        ),
    ],
)
def test_what_differs_is_named(changes: dict[str, Split | None], expected: list[str]) -> None:
    before, now = identify(splits()), identify(splits(**changes))
    assert other_images(before, now) == expected
    assert other_images(before, now, ["test"]) == [e for e in expected if e.startswith("test")]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NAMES, None),
        (("cat", "fox", "emu"), "class 1 was 'dog' and is 'fox'"),
        (("dog", "cat", "emu"), "class 0 was 'cat' and is 'dog', and 1 more differs"),
        (("a", "b", "c"), "class 0 was 'cat' and is 'a', and 2 more differ"),
        (("cat", "dog"), "2 classes in place of 3, without 'emu'"),
        (("cat", "dog", "emu", "fox"), "4 classes in place of 3, with 'fox'"),
        (("cat", "fox"), "2 classes in place of 3, without 'dog', 'emu' and with 'fox'"),
    ],
)
def test_classes_that_differ_are_named(now: tuple[str, ...], expected: str | None) -> None:
    assert other_classes(NAMES, now) == expected
