"""Encoded images of any size to `Splits`: what the sources that read files have in common.

A source says what to read (`EncodedSplit`); here it is decoded, brought to one storage size,
checked and described in notes.

The storage size. Every image is stored as a square of one size, chosen by the user or else the
median of the training images' shorter sides, at most `DEFAULT_MAX_SIZE`: a set of one size keeps
it, a stray image of another size does not change it, and a set of photographs does not fill the
memory. The median is known only after all images have been opened; so that they need not be opened
twice, the first few give a guess, and only a wrong guess costs a second reading.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from fastcifar.data.sources.decoding import UnreadableImage, decode, measure
from fastcifar.data.split import Split, Splits
from fastcifar.data.splitting import hold_out
from fastcifar.data.storage import empty_images
from fastcifar.errors import SourceError

DEFAULT_MAX_SIZE = 224  # the size ResNet50 was designed for
TEST_FRACTION = 0.1  # held out of train where a source has neither test nor validation images

# Mean file size from which decoding releases Python's lock long enough for threads to gain; below
# it they only take turns (measured on JPEG of 32 to 448 pixels).
_THREADS_FROM_BYTES = 8192
_LISTED = 10  # unreadable files named in one message

Progress = Callable[[str, int, int], None]
Chunk = tuple[np.ndarray, np.ndarray, Sequence[bytes]]


@dataclass(frozen=True)
class EncodedSplit:
    """A split before decoding.

    Attributes:
        count: how many images there are.
        chunks: starts a reading: an iterator of (rows int64 [m], labels int64 [m], m encoded
            images), where every row in [0, count) but those in `faults` comes exactly once, in any
            order. Called again where a second reading is needed.
        name_of: what to call the image of a row in a message.
        faults: rows that cannot even be opened: their label, and the reason in a few words.
    """

    count: int
    chunks: Callable[[], Iterator[Chunk]]
    name_of: Callable[[int], str]
    faults: Mapping[int, tuple[int, str]] = field(default_factory=dict)


@dataclass
class _Decoded:
    """A split after one reading; rows in `faults` hold nothing."""

    images: np.ndarray  # uint8 [N, S, S, 3]
    labels: np.ndarray  # int64 [N]
    shapes: np.ndarray  # int64 [N, 2], height and width before any resizing; 0 where unreadable
    faults: dict[int, str] = field(default_factory=dict)  # row → what is wrong with it


def ingest(
    encoded: Mapping[str, EncodedSplit],
    class_names: tuple[str, ...],
    *,
    storage_size: int | None,
    seed: int,
    skip_unreadable: bool,
    progress: Progress | None,
    notes: Sequence[str] = (),
) -> Splits:
    """Read and decode all splits of a data set.

    Args:
        encoded: "train", and where the source has them "test" and "validation". Without "test",
            "validation" becomes the test split; without both, a share of `TEST_FRACTION` is held
            out of train, class-balanced by `seed`. A note says so.
        class_names: the name of each label.
        storage_size: height and width in pixels to store; None to choose (see this module).
        seed: of the hold-out.
        skip_unreadable: leave unreadable images out, with a note, instead of refusing.
        progress: called with (what, images done, images in all).
        notes: notes of the source, to which those of the ingest are added.

    Raises:
        SourceError: if a split is empty, an image is unreadable and may not be skipped, or a class
            has no readable image.
    """
    if storage_size is not None and storage_size < 1:
        raise SourceError(f"--storage-size must be at least 1 pixel. Received: {storage_size}")
    for name, split in encoded.items():
        if split.count == 0:
            raise SourceError(f"the {name} split must hold images. Received: none")
    decoded: dict[str, _Decoded] = {}
    workers = min(os.cpu_count() or 1, 16)
    # The filter is set around the threads, not in them: Python's warning state is not per thread.
    with ThreadPoolExecutor(workers) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the bound is checked here
        warnings.simplefilter("ignore", UserWarning)  # Pillow on odd but readable metadata
        size = storage_size or _guess_size(encoded["train"])
        for name, split in sorted(encoded.items(), key=lambda item: item[0] != "train"):
            decoded[name] = _decode_split(split, size, pool, f"decoding {name}", progress)
            if name == "train" and storage_size is None:
                median = choose_storage_size(decoded[name].shapes)
                if median != size:
                    size = median
                    what = f"decoding {name} again at {size} pixels"
                    decoded[name] = _decode_split(split, size, pool, what, progress)
    notes = [*notes, *_resize_notes(decoded, size, chosen=storage_size is not None)]
    notes += _check_unreadable(encoded, decoded, skip_unreadable)
    splits = {name: _to_split(name, part, class_names) for name, part in decoded.items()}
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        notes.append("there is no test split: the validation split serves as test")
    elif "test" not in splits:
        splits["train"], splits["test"] = hold_out(splits["train"], TEST_FRACTION, seed)
        notes.append(
            f"there is no test split: {TEST_FRACTION:.0%} of train, class-balanced by seed {seed}, "
            f"are held out as test ({len(splits['test'])} images)"
        )
    return Splits(splits["train"], splits["test"], splits.get("validation"), tuple(notes))


def choose_storage_size(shapes: np.ndarray) -> int:
    """Return the default storage size for images of `shapes` (int [N, 2], 0 where unreadable)."""
    shorter = shapes.min(axis=1)
    shorter = shorter[shorter > 0]
    return min(int(np.median(shorter)), DEFAULT_MAX_SIZE) if len(shorter) else 1


def _guess_size(split: EncodedSplit) -> int:
    shapes = []
    for data in next(split.chunks(), (None, None, ()))[2]:
        with contextlib.suppress(UnreadableImage):
            shapes.append(measure(data))
    return choose_storage_size(np.array(shapes, dtype=np.int64).reshape(-1, 2))


def _decode_split(
    split: EncodedSplit, size: int, pool: ThreadPoolExecutor, what: str, progress: Progress | None
) -> _Decoded:
    result = _Decoded(
        images=empty_images((split.count, size, size, 3)),
        labels=np.full(split.count, -1, dtype=np.int64),
        shapes=np.zeros((split.count, 2), dtype=np.int64),
    )
    for row, (label, reason) in split.faults.items():
        result.labels[row], result.faults[row] = label, reason

    def decode_row(row: int, data: bytes) -> None:
        try:
            result.images[row], result.shapes[row] = decode(data, size)
        except UnreadableImage as error:
            result.faults[row] = str(error)

    done = len(split.faults)
    for rows, labels, encoded in split.chunks():
        result.labels[rows] = labels
        bytes_in_all = sum(len(data) for data in encoded)
        # Either way every row gets the same pixels: a row has one file and one decoder.
        run = pool.map if bytes_in_all >= _THREADS_FROM_BYTES * len(encoded) else map
        deque(run(decode_row, rows.tolist(), encoded), maxlen=0)  # runs it; there are no results
        done += len(encoded)
        if progress:
            progress(what, done, split.count)
    if done != split.count:
        raise SourceError(
            f"{what}: the set says that it holds {split.count} images. Received: {done}"
        )
    return result


def _resize_notes(decoded: Mapping[str, _Decoded], size: int, *, chosen: bool) -> list[str]:
    """Say what resizing has done to how many images, if it has done anything."""
    shapes = np.concatenate([part.shapes for part in decoded.values()])
    shapes = shapes[shapes[:, 0] > 0]
    changed = int(np.count_nonzero((shapes != size).any(axis=1)))
    if not changed:
        return []
    (low_h, low_w), (high_h, high_w) = shapes.min(axis=0), shapes.max(axis=0)
    sizes = f"{low_h}×{low_w}"
    if (low_h, low_w) != (high_h, high_w):
        sizes += f" to {high_h}×{high_w}"
    how = "cropped at the centre to a square and resized"
    choice = "" if chosen else "; --storage-size chooses another size"
    return [
        f"{changed} of {len(shapes)} images ({sizes}) were {how} to {size}×{size}, once{choice}"
    ]


def _check_unreadable(
    encoded: Mapping[str, EncodedSplit], decoded: Mapping[str, _Decoded], skip: bool
) -> list[str]:
    """Refuse unreadable images, or note that they are left out."""
    faults = [
        f"{encoded[name].name_of(row)!r} ({fault})"
        for name, part in decoded.items()
        for row, fault in sorted(part.faults.items())
    ]
    if not faults:
        return []
    listing = ", ".join(faults[:_LISTED])
    if len(faults) > _LISTED:
        listing += f" and {len(faults) - _LISTED} more"
    files = "1 unreadable image" if len(faults) == 1 else f"{len(faults)} unreadable images"
    if skip:
        return [f"{files} skipped: {listing}"]
    raise SourceError(
        f"{files}: {listing}. Mend or remove what is listed, or leave it out by --skip-unreadable"
    )


def _to_split(name: str, part: _Decoded, class_names: tuple[str, ...]) -> Split:
    whole = Split(part.images, part.labels, class_names)
    if not part.faults:
        return whole
    readable = np.ones(len(part.labels), dtype=bool)
    readable[list(part.faults)] = False
    emptied = np.setdiff1d(part.labels, part.labels[readable])
    if len(emptied):
        raise SourceError(
            f"every class of the {name} split must keep at least one readable image. "
            f"Received: none of class {class_names[emptied[0]]!r}"
        )
    return whole.take(np.flatnonzero(readable))
