"""Encoded images of any size to splits: what the sources that read files have in common.

A source says what to read (`EncodedSet`); here it is decoded, brought to one storage size, checked
and described in notes. Where the pixels go is for a `Sink` to know.

The storage size. Every image is stored as a square of one size, chosen by the user or else the
median of the training images' shorter sides, at most `DEFAULT_MAX_SIZE`: a set of one size keeps
it, a stray image of another size does not change it, and a set of photographs does not fill the
memory. The median is known only after all images have been opened; so that they need not be opened
twice, the first few give a guess, and only a wrong guess costs a second reading.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fastcifar.data.prepared import Key
from fastcifar.data.sources.decode_pool import Chunk, DecodePool, measure_items, workers_for
from fastcifar.data.sources.decoding import NonSquare
from fastcifar.data.sources.deep_values import bits_in_use
from fastcifar.data.split import Split
from fastcifar.data.storage import empty_images
from fastcifar.environment import usable_cores
from fastcifar.errors import SourceError

DEFAULT_MAX_SIZE = 224  # the size ResNet50 was designed for
CHUNK = 64  # images read at once: their bytes are in memory together, and photographs are large

_LISTED = 10  # unreadable files named in one message

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ReadOptions:
    """How to read a set of images, whatever the source.

    Attributes:
        storage_size: height and width in pixels to store; None for the median of the training
            images' shorter sides, at most 224.
        non_square: `crop` images at the centre to a square, or `pad` them to one.
        seed: of images that are drawn (synthetic).
        skip_unreadable: leave unreadable files out, with a note, instead of refusing.
        memory_budget: bytes that decoded images may take; a larger set is prepared on disk and
            read by position. None for no bound.
        workers: processes that decode; None for as many as there are cores, if that pays.
        progress: called with (what, images done, images in all), from the calling thread.
    """

    storage_size: int | None = None
    non_square: NonSquare = "crop"
    seed: int = 0
    skip_unreadable: bool = False
    memory_budget: int | None = None
    workers: int | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        for name in ("storage_size", "workers", "memory_budget"):
            value = getattr(self, name)
            if value is not None and value < 1:
                unit = {"storage_size": " pixel", "memory_budget": " byte"}.get(name, "")
                flag = name.replace("_", "-")
                raise SourceError(f"--{flag} must be at least 1{unit}. Received: {value}")


@dataclass(frozen=True)
class EncodedSplit:
    """A split before decoding.

    Attributes:
        count: how many images there are.
        chunks: starts a reading: an iterator of (labels int64 [m], m images: bytes, paths or
            pixels), in the order of the split. Called again where a second reading is needed.
        name_of: what to call the image of a row in a message.
        encoded_bytes: size of all images together, roughly; 0 for images that are decoded already.
    """

    count: int
    chunks: Callable[[], Iterator[Chunk]]
    name_of: Callable[[int], str]
    encoded_bytes: int = 0


@dataclass(frozen=True)
class EncodedSet:
    """A data set before decoding.

    Attributes:
        splits: "train", and where the source has them "test" and "validation".
        class_names: the name of each label.
        key: tells the set from others, and from itself after a change.
        notes: of the source, one line each.
        verb: what reading it is called in reports of progress.
    """

    splits: Mapping[str, EncodedSplit]
    class_names: tuple[str, ...]
    key: Key
    notes: tuple[str, ...] = ()
    verb: str = "decoding"

    def __post_init__(self) -> None:
        for name, split in self.splits.items():
            if split.count == 0:
                raise SourceError(f"the {name} split must hold images. Received: none")

    def decoded_bytes(self, size: int) -> int:
        """What all images take in memory at a storage size in pixels."""
        return sum(split.count for split in self.splits.values()) * size * size * 3


WHOLE = "all"  # the one split of a set whose splits are joined


def joined(data: EncodedSet) -> EncodedSet:
    """Return the set with all its images in the one split `WHOLE`, split after split."""
    parts = list(data.splits.values())
    starts = np.cumsum([0] + [part.count for part in parts])

    def name_of(row: int) -> str:
        part = int(np.searchsorted(starts, row, side="right")) - 1
        return parts[part].name_of(row - int(starts[part]))

    whole = EncodedSplit(
        count=int(starts[-1]),
        chunks=lambda: itertools.chain.from_iterable(part.chunks() for part in parts),
        name_of=name_of,
        encoded_bytes=sum(part.encoded_bytes for part in parts),
    )
    key = dataclasses.replace(data.key, options={**data.key.options, "splits": WHOLE})
    return dataclasses.replace(data, splits={WHOLE: whole}, key=key)


class Sink(Protocol):
    """Where the decoded images of one split go."""

    def add(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Append images (uint8 [m, S, S, 3]) and labels (int64 [m])."""

    def discard(self) -> None:
        """Forget what has been added: the split comes again at another size."""


# Opens the sink of a split: (name of the split, images at most, storage size).
OpenSink = Callable[[str, int, int], Sink]


class MemorySink:
    """Keeps images in memory."""

    def __init__(self, count: int, size: int):
        self._images = empty_images((count, size, size, 3))
        self._labels = np.empty(count, dtype=np.int64)
        self._filled = 0

    def add(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Append images (uint8 [m, S, S, 3]) and labels (int64 [m])."""
        end = self._filled + len(labels)
        self._images[self._filled : end] = images
        self._labels[self._filled : end] = labels
        self._filled = end

    def discard(self) -> None:
        """Free the memory."""
        self._images = empty_images((0, 1, 1, 3))

    def split(self, class_names: tuple[str, ...]) -> Split:
        """Return what has been added."""
        return Split(self._images[: self._filled], self._labels[: self._filled], class_names)


@dataclass(frozen=True)
class Ingested:
    """What became of the images of a set.

    Attributes:
        size: their height and width in pixels.
        notes: what the user should know, one line each.
        faults: the unreadable files that were left out, each with its reason.
    """

    size: int
    notes: tuple[str, ...]
    faults: tuple[str, ...]


def guess_size(data: EncodedSet) -> int:
    """Return the storage size that the first training images suggest."""
    first = data.splits.get("train") or next(iter(data.splits.values()))
    _, items = next(first.chunks(), (None, ()))
    return choose_storage_size(measure_items(items))


def ingest(data: EncodedSet, options: ReadOptions, size: int, open_sink: OpenSink) -> Ingested:
    """Decode all splits of a set into sinks.

    Args:
        data: what to read.
        options: how to read it.
        size: the storage size, or a guess of it where `options` has none.
        open_sink: called for each split, and again if the guess was wrong, or if images of more
            than 8 bits a value turn out to use another range than that of 16 bits.

    Raises:
        SourceError: if an image is unreadable and may not be skipped, or a class of a split has no
            readable image.
    """
    total = sum(split.count for split in data.splits.values())
    encoded_bytes = sum(split.encoded_bytes for split in data.splits.values())
    workers = 1
    if encoded_bytes:
        workers = options.workers or workers_for(total, encoded_bytes, usable_cores())
    names = sorted(data.splits, key=lambda name: name != "train")  # train decides the size
    read: dict[str, _Reading] = {}
    sinks: dict[str, Sink] = {}
    bits, peak, again = 16, 0, ""
    with DecodePool(workers) as pool:
        while len(sinks) < len(names):
            name = names[len(sinks)]
            split = data.splits[name]
            what = f"{data.verb} {name}{again if name in read else ''}"
            sinks[name] = open_sink(name, split.count, size)
            read[name] = _read_split(split, pool, (size, bits), sinks[name], options, what)
            median = choose_storage_size(read[name].shapes)
            right = median if name == names[0] and options.storage_size is None else size
            peak = max(peak, int(read[name].peaks.max()))
            in_use = bits_in_use(peak) if peak else bits
            if (right, in_use) != (size, bits):
                for sink in sinks.values():
                    sink.discard()
                sinks.clear()
                size, bits, again = right, in_use, f" again at {right} pixels"
    faults = tuple(
        f"{data.splits[name].name_of(row)!r} ({reason})"
        for name in data.splits
        for row, (reason, _) in sorted(read[name].faults.items())
    )
    check_faults(faults, options.skip_unreadable)
    for name in names:
        _check_classes(name, read[name], data.class_names)
    notes = (*_range_notes(read, bits), *_turn_notes(read), *_resize_notes(read, size, options))
    return Ingested(size, notes, faults)


def choose_storage_size(shapes: np.ndarray) -> int:
    """Return the default storage size for images of `shapes` (int [N, 2], 0 where unreadable)."""
    shorter = shapes.min(axis=1)
    shorter = shorter[shorter > 0]
    return min(int(np.median(shorter)), DEFAULT_MAX_SIZE) if len(shorter) else 1


def check_faults(faults: tuple[str, ...], skip: bool) -> tuple[str, ...]:
    """Refuse unreadable images, or return the note that they are left out.

    Args:
        faults: the unreadable files, each with its reason.
        skip: whether they may be left out.

    Raises:
        SourceError: if there are any, and they may not.
    """
    if not faults:
        return ()
    listing = ", ".join(faults[:_LISTED])
    if len(faults) > _LISTED:
        listing += f" and {len(faults) - _LISTED} more"
    files = "1 unreadable image" if len(faults) == 1 else f"{len(faults)} unreadable images"
    if skip:
        return (f"{files} skipped: {listing}",)
    raise SourceError(
        f"{files}: {listing}. Mend or remove what is listed, or leave it out by --skip-unreadable"
    )


@dataclass
class _Reading:
    """What one reading of a split has shown."""

    shapes: np.ndarray  # int64 [N, 2], height and width in the files; 0 where unreadable
    faults: dict[int, tuple[str, int]]  # row → what is wrong with it, and its label
    readable: np.ndarray  # int64 [C], readable images of each class
    peaks: np.ndarray  # int64 [N], largest values in files of more than 8 bits; 0 for others
    turned: int  # images to be shown turned or mirrored, by their EXIF


def _read_split(
    split: EncodedSplit,
    pool: DecodePool,
    size_and_bits: tuple[int, int],
    sink: Sink,
    options: ReadOptions,
    what: str,
) -> _Reading:
    size, bits = size_and_bits
    peaks: list[np.ndarray] = []
    turned = 0
    shapes: list[np.ndarray] = []
    faults: dict[int, tuple[str, int]] = {}
    readable = np.zeros(0, dtype=np.int64)
    done = 0
    for block in pool.blocks(split.chunks(), size, options.non_square, bits):
        faults |= {done + index: fault for index, fault in block.faults.items()}
        done += len(block.shapes)
        if done > split.count:
            break
        if len(block.labels) and block.labels.min() < 0:
            raise SourceError(f"{what}: every image must have a label. Received: one without")
        shapes.append(block.shapes)
        peaks.append(block.peaks)
        turned += block.turned
        counts = np.bincount(block.labels, minlength=len(readable))
        counts[: len(readable)] += readable
        readable = counts
        sink.add(block.images, block.labels)
        if options.progress:
            options.progress(what, done, split.count)
    if done != split.count:
        raise SourceError(
            f"{what}: the set says that it holds {split.count} images. "
            f"Received: {'more' if done > split.count else done}"
        )
    return _Reading(np.concatenate(shapes), faults, readable, np.concatenate(peaks), turned)


def _check_classes(name: str, reading: _Reading, class_names: tuple[str, ...]) -> None:
    for label in sorted({label for _, label in reading.faults.values()}):
        if label >= len(reading.readable) or not reading.readable[label]:
            raise SourceError(
                f"every class of the {name} split must keep at least one readable image. "
                f"Received: none of class {class_names[label]!r}"
            )


def _range_notes(read: Mapping[str, _Reading], bits: int) -> tuple[str, ...]:
    """Say in which range images of more than 8 bits a value were read, if there are any."""
    peaks = np.concatenate([reading.peaks for reading in read.values()])
    deep = peaks[peaks > 0]
    if not len(deep):
        return ()
    # Two bits of 8 are left of these.
    dark = int(np.count_nonzero(deep < 1 << (bits - 6))) if bits > 8 else 0
    return (
        f"{len(deep)} of {len(peaks)} images hold more than 8 bits a value, up to {deep.max()}: "
        f"read as {bits} bits, all alike"
        + (f", so that {dark} with small values alone are nearly black" if dark else ""),
    )


def _turn_notes(read: Mapping[str, _Reading]) -> tuple[str, ...]:
    """Say how many images lie otherwise than a viewer shows them, if there are any."""
    turned = sum(reading.turned for reading in read.values())
    total = sum(len(reading.shapes) for reading in read.values())
    return (
        (
            f"{turned} of {total} images are shown turned or mirrored by viewers, by their EXIF "
            "orientation; they are read as they are stored",
        )
        if turned
        else ()
    )


def _resize_notes(read: Mapping[str, _Reading], size: int, options: ReadOptions) -> tuple[str, ...]:
    """Say what resizing has done to how many images, if it has done anything."""
    shapes = np.concatenate([reading.shapes for reading in read.values()])
    shapes = shapes[shapes[:, 0] > 0]
    changed = int(np.count_nonzero((shapes != size).any(axis=1)))
    if not changed:
        return ()
    (low_h, low_w), (high_h, high_w) = shapes.min(axis=0), shapes.max(axis=0)
    sizes = f"{low_h}×{low_w}"
    if (low_h, low_w) != (high_h, high_w):
        sizes += f" to {high_h}×{high_w}"
    how = {
        "crop": "cropped at the centre to a square and resized",
        "pad": "resized and padded with black",
    }[options.non_square]
    choice = "" if options.storage_size else "; --storage-size chooses another size"
    return (
        f"{changed} of {len(shapes)} images ({sizes}) were {how} to {size}×{size}, once{choice}",
    )
