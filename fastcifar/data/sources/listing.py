"""Which image files there are, and what each one is: a folder for each class, or a CSV.

Nothing is opened here but the CSV: names, sizes and times are all that is looked at.

A class is a folder that holds images; its name is its path below the folder of its split, so that
`animals/cat` is one as well as `cat`. Which folders are splits is for
`fastcifar.data.sources.split_folders` to know, what counts for `folder_tree`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastcifar.data.prepared import FileStamp
from fastcifar.data.sources.class_names import (
    check_distinct,
    check_parents,
    order_notes,
    without_common_end,
)
from fastcifar.data.sources.folder_tree import SUFFIXES, Folder, open_folder
from fastcifar.data.sources.split_folders import find_splits
from fastcifar.errors import SourceError


@dataclass(frozen=True)
class ListedSplit:
    """The files of one split.

    Attributes:
        files: paths relative to the root, with size and time.
        labels: int64 [N].
    """

    files: Sequence[FileStamp]
    labels: np.ndarray


@dataclass(frozen=True)
class Listing:
    """The files of a set.

    Attributes:
        root: what the paths are relative to.
        splits: "train", and "test" and "validation" where there are any.
        class_names: the name of each label.
        notes: what does not count, one line each.
        lists: the files beside the images that decide about splits and labels.
    """

    root: Path
    splits: Mapping[str, ListedSplit]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    lists: tuple[FileStamp, ...] = ()


def list_folders(root: Path, *, to_train: bool = True) -> Listing:
    """List a folder of class folders, or of train, test and validation folders of class folders.

    Labels follow the sorted class names, files the sorted class names and then their own.

    Args:
        root: the folder.
        to_train: ask for what training needs: a train split, at least two classes, and an image of
            every class in every split. Without it any labelled images will do.

    Raises:
        SourceError: if the folder is absent or holds no classes, or not what training needs; if
            names of classes or of splits can be meant in two ways; or if a link leads out of it or
            in a circle.
        OSError: if it cannot be read.
    """
    if not root.is_dir():
        rule = "is a file, not a folder" if root.exists() else "does not exist"
        raise SourceError(
            "--data-path must name a folder that holds train/CLASS/*.jpg or CLASS/*.jpg, or a CSV. "
            f"Received: {str(root)!r}, which {rule}"
        )
    folders, unlabelled, notes = find_splits(open_folder(root))
    if not folders or (to_train and "train" not in folders):
        without = unlabelled.get("train") or next(iter(unlabelled.values()), None)
        if without is not None and ("train" in unlabelled or not folders):
            raise SourceError(_NO_CLASSES.format(without.path))
        raise SourceError(
            f"a folder with a {', '.join(each.name for each in folders.values())} folder must have "
            f"a train folder too. Received: {str(root)!r} without one"
        )
    ignored = _Ignored([], [])
    found = {split: _classes(folder, ignored) for split, folder in folders.items()}
    called = without_common_end({name for classes in found.values() for name in classes})
    found = {
        split: {called[name]: files for name, files in classes.items()}
        for split, classes in found.items()
    }
    _check_names(found, folders)
    if to_train:
        _check_classes(found, str(root))
    else:
        found = {
            split: {name: files for name, files in classes.items() if files}
            for split, classes in found.items()
        }
    names = tuple(sorted({name for classes in found.values() for name in classes}))
    splits = {}
    for split, classes in found.items():
        here = [(label, name) for label, name in enumerate(names) if name in classes]
        labels = [label for label, _ in here]
        counts = [len(classes[name]) for _, name in here]
        files = [stamp for _, name in here for stamp in sorted(classes[name])]
        splits[split] = ListedSplit(files, np.repeat(np.array(labels, dtype=np.int64), counts))
    return Listing(root, splits, names, (*notes, *ignored.notes(), *order_notes(names)))


_NO_CLASSES = (
    "there must be a folder for each class, as in train/CLASS/*.jpg or CLASS/*.jpg. "
    "Received: no folder in {!r} that holds images"
)


class _Ignored(NamedTuple):
    """Files that do not count."""

    others: list[str]  # beside images, and none themselves
    images: list[str]  # beside class folders, and in none

    def notes(self) -> list[str]:
        return [
            f"{len(files)} {'file' if len(files) == 1 else 'files'} ignored, {why}: "
            f"{sorted(files)[0]!r}{' …' if len(files) > 1 else ''}"
            for files, why in (
                (self.others, f"not {', '.join(SUFFIXES)}"),
                (self.images, "in no class folder"),
            )
            if files
        ]


def is_text(name: str) -> bool:
    """Whether `name` is text: the system hands over undecodable bytes as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _classes(split: Folder, ignored: _Ignored) -> dict[str, list[FileStamp]]:
    """Return the files of each class below the folder of a split."""
    ignored.images.extend(stamp.path for stamp in split.images)
    classes = {}
    above = len(split.path) + 1
    for folder in split.walk():
        # A folder of folders is no class; one that holds nothing at all is an empty class.
        if folder.images or not folder.folders:
            classes[folder.path[above:]] = folder.images
        ignored.others.extend(folder.others)
    return classes


def _check_names(
    splits: Mapping[str, Mapping[str, Sequence[FileStamp]]], folders: Mapping[str, Folder]
) -> None:
    """Refuse names that are no text, or that a person would take for one class."""
    places: dict[str, str] = {}
    for split, classes in splits.items():
        for name in classes:
            if not is_text(name):
                raise SourceError(
                    f"class folders must have UTF-8 names. Received: {os.fsencode(name)!r}"
                )
            within = folders[split].relative
            places.setdefault(name, f"in {within!r}" if within else "a class folder")
        check_parents(classes)
    check_distinct(places)


def _check_classes(splits: Mapping[str, Mapping[str, Sequence[FileStamp]]], root: str) -> None:
    train = splits["train"]
    if not train:
        raise SourceError(_NO_CLASSES.format(root))
    if len(train) == 1:
        raise SourceError(
            "there must be at least two classes, one folder each. "
            f"Received: {next(iter(train))!r} alone"
        )
    for split, classes in splits.items():
        for odd, here, there in (
            (sorted(set(classes) - set(train)), split, "train"),
            (sorted(set(train) - set(classes)), "train", split),
        ):
            if odd:
                more = f", and {len(odd) - 1} more such" if len(odd) > 1 else ""
                raise SourceError(
                    f"all splits must have the same class folders. Received: {odd[0]!r} in {here} "
                    f"but not in {there}{more}"
                )
        for name, files in classes.items():
            if not files:
                raise SourceError(
                    f"every class folder must hold at least one {', '.join(SUFFIXES)} file. "
                    f"Received: none in {name!r} of {split} in {root!r}"
                )
