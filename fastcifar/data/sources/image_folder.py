"""Images as people have them: a folder for each class, or a CSV of files and labels.

    ROOT/train/CLASS/*.jpg      and ROOT/test/CLASS/*.jpg, ROOT/validation/CLASS/*.jpg where present
    ROOT/CLASS/*.jpg            everything is train
    ROOT/labels.csv             columns file, label and perhaps split

The first is the layout of `tfds.ImageFolder`, and gives the same labels; beyond it there are other
formats, nested classes and a lone folder. The files are opened here, not by TFDS: it knows JPEG and
PNG only, stops at the first file that it cannot open, and takes 50 µs to hand over a file, where
opening it in the process that decodes it takes 7.

A folder that `fastcifar prepare` has made may be named instead; then the images it was made from
need not be there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fastcifar.data import prepared
from fastcifar.data.prepared import Key, Manifest
from fastcifar.data.sources.decode_pool import Chunk
from fastcifar.data.sources.delivery import (
    complete,
    deliver,
    deliver_whole,
    notes_of,
    open_prepared,
)
from fastcifar.data.sources.ingest import EncodedSet, EncodedSplit, ReadOptions
from fastcifar.data.sources.listing import ListedSplit, list_folders
from fastcifar.data.split import Examples, Splits
from fastcifar.errors import SourceError
from fastcifar.paths import local_path

# Files handed to a worker at once: the hand-over then costs little beside decoding even the
# smallest images. They are opened one by one, so their size does not matter.
_CHUNK = 256


def load_image_folder(data_path: str, options: ReadOptions | None = None) -> Splits:
    """Read all images of a folder.

    Grey, CMYK, 16-bit, palette and transparent (over white) images become RGB; all are stored as
    squares of one size (`fastcifar.data.sources.decoding`, `ingest`). Where there is no test folder
    the validation folder serves as test; without both, 10 % of each class of train.

    Args:
        data_path: the folder, a CSV, or a prepared folder; `~` is understood.
        options: how to read it.

    Returns:
        Splits of uint8 [N, size, size, 3] images, ordered by path (by row, with a CSV).

    Raises:
        SourceError: if the folder or the CSV is not as `list_folders` or `list_csv` want it, or if
            a file is empty, truncated, no image or has too many pixels, unless it may be skipped.
    """
    options = options or ReadOptions()
    root = Path(local_path("data-path", str(data_path)))
    if prepared.holds_prepared(root):
        return complete(_open(root, options), [])
    return deliver(encoded_set(root, options), options)


def load_labelled(
    data_path: str, options: ReadOptions | None = None
) -> tuple[Examples, tuple[str, ...]]:
    """Read all labelled images of a folder as one split, whatever splits it has.

    Args:
        data_path, options: as for `load_image_folder`. Splits may have different classes, and there
            may be one class only.

    Returns:
        The images, split after split and ordered by path (by row, with a CSV), and notes; the last
        one says how many come from which split.

    Raises:
        SourceError: as `load_image_folder`.
    """
    options = options or ReadOptions()
    root = Path(data_path).expanduser()
    whole: Examples
    if prepared.holds_prepared(root):
        from fastcifar.data.records import join

        splits, manifest = _open(root, options)
        counts = {name: len(split) for name, split in splits.items()}
        whole, notes = join(list(splits.values())), notes_of(manifest)
    else:
        data = encoded_set(root, options, to_train=False)
        counts = {name: split.count for name, split in data.splits.items()}
        whole, notes = deliver_whole(data, options)
    count = "1 labelled image" if len(whole) == 1 else f"all {len(whole)} labelled images"
    count += f" of {str(root)!r}"
    if len(counts) > 1 or "train" not in counts:
        count += f" ({', '.join(f'{name} {number}' for name, number in counts.items())})"
    return whole, (*notes, count)


def _open(root: Path, options: ReadOptions) -> tuple[dict[str, Examples], Manifest]:
    splits, manifest = open_prepared(root, options)
    if options.storage_size not in (None, manifest.size):
        raise SourceError(
            f"--storage-size must be that of the prepared folder {str(root)!r}, {manifest.size}. "
            f"Received: {options.storage_size}"
        )
    return splits, manifest


def encoded_set(root: Path, options: ReadOptions, *, to_train: bool = True) -> EncodedSet:
    """List the files of a folder or CSV; see `load_image_folder` for the errors.

    Without `to_train` any labelled images will do.
    """
    try:
        if root.suffix.lower() == ".csv" and not root.is_dir():
            from fastcifar.data.sources.csv_listing import list_csv

            listing = list_csv(root, to_train=to_train)
        else:
            listing = list_folders(root, to_train=to_train)
    except OSError as error:
        raise SourceError(f"--data-path must be readable. Received: {error}") from error
    return EncodedSet(
        splits={name: encoded_split(listing.root, s) for name, s in listing.splits.items()},
        class_names=listing.class_names,
        key=Key(
            origin=os.path.realpath(root),
            options={"storage_size": options.storage_size, "non_square": options.non_square},
            files=[
                *listing.lists,
                *(stamp for split in listing.splits.values() for stamp in split.files),
            ],
        ),
        notes=listing.notes,
    )


def encoded_split(root: Path, listed: ListedSplit) -> EncodedSplit:
    """Return a listed split whose files are opened where they are decoded."""
    base = str(root)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(listed.files), _CHUNK):
            part = listed.files[start : start + _CHUNK]
            paths = [f"{base}/{stamp.path}" for stamp in part]
            yield listed.labels[start : start + _CHUNK], paths

    return EncodedSplit(
        count=len(listed.files),
        chunks=chunks,
        name_of=lambda row: listed.files[row].path,
        encoded_bytes=sum(max(0, stamp.size) for stamp in listed.files),
    )
