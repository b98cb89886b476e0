"""Kaggle's CIFAR-10 from a folder: labels against files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastcifar.data import sources
from fastcifar.data.sources import kaggle
from fastcifar.data.split import Splits
from fastcifar.errors import SourceError
from tests.data.sources.competition import COUNT, labels, png, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "cifar-10")


def load(folder: Path, **more) -> Splits:
    return sources.load("kaggle", data_path=str(folder), **more)


def test_images_come_in_the_order_of_their_labels(folder: Path) -> None:
    rows = labels().splitlines(keepends=True)
    (folder / "trainLabels.csv").write_text("".join([rows[0], *reversed(rows[1:])]))
    splits = load(folder)
    assert splits.class_names == kaggle.CLASSES
    assert splits.validation is None
    assert len(splits.train) + len(splits.test) == COUNT
    for split in (splits.train, splits.test):
        shades = split.images[:, 0, 0, 0].astype(int)
        assert (np.diff(shades) < 0).all()
        np.testing.assert_array_equal(split.labels, shades % 10)
        assert split.images.shape[1:] == (4, 4, 3)
    # The competition keeps the labels of its test images: a share of train is held out.
    assert np.bincount(splits.test.labels, minlength=10).tolist() == [1] * 10
    (note,) = splits.notes
    assert note.startswith("there is no test split: 10% of train")


def test_the_same_each_time_and_from_disk(folder: Path) -> None:
    first, again = load(folder), load(folder)
    assert first.train.images.tobytes() == again.train.images.tobytes()
    other = load(folder, seed=1)
    assert other.test.images.tobytes() == first.test.images.tobytes()
    large = load(folder, memory_budget=1)
    assert large.train.in_memory().images.tobytes() == first.train.images.tobytes()
    # A changed label is a changed set, though no image is another.
    (folder / "trainLabels.csv").write_text(labels().replace("1,automobile", "1,truck", 1))
    changed = load(folder, memory_budget=1)
    assert any("has changed since it was prepared" in note for note in changed.notes)


def test_what_is_no_image_is_noted(folder: Path) -> None:
    (folder / "train/readme.txt").write_text("x")
    (folder / "train/.hidden").write_text("x")
    (folder / "sampleSubmission.csv").write_text("id,label\n")
    assert load(folder).notes[0] == "1 file ignored, not .png: 'train/readme.txt'"


def test_a_byte_order_mark_and_empty_lines_do_not_matter(folder: Path) -> None:
    text = "\ufeff" + labels().replace("\n", "\r\n") + "\r\n"
    (folder / "trainLabels.csv").write_bytes(text.encode())
    assert len(load(folder).train) == COUNT - 10


def test_unreadable_images_are_refused_or_skipped(folder: Path) -> None:
    (folder / "train/7.png").write_bytes(b"")
    with pytest.raises(SourceError, match=r"1 unreadable image: 'train/7\.png' \(an empty file\)"):
        load(folder)
    splits = load(folder, skip_unreadable=True)
    assert len(splits.train) + len(splits.test) == COUNT - 1


def without(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def rows(change: Callable[[str], str]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / "trainLabels.csv").write_text(change(labels()))

    return spoil


def images_without_labels(folder: Path) -> None:
    for number in (301, 99):
        (folder / f"train/{number}.png").write_bytes(png(0))


def labels_without_images(folder: Path) -> None:
    for number in (5, 6, 7):
        (folder / f"train/{number}.png").unlink()


def link_out(folder: Path) -> None:
    (folder / "train/5.png").unlink()
    (folder.parent / "secret.png").write_bytes(png(5))
    (folder / "train/5.png").symlink_to(folder.parent / "secret.png")


def no_text(folder: Path) -> None:
    (folder / "trainLabels.csv").write_bytes(b"id,label\n\xff\xfe,cat\n")


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("x")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("."), "must be a folder with trainLabels.csv .*, which does not exist"),
        (a_file, "must be a folder with trainLabels.csv .*, which is a file, not a folder"),
        (without("trainLabels.csv"), r"cifar-10' without trainLabels\.csv$"),
        (without("train"), r"cifar-10' without train and train\.7z$"),
        (
            labels_without_images,
            r"line 6: a label must have its image\. Received: '5', but train/5\.png is not there, "
            "and 2 more are missing",
        ),
        (
            images_without_labels,
            r"every image in train must have a label .* Received: '99\.png' without one, and 1 mor",
        ),
        (
            rows(lambda text: text.replace("cat", "kat", 1)),
            r"line 4: a label must be one of airplane, .* Received: 'kat'\. Did you mean 'cat'\?",
        ),
        (rows(lambda text: text + "3,cat\n"), "line 32: every id must be there once.* line 4 has"),
        (rows(lambda text: text + "31\n"), r"line 32: a row must be id,label\. Received: \['31'\]"),
        (rows(lambda text: text + "31,\n"), "line 32: a row must be id,label"),
        (rows(lambda text: text + "../3,cat\n"), r"line 32: a label must have its image.*'\.\./3'"),
        (
            rows(lambda text: text.replace("id,", "name,")),
            "must have the columns id and label.*nam",
        ),
        (rows(lambda text: ""), "must have the columns id and label.* Received: an empty file"),
        (rows(lambda text: "id,label\n"), "every image in train must have a label"),
        (rows(lambda text: text.replace("ship", "cat")), "of every class. .* none of class 'ship'"),
        (rows(lambda text: text + '"31,cat\n'), "must be CSV"),
        (no_text, "must be UTF-8 text"),
        (link_out, r"must not lead out of it\. Received: 'train/5\.png'"),
    ],
)
def test_a_folder_that_cannot_be_meant_is_one_line(
    folder: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(folder)
    with pytest.raises(SourceError, match=message) as refused:
        load(folder)
    assert "\n" not in str(refused.value)


def test_another_set_is_not_in_the_competition(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"--dataset must be cifar10\. Received: 'cifar100'"):
        load(folder, dataset="cifar100")


def test_a_folder_that_cannot_be_read_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scandir(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(kaggle.os, "scandir", scandir)
    with pytest.raises(SourceError, match=r"must be readable\. Received: .* Permission denied: '"):
        load(folder)
