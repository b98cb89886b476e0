"""Kaggle's CIFAR-10: the files of the competition, from a folder or from Kaggle itself.

    FOLDER/trainLabels.csv     columns id and label: 12,frog
    FOLDER/train/12.png        one image for each row; or
    FOLDER/train.7z            the archive they come in, unpacked here into FOLDER/train

The competition keeps the labels of its test images to itself, so a part of these is held out as
test, as for any set without one.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastcifar.data import storage
from fastcifar.data.prepared import FileStamp, Key
from fastcifar.data.sources.class_names import bare
from fastcifar.data.sources.delivery import deliver
from fastcifar.data.sources.folder_tree import leaves, stamp
from fastcifar.data.sources.image_folder import encoded_split
from fastcifar.data.sources.ingest import EncodedSet, ReadOptions
from fastcifar.data.sources.kaggle_archive import unpack
from fastcifar.data.sources.kaggle_download import COMPETITION, download
from fastcifar.data.sources.listing import ListedSplit
from fastcifar.data.split import Splits
from fastcifar.errors import SourceError, nearest
from fastcifar.paths import local_path

DATASET = "cifar10"
_NAMES = "airplane automobile bird cat deer dog frog horse ship truck"
CLASSES = tuple(_NAMES.split())
LABELS, IMAGES, ARCHIVE = "trainLabels.csv", "train", "train.7z"
_SUFFIX = ".png"


def load_kaggle(
    *, dataset: str = DATASET, data_path: str | None = None, options: ReadOptions | None = None
) -> Splits:
    """Read the images of the competition; see `encoded_set` for arguments and errors.

    Returns:
        Splits of uint8 [N, size, size, 3] images, in the order of the labels' rows; test is held
        out of each class.
    """
    options = options or ReadOptions()
    return deliver(encoded_set(dataset, data_path, options), options)


def encoded_set(dataset: str, data_path: str | None, options: ReadOptions) -> EncodedSet:
    """Find the files of the competition, download and unpack them where needed, and list them.

    Args:
        dataset: cifar10, the one competition that this source knows.
        data_path: the folder that holds the files, `~` is understood; None for a folder in
            fastcifar's cache, into which they are downloaded with the user's key.
        options: how to read it.

    Raises:
        SourceError: if a file is missing, damaged or cannot be downloaded, or if labels and images
            do not fit together.
    """
    if dataset != DATASET:
        raise SourceError(
            f"--source kaggle reads the competition {COMPETITION}, so --dataset must be {DATASET}. "
            f"Received: {dataset!r}"
        )
    notes: list[str] = []
    if data_path is None:
        root = storage.cache_folder() / "kaggle" / COMPETITION
        wanted = [LABELS] if (root / IMAGES).is_dir() else [LABELS, ARCHIVE]
        notes += download(root, wanted, options.progress)
    else:
        root = Path(local_path("data-path", str(data_path)))
    try:
        _check_layout(root)
        if not (root / IMAGES).is_dir():
            unpack(root / ARCHIVE, root / IMAGES, _SUFFIX, options.progress)
            notes.append(f"{ARCHIVE} was unpacked into {str(root / IMAGES)!r}")
        listed, more = _list(root)
    except OSError as error:
        raise SourceError(f"--data-path must be readable. Received: {error}") from error
    return EncodedSet(
        splits={"train": encoded_split(root, listed)},
        class_names=CLASSES,
        key=Key(
            origin=os.path.realpath(root / LABELS),
            options={"storage_size": options.storage_size, "non_square": options.non_square},
            files=[stamp(root, LABELS), *listed.files],
        ),
        notes=(*notes, *more),
    )


def _check_layout(root: Path) -> None:
    """Refuse a folder that is not the competition's, before anything is unpacked into it."""
    rule = (
        f"--data-path must be a folder with {LABELS} and with {IMAGES}/*{_SUFFIX} or {ARCHIVE}, or "
        "be left out to download them"
    )
    if not root.is_dir():
        state = "is a file, not a folder" if root.exists() else "does not exist"
        raise SourceError(f"{rule}. Received: {str(root)!r}, which {state}")
    missing = [] if (root / LABELS).is_file() else [LABELS]
    if not (root / IMAGES).is_dir() and not (root / ARCHIVE).is_file():
        missing.append(f"{IMAGES} and {ARCHIVE}")
    if missing:
        raise SourceError(f"{rule}. Received: {str(root)!r} without {' and '.join(missing)}")


def _list(root: Path) -> tuple[ListedSplit, list[str]]:
    """Return the images in the order of their labels, and notes on what does not count."""
    rows = list(_read_rows(root / LABELS))
    stamps, others = _find_images(root)
    _check_fit([(line, name) for line, name, _ in rows], stamps)
    labels = np.array([CLASSES.index(label) for _, _, label in rows], dtype=np.int64)
    absent = sorted(set(range(len(CLASSES))) - set(labels.tolist()))
    if absent:
        raise SourceError(
            f"{LABELS} must have an image of every class. "
            f"Received: none of class {CLASSES[absent[0]]!r}"
        )
    notes = []
    if others:
        files = "1 file" if len(others) == 1 else f"{len(others)} files"
        notes.append(f"{files} ignored, not {_SUFFIX}: {sorted(others)[0]!r}")
    return ListedSplit([stamps[name] for _, name, _ in rows], labels), notes


def _read_rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield (line, id, label) of each row."""
    seen: dict[str, int] = {}
    try:
        # utf-8-sig: spreadsheets write a byte order mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns = [bare(column) for column in next(reader, [])]
            if columns != ["id", "label"]:
                raise SourceError(
                    f"{LABELS} must have the columns id and label, named in the first line. "
                    f"Received: {', '.join(columns) or 'an empty file'}"
                )
            for values in reader:
                if not values:  # an empty line
                    continue
                where = f"{LABELS} line {reader.line_num}"
                values = [bare(value) for value in values]
                if len(values) != 2 or not all(values):
                    raise SourceError(f"{where}: a row must be id,label. Received: {values}")
                name, label = values
                if label not in CLASSES:
                    raise SourceError(
                        f"{where}: a label must be one of {', '.join(CLASSES)}. "
                        f"Received: {label!r}.{nearest(label, CLASSES)}"
                    )
                if name in seen:
                    raise SourceError(
                        f"{where}: every id must be there once. Received: {name!r}, which line "
                        f"{seen[name]} has too"
                    )
                seen[name] = reader.line_num
                yield reader.line_num, name, label
    except UnicodeDecodeError as error:
        raise SourceError(f"{LABELS} must be UTF-8 text. Received: {error}") from error
    except csv.Error as error:
        raise SourceError(f"{LABELS} must be CSV. Received: {error}") from error


def _find_images(root: Path) -> tuple[dict[str, FileStamp], list[str]]:
    """Return the images by id, and the names of other files; hidden ones do not count."""
    stamps: dict[str, FileStamp] = {}
    others: list[str] = []
    real_root = os.path.realpath(root)
    with os.scandir(root / IMAGES) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = f"{IMAGES}/{entry.name}"
            if not entry.name.endswith(_SUFFIX):
                others.append(path)
                continue
            if entry.is_symlink() and leaves(real_root, entry.path):
                raise SourceError(
                    f"links in --data-path must not lead out of it. Received: {path!r}, which "
                    f"leads to {os.path.realpath(entry.path)!r}: put the files themselves there"
                )
            stamps[entry.name.removesuffix(_SUFFIX)] = stamp(root, path)
    return stamps, others


def _check_fit(rows: list[tuple[int, str]], stamps: dict[str, FileStamp]) -> None:
    """Refuse labels without an image and images without a label."""
    bare = [(line, name) for line, name in rows if name not in stamps]
    if bare:
        line, name = bare[0]
        more = f", and {len(bare) - 1} more are missing" if len(bare) > 1 else ""
        raise SourceError(
            f"{LABELS} line {line}: a label must have its image. "
            f"Received: {name!r}, but {IMAGES}/{name}{_SUFFIX} is not there{more}"
        )
    labelled = {name for _, name in rows}
    bare_images = [name for name in stamps if name not in labelled]
    if bare_images:
        first = min(bare_images, key=lambda name: (len(name), name))
        more = f", and {len(bare_images) - 1} more" if len(bare_images) > 1 else ""
        raise SourceError(
            f"every image in {IMAGES} must have a label in {LABELS}. "
            f"Received: {first + _SUFFIX!r} without one{more}"
        )
