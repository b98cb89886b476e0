"""A CSV of files and labels, as an alternative to class folders.

    file,label,split            the first line names the columns; split may be left out
    photos/1.jpg,cat,train      paths are relative to the folder of the CSV
    photos/2.jpg,dog,test       train, validation or test, or as folders of splits may be called

Where a file `classes.txt` lies beside it, that is the list of classes, one name a line, in the
order of the labels; otherwise the classes are the sorted labels of the training rows. Rows keep
their order. Blanks and byte order marks around a value do not count.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastcifar.data.prepared import FileStamp
from fastcifar.data.sources.class_names import bare, check_distinct, order_notes
from fastcifar.data.sources.folder_tree import SUFFIXES, leaves, stamp
from fastcifar.data.sources.listing import ListedSplit, Listing
from fastcifar.data.sources.split_folders import split_names
from fastcifar.errors import SourceError, nearest

COLUMNS = ("file", "label", "split")
_SPLITS = ("train", "validation", "test")
_CLASSES = "classes.txt"

# What spreadsheets and pandas write where there is no value (pandas' own list).
_NO_VALUE = (
    "#N/A #NA -1.#IND -1.#QNAN -NaN -nan 1.#IND 1.#QNAN <NA> N/A NA NULL NaN None n/a nan null NAN"
)
_MISSING = frozenset(_NO_VALUE.split())


class _Row(NamedTuple):
    line: int
    file: str
    label: str
    split: str


def list_csv(path: Path, *, to_train: bool = True) -> Listing:
    """List the files that a CSV names.

    Args:
        path: the CSV.
        to_train: ask for what training needs: training rows, at least two classes, and an image of
            every class in every split. Without it any labelled images will do.

    Raises:
        SourceError: if a column is missing or unknown, a row is incomplete or there twice, a file
            is absent or outside of the CSV's folder, or a label is no class, missing, or another
            one written in another way.
        OSError: if the CSV cannot be read.
    """
    root = path.parent
    rows = list(_read_rows(path))
    fixed = _read_classes(root)
    _check_rows(rows, path.name, fixed or ())
    names = _class_names(rows, fixed, path.name, to_train)
    label_of = {name: label for label, name in enumerate(names)}
    stamps = _stamps(rows, root, path.name)
    splits = {}
    for split in _SPLITS:
        where = [index for index, row in enumerate(rows) if row.split == split]
        if where:
            labels = np.array([label_of[rows[index].label] for index in where], dtype=np.int64)
            splits[split] = ListedSplit([stamps[index] for index in where], labels)
    for split, listed in splits.items() if to_train else ():
        absent = sorted(set(range(len(names))) - set(listed.labels.tolist()))
        if absent:
            raise SourceError(
                f"{path.name} must give every split an image of every class. Received: none of "
                f"class {names[absent[0]]!r} in {split}"
            )
    lists = tuple(stamp(root, name) for name in (path.name, _CLASSES) if (root / name).exists())
    notes = () if (root / _CLASSES).exists() else order_notes(names)
    return Listing(root, splits, names, notes, lists)


def _read_rows(path: Path) -> Iterator[_Row]:
    try:
        # utf-8-sig: spreadsheets write a byte order mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns = [bare(column) for column in next(reader, [])]
            _check_columns(columns, path.name)
            for values in reader:
                if not values:  # an empty line
                    continue
                if len(values) != len(columns):
                    raise SourceError(
                        f"{path.name} line {reader.line_num}: a row must have {len(columns)} "
                        f"values, {', '.join(columns)}. Received: {len(values)}"
                    )
                given = dict(zip(columns, map(bare, values), strict=True))
                split = given.get("split", "train")
                split = split_names([split]).get(split, split)
                yield _Row(reader.line_num, given["file"], given["label"], split)
    except UnicodeDecodeError as error:
        raise SourceError(f"{path.name} must be UTF-8 text. Received: {error}") from error
    except csv.Error as error:
        raise SourceError(f"{path.name} must be CSV. Received: {error}") from error


def _check_columns(columns: Sequence[str], name: str) -> None:
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown:
        raise SourceError(
            f"the columns of {name} must be file, label and perhaps split, named in the first "
            f"line. Received: {unknown[0]!r}.{nearest(unknown[0], COLUMNS)}"
        )
    if len(set(columns)) != len(columns) or not {"file", "label"} <= set(columns):
        raise SourceError(
            f"{name} must have a column file and a column label, once each, named in the first "
            f"line. Received: {', '.join(columns) or 'an empty file'}"
        )


def _check_rows(rows: Sequence[_Row], name: str, classes: Collection[str]) -> None:
    seen: dict[str, int] = {}
    for row in rows:
        where = f"{name} line {row.line}"
        if not row.file or not row.label:
            raise SourceError(f"{where}: a row must have a file and a label. Received: {row[1:3]}")
        if row.label in _MISSING and row.label not in classes:
            raise SourceError(
                f"{where}: a label must be a class, not what stands for a missing value. "
                f"Received: {row.label!r} for {row.file!r}. If it is a class, list all classes in "
                f"{_CLASSES}"
            )
        if row.split not in _SPLITS:
            raise SourceError(
                f"{where}: the split must be one of {', '.join(_SPLITS)}. "
                f"Received: {row.split!r}.{nearest(row.split, _SPLITS)}"
            )
        if not row.file.lower().endswith(SUFFIXES):
            raise SourceError(
                f"{where}: a file must end in {', '.join(SUFFIXES)}. Received: {row.file!r}"
            )
        # The same file by another spelling is the same file.
        file = os.path.normpath(row.file)
        if file in seen:
            raise SourceError(
                f"{where}: every file must be named once. Received: {row.file!r}, which line "
                f"{seen[file]} names too"
            )
        seen[file] = row.line


def _read_classes(root: Path) -> tuple[str, ...] | None:
    """Return the names that classes.txt lists, if it is there."""
    path = root / _CLASSES
    if not path.exists():
        return None
    try:
        lines = [bare(line) for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise SourceError(f"{_CLASSES} must be UTF-8 text. Received: {error}") from error
    names = tuple(line for line in lines if line)
    if len(set(names)) != len(names):
        twice = next(each for each in names if names.count(each) > 1)
        raise SourceError(f"{_CLASSES} must name every class once. Received: {twice!r} twice")
    check_distinct(dict.fromkeys(names, f"in {_CLASSES}"))
    return names


def _class_names(
    rows: Sequence[_Row], listed: tuple[str, ...] | None, name: str, to_train: bool
) -> tuple[str, ...]:
    if to_train and not any(row.split == "train" for row in rows):
        raise SourceError(f"{name} must have training rows. Received: none")
    places: dict[str, str] = {}
    for row in rows:
        places.setdefault(row.label, f"line {row.line}")
    check_distinct(places)
    if listed is not None:
        names, where = listed, f"the classes that {_CLASSES} lists"
    else:
        naming = {row.label for row in rows if row.split == "train" or not to_train}
        names, where = tuple(sorted(naming)), "the classes of the training rows"
    for row in rows:
        if row.label not in names:
            raise SourceError(
                f"{name} line {row.line}: a label must be one of {where}. "
                f"Received: {row.label!r}.{nearest(row.label, names)}"
            )
    if to_train and len(names) < 2:
        raise SourceError(f"there must be at least two classes. Received: {', '.join(names)}")
    return names


def _stamps(rows: Sequence[_Row], root: Path, name: str) -> list[FileStamp]:
    """Look at all files; a set of a CSV of which some are not there is not the set it names."""
    real_root = os.path.realpath(root)
    stamps, missing = [], []
    for row in rows:
        path = os.path.normpath(row.file)
        if os.path.isabs(path) or leaves(real_root, os.path.join(real_root, path)):
            raise SourceError(
                f"{name} line {row.line}: a file must lie in the folder of {name}. "
                f"Received: {row.file!r}"
            )
        stamps.append(stamp(root, path))
        if stamps[-1].size < 0:
            missing.append(row)
    if missing:
        more = f", and {len(missing) - 1} more are missing" if len(missing) > 1 else ""
        raise SourceError(
            f"{name} line {missing[0].line}: a file must be there. "
            f"Received: {missing[0].file!r}, which is not{more}"
        )
    return stamps
