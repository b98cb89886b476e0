"""A folder of images, one folder for each class, read through `tfds.ImageFolder`.

    root/train/CLASS/*.jpg      and root/test/CLASS/*.jpg, root/validation/CLASS/*.jpg where present
    root/CLASS/*.jpg            everything is train

`tfds.ImageFolder` takes any folder for a split and any for a class, hidden ones included, and stops
at the first file that it cannot open. So it is shown a view of the folder instead: links, in a
temporary folder, to the class folders that count. TFDS then reads the files in parallel; they are
decoded and resized by `fastcifar.data.sources.ingest`.

Labels follow the sorted class names, examples the sorted paths. Files count by their suffix (those
that `tfds.ImageFolder` takes, in any case); hidden files and folders do not.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastcifar.data.sources.builder_reading import read_builder
from fastcifar.data.sources.ingest import Chunk, EncodedSplit, Progress, ingest
from fastcifar.data.split import Splits
from fastcifar.errors import SourceError

SUFFIXES = (".jpg", ".jpeg", ".png")

# What the folder of a split may be called, in any case; the first one present counts.
_SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "test": ("test",),
    "validation": ("validation", "valid", "val"),
}


@dataclass(frozen=True)
class _ClassFolder:
    """What the folder of one class in one split holds."""

    path: Path
    files: tuple[str, ...]  # names of its images, sorted
    faults: dict[str, str] = field(default_factory=dict)  # those that cannot be opened, and why
    ignored: tuple[str, ...] = ()  # names of its other files


def load_image_folder(
    *,
    data_path: str,
    storage_size: int | None = None,
    seed: int = 0,
    skip_unreadable: bool = False,
    progress: Progress | None = None,
) -> Splits:
    """Read all images of a folder into memory.

    Grey, CMYK, 16-bit, palette and transparent (over white) images become RGB; all are stored as
    squares of one size (`fastcifar.data.sources.decoding`, `ingest`). Where there is no test folder
    the validation folder serves as test; without both, 10 % of train, class-balanced.

    Args:
        data_path: the folder; `~` is understood.
        storage_size: height and width in pixels to store; None for the median of the training
            images' shorter sides, at most 224.
        seed: of the held-out test split.
        skip_unreadable: leave unreadable files out, with a note, instead of refusing.
        progress: called with (what, images done, images in all).

    Returns:
        Splits of uint8 [N, size, size, 3] images, ordered by path.

    Raises:
        SourceError: if the folder is absent or holds no classes, one class only, an empty class
            folder or splits with different classes; if a file is empty, truncated, no image or has
            too many pixels, unless `skip_unreadable`.
    """
    root = Path(data_path).expanduser()
    notes: list[str] = []
    try:
        folders = _find_splits(root, notes)
        splits = {
            name: {entry.name: _list_class(Path(entry.path)) for entry in _folders(folder)}
            for name, folder in folders.items()
        }
    except OSError as error:
        raise SourceError(f"--data-path must be readable. Received: {error}") from error
    _check_classes(splits, folders["train"])
    ignored = [
        str((folder.path / name).relative_to(root))
        for classes in splits.values()
        for folder in classes.values()
        for name in folder.ignored
    ]
    if ignored:
        notes.append(
            f"{len(ignored)} files ignored, not {', '.join(SUFFIXES)}: {ignored[0]!r}"
            f"{' …' if len(ignored) > 1 else ''}"
        )
    with tempfile.TemporaryDirectory(prefix="fastcifar-") as view:
        return ingest(
            _encoded_splits(splits, Path(view), root),
            tuple(splits["train"]),
            storage_size=storage_size,
            seed=seed,
            skip_unreadable=skip_unreadable,
            progress=progress,
            notes=notes,
        )


def _find_splits(root: Path, notes: list[str]) -> dict[str, Path]:
    """Return the folder of each split that there is; that of train is `root` in a lone folder."""
    if not root.is_dir():
        rule = "is a file, not a folder" if root.exists() else "does not exist"
        raise SourceError(
            "--data-path must name a folder that holds train/CLASS/*.jpg or CLASS/*.jpg. "
            f"Received: {str(root)!r}, which {rule}"
        )
    folders = {entry.name.casefold(): Path(entry.path) for entry in _folders(root)}
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


def _folders(path: Path) -> list[os.DirEntry[str]]:
    """The folders in `path` that are not hidden, sorted by name."""
    with os.scandir(path) as entries:
        found = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return sorted(found, key=lambda entry: entry.name)


def _list_class(path: Path) -> _ClassFolder:
    files, ignored, faults = [], [], {}
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.name.lower().endswith(SUFFIXES):
                if entry.is_file():
                    ignored.append(entry.name)
                continue
            files.append(entry.name)
            if not entry.is_file():
                faults[entry.name] = "a broken link" if entry.is_symlink() else "not a file"
            elif not os.access(entry.path, os.R_OK):
                faults[entry.name] = "no permission to read it"
            elif not _is_unicode(entry.name):
                faults[entry.name] = "a name that is not UTF-8"
    return _ClassFolder(path, tuple(sorted(files)), faults, tuple(sorted(ignored)))


def _is_unicode(name: str) -> bool:
    """Whether `name` is text: the system hands over undecodable bytes as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _check_classes(splits: dict[str, dict[str, _ClassFolder]], train_folder: Path) -> None:
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
    for name, classes in splits.items():
        for odd, here, there in (
            (sorted(set(classes) - set(train)), name, "train"),
            (sorted(set(train) - set(classes)), "train", name),
        ):
            if odd:
                raise SourceError(
                    f"all splits must have the same class folders. Received: {odd[0]!r} in {here} "
                    f"but not in {there}"
                    + (f", and {len(odd) - 1} more such" if len(odd) > 1 else "")
                )
        for class_name, folder in classes.items():
            if not folder.files:
                raise SourceError(
                    f"every class folder must hold at least one {', '.join(SUFFIXES)} file. "
                    f"Received: none in {str(folder.path)!r}"
                )
            if not _is_unicode(class_name):
                raise SourceError(
                    f"class folders must have UTF-8 names. Received: {os.fsencode(class_name)!r}"
                )


def _encoded_splits(
    splits: dict[str, dict[str, _ClassFolder]], view: Path, root: Path
) -> dict[str, EncodedSplit]:
    """Build the view, open it with TFDS and describe its splits by rows in order of paths."""
    import tensorflow_datasets as tfds

    for name, classes in splits.items():
        for class_name, folder in classes.items():
            _link(folder, view / name / class_name)
    builder = tfds.ImageFolder(str(view))
    return {
        name: _encoded_split(builder, view / name, classes, root)
        for name, classes in splits.items()
    }


def _link(folder: _ClassFolder, link: Path) -> None:
    link.parent.mkdir(exist_ok=True)
    target = folder.path.absolute()
    if not folder.faults:
        link.symlink_to(target, target_is_directory=True)
        return
    link.mkdir()
    for file in folder.files:
        if file not in folder.faults:
            (link / file).symlink_to(target / file)


def _encoded_split(
    builder: Any, view: Path, classes: dict[str, _ClassFolder], root: Path
) -> EncodedSplit:
    """Describe one split of the view: rows by path, whatever the order TFDS reads in."""
    import tensorflow_datasets as tfds

    keys = [(name, file) for name, folder in classes.items() for file in folder.files]
    row_of = {os.fsencode(view / name / file): row for row, (name, file) in enumerate(keys)}
    paths = [str((classes[name].path / file).relative_to(root)) for name, file in keys]
    label_of = {name: label for label, name in enumerate(classes)}
    labels = np.array([label_of[name] for name, _ in keys], dtype=np.int64)
    faults = {
        row: (label_of[name], classes[name].faults[file])
        for row, (name, file) in enumerate(keys)
        if file in classes[name].faults
    }

    def chunks() -> Iterator[Chunk]:
        decoders = {"image": tfds.decode.SkipDecoding()}
        for batch in read_builder(builder, view.name, ("image/filename", "image"), decoders):
            pairs = zip(batch["image/filename"], batch["image"], strict=True)
            # TFDS reads hidden files too; they have no row.
            known = [(row_of[path], image) for path, image in pairs if path in row_of]
            rows = np.array([row for row, _ in known], dtype=np.int64)
            yield rows, labels[rows], [image for _, image in known]

    return EncodedSplit(len(keys), chunks, paths.__getitem__, faults)
