"""Which image files there are, and what each one is: a folder for each class, or a CSV.

Nothing is opened here but the CSV: names, sizes and times are all that is looked at.

A class is a folder that holds images; its name is its path, so that `animals/cat` is one as well
as `cat`. Files count by their suffix, in any case; hidden files and folders do not. Links may lead
anywhere inside the folder, but not out of it: what is trained on is what is there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastcifar.data.prepared import FileStamp
from fastcifar.errors import SourceError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")

# What the folder of a split may be called, in any case; the first one present counts.
_SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "test": ("test",),
    "validation": ("validation", "valid", "val"),
}


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


def list_folders(root: Path) -> Listing:
    """List a folder of class folders, or of train, test and validation folders of class folders.

    Labels follow the sorted class names, files the sorted class names and then their own.

    Raises:
        SourceError: if the folder is absent or holds no classes, one class only, an empty class
            folder or splits with different classes, or if a link leads out of it or in a circle.
        OSError: if it cannot be read.
    """
    notes: list[str] = []
    folders = _find_splits(root, notes)
    ignored = _Ignored([], [])
    found = {name: _Walk(root, folder, ignored).classes for name, folder in folders.items()}
    _check_classes(found, root, folders["train"])
    notes += ignored.notes()
    names = tuple(sorted(found["train"]))
    splits = {}
    for split, classes in found.items():
        counts = [len(classes[name]) for name in names]
        files = [stamp for name in names for stamp in sorted(classes[name])]
        splits[split] = ListedSplit(files, np.repeat(np.arange(len(names)), counts))
    return Listing(root, splits, names, tuple(notes))


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


def stamp(root: Path, relative: str) -> FileStamp:
    """Return the stamp of a file; of one that cannot be looked at, size and time are -1."""
    try:
        status = os.stat(root / relative)
    except OSError:
        return FileStamp(relative, -1, -1)
    return FileStamp(relative, status.st_size, status.st_mtime_ns)


def leaves(real_root: str, path: str) -> bool:
    """Whether a path leads out of the folder `real_root` (whose own links are resolved)."""
    return os.path.commonpath([real_root, os.path.realpath(path)]) != real_root


def is_text(name: str) -> bool:
    """Whether `name` is text: the system hands over undecodable bytes as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _find_splits(root: Path, notes: list[str]) -> dict[str, Path]:
    """Return the folder of each split that there is; that of train is `root` in a lone folder."""
    if not root.is_dir():
        rule = "is a file, not a folder" if root.exists() else "does not exist"
        raise SourceError(
            "--data-path must name a folder that holds train/CLASS/*.jpg or CLASS/*.jpg, or a CSV. "
            f"Received: {str(root)!r}, which {rule}"
        )
    folders = {
        name.casefold(): root / name
        for name in sorted(os.listdir(root))
        if not name.startswith(".") and (root / name).is_dir()
    }
    found = {
        split: next(folders[name] for name in names if name in folders)
        for split, names in _SPLIT_FOLDERS.items()
        if any(name in folders for name in names)
    }
    if not found:
        return {"train": root}
    if "train" not in found:
        raise SourceError(
            f"a folder with a {', '.join(path.name for path in found.values())} folder must have "
            f"a train folder too. Received: {str(root)!r} without one"
        )
    others = sorted(repr(path.name) for path in set(folders.values()) - set(found.values()))
    if others:
        notes.append(f"folders ignored beside {found['train'].name!r}: {', '.join(others)}")
    return found


@dataclass
class _Walk:
    """Finds the class folders below the folder of a split; `classes` maps each to its files."""

    root: Path
    folder: Path
    ignored: _Ignored
    classes: dict[str, list[FileStamp]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._real_root = os.path.realpath(self.root)
        self._above: list[str] = []  # real paths of the folders on the way down, against circles
        relative = os.path.relpath(self.folder, self.root)
        self._check_link(relative, str(self.folder))
        self._enter(str(self.folder), "" if relative == "." else f"{relative}/", "")

    def _enter(self, folder: str, relative: str, name: str) -> None:
        real = os.path.realpath(folder)
        if real in self._above:
            raise SourceError(
                f"links in --data-path must not lead in a circle. Received: {folder!r}, which "
                f"leads back to {real!r}"
            )
        self._above.append(real)
        files: list[FileStamp] = []
        inner: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = relative + entry.name
                if entry.is_symlink():
                    self._check_link(path, entry.path)
                is_image = entry.name.lower().endswith(SUFFIXES)
                if is_image and name:
                    files.append(_stamp(entry, path))
                elif entry.is_dir():
                    inner.append(entry.name)
                elif is_image:
                    self.ignored.images.append(path)
                elif name:
                    self.ignored.others.append(path)
        # A folder of folders is no class; one that holds nothing at all is an empty class.
        if name and (files or not inner):
            self.classes[name] = files
        for each in inner:
            inside = f"{name}/{each}" if name else each
            self._enter(f"{folder}/{each}", f"{relative}{each}/", inside)
        self._above.pop()

    def _check_link(self, relative: str, path: str) -> None:
        if leaves(self._real_root, path):
            raise SourceError(
                f"links in --data-path must not lead out of it. Received: {relative!r}, which "
                f"leads to {os.path.realpath(path)!r}: put the files themselves there"
            )


def _stamp(entry: os.DirEntry[str], relative: str) -> FileStamp:
    try:
        status = entry.stat()
    except OSError:  # a broken link; opening it will say so
        return FileStamp(relative, -1, -1)
    return FileStamp(relative, status.st_size, status.st_mtime_ns)


def _check_classes(
    splits: Mapping[str, Mapping[str, Sequence[FileStamp]]], root: Path, train_folder: Path
) -> None:
    train = splits["train"]
    if not train:
        raise SourceError(
            "there must be a folder for each class, as in train/CLASS/*.jpg or CLASS/*.jpg. "
            f"Received: no folder in {str(train_folder)!r}"
        )
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
                    f"Received: none in {name!r} of {split} in {str(root)!r}"
                )
            if not is_text(name):
                raise SourceError(
                    f"class folders must have UTF-8 names. Received: {os.fsencode(name)!r}"
                )
