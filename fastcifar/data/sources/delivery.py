"""From a set of files to `Splits`: out of a prepared folder, into memory, or onto disk.

- A prepared folder that still fits its files is used; nothing is decoded.
- A set that fits the memory budget is decoded into memory.
- A larger one is prepared first and then read by position, in the same order.

Splitting copies the images it splits. So a set that fits but leaves no room for that copy is
prepared too, split by position, and then read into memory.
"""

from __future__ import annotations

from pathlib import Path

from fastcifar.data import prepared
from fastcifar.data.prepared import Key, Manifest
from fastcifar.data.sources.ingest import (
    WHOLE,
    EncodedSet,
    Ingested,
    MemorySink,
    ReadOptions,
    Sink,
    check_faults,
    guess_size,
    ingest,
    joined,
)
from fastcifar.data.split import Examples, Splits
from fastcifar.data.splitting import hold_out
from fastcifar.errors import SourceError
from fastcifar.wording import counted

TEST_FRACTION = 0.1  # held out of train where a source has neither test nor validation images

# What a process may take beside its images: the bound that the documentation gives.
BESIDE_IMAGES = 1_000_000_000


class _TooLarge(Exception):
    """The images do not fit into memory at the storage size that has turned out."""

    def __init__(self, size: int):
        super().__init__(size)
        self.size = size


def fits(decoded_bytes: int, budget: int | None) -> bool:
    """Whether images may be decoded into memory, where splitting will copy them once."""
    if budget is None:
        return True
    return decoded_bytes <= budget and 2 * decoded_bytes <= budget + BESIDE_IMAGES


def deliver(data: EncodedSet, options: ReadOptions) -> Splits:
    """Read a set into `Splits`, by the ways that this module describes.

    Args:
        data: what to read; its key holds the options that decide about pixels.
        options: how to read it.

    Raises:
        SourceError: if files are unreadable and may not be skipped, or the disk refuses.
    """
    found, notes = _read(data, options)
    return complete(found, notes)


def deliver_whole(data: EncodedSet, options: ReadOptions) -> tuple[Examples, tuple[str, ...]]:
    """Read all images of a set as one split, with the notes; arguments as for `deliver`."""
    (splits, manifest), notes = _read(joined(data), options)
    return splits[WHOLE], (*notes, *notes_of(manifest))


_Found = tuple[dict[str, Examples], Manifest]


def _read(data: EncodedSet, options: ReadOptions) -> tuple[_Found, list[str]]:
    folder, notes = data.key.folder(), list(data.notes)
    current, stale = _look_up(folder, data.key)
    if current:
        return open_prepared(folder, options), notes
    size = options.storage_size or guess_size(data)
    try:
        if not fits(data.decoded_bytes(size), options.memory_budget):
            raise _TooLarge(size)
        return _decode_into_memory(data, options, size), [*notes, *stale]
    except _TooLarge as large:
        size = large.size
    notes += prepare(data, options, size)
    return open_prepared(folder, options), notes


def prepare(data: EncodedSet, options: ReadOptions, size: int | None = None) -> list[str]:
    """Decode a set onto disk, unless it is there already; return notes on what was done.

    Two processes may do so at once: one works, the other waits and finds the work done.

    Args:
        data: what to read.
        options: how to read it.
        size: a first guess of the storage size, where `options` has none.

    Raises:
        SourceError: if files are unreadable and may not be skipped, or the disk refuses.
    """
    folder = data.key.folder()

    def say_waiting() -> None:
        if options.progress:
            options.progress("waiting for another process that prepares this set", 0, 1)

    with prepared.locked(folder, say_waiting):
        current, stale = _look_up(folder, data.key)
        if current:
            return [f"prepared already in {str(folder)!r}"]
        try:
            with prepared.written_whole(folder) as partial:
                _write(data, options, size, partial)
        except OSError as error:
            raise prepared.refused(folder, error) from error
    return [*stale, f"prepared in {str(folder)!r}"]


def open_prepared(folder: Path, options: ReadOptions) -> tuple[dict[str, Examples], Manifest]:
    """Open a prepared folder; its splits stay on disk.

    Raises:
        SourceError: if it is of another version, not whole, or was made by leaving unreadable files
            out, which `options` do not allow.
    """
    from fastcifar.data.records import open_split

    manifest = prepared.read(folder)
    check_faults(manifest.faults, options.skip_unreadable)
    try:
        splits: dict[str, Examples] = {
            name: open_split(
                folder, name, counts, size=manifest.size, class_names=manifest.class_names
            )
            for name, counts in manifest.counts.items()
        }
    except (OSError, ValueError) as error:
        raise SourceError(
            f"the prepared folder {str(folder)!r} is damaged: {error}; remove it and prepare the "
            "images again"
        ) from error
    return splits, manifest


def complete(found: tuple[dict[str, Examples], Manifest], notes: list[str]) -> Splits:
    """Make `Splits` of the parts that a set has.

    Without a test split the validation split becomes one; without both, a share of `TEST_FRACTION`
    of each class is held out of train, the same for every seed. A note says so.
    """
    splits, manifest = found
    held_out = {}
    notes = [*notes, *notes_of(manifest)]
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        notes.append("there is no test split: the validation split serves as test")
    elif "test" not in splits:
        whole = len(splits["train"])
        splits["train"], splits["test"] = hold_out(splits["train"], TEST_FRACTION)
        held_out["test"] = len(splits["test"]), whole
        notes.append(
            f"there is no test split: {TEST_FRACTION:.0%} of train, and of each class, are held "
            f"out as test ({counted(len(splits['test']), 'image')})"
        )
    return Splits(splits["train"], splits["test"], splits.get("validation"), tuple(notes), held_out)


def notes_of(manifest: Manifest) -> tuple[str, ...]:
    """Return what the user should know about how images came to be, one line each."""
    return (*manifest.notes, *check_faults(manifest.faults, skip=True))


def _look_up(folder: Path, key: Key) -> tuple[bool, list[str]]:
    """Return whether `folder` holds the set of `key`, and a note if it did but does no more."""
    if not prepared.holds_prepared(folder):
        return False, []
    try:
        prepared.read(folder, shards=True)
        changed = prepared.changes(folder, key.files)
    except (SourceError, OSError, ValueError) as error:
        # What the cache holds is ours: it is made anew, not reported as the user's mistake.
        return False, [f"what was prepared before is not used: {error}"]
    if changed is None:
        return True, []
    return False, [f"{key.origin} has changed since it was prepared: {changed}"]


def _decode_into_memory(data: EncodedSet, options: ReadOptions, size: int) -> _Found:
    sinks: dict[str, MemorySink] = {}

    def open_sink(name: str, count: int, size: int) -> Sink:
        if not fits(data.decoded_bytes(size), options.memory_budget):
            raise _TooLarge(size)
        sinks[name] = MemorySink(count, size)
        return sinks[name]

    done = ingest(data, options, size, open_sink)
    splits: dict[str, Examples] = {n: sinks[n].split(data.class_names) for n in data.splits}
    sinks.clear()
    return splits, _manifest(data, done, {})


def _write(data: EncodedSet, options: ReadOptions, size: int | None, folder: Path) -> None:
    from fastcifar.data import records

    writers: dict[str, records.RecordWriter] = {}

    def open_sink(name: str, count: int, size: int) -> Sink:
        writers[name] = records.RecordWriter(folder, name, count=count, size=size)
        return writers[name]

    done = ingest(data, options, options.storage_size or size or guess_size(data), open_sink)
    counts = {name: writer.close() for name, writer in writers.items()}
    records.describe(folder, counts, data.class_names, done.size)
    prepared.write(folder, _manifest(data, done, counts), data.key.files)


def _manifest(data: EncodedSet, done: Ingested, counts: dict[str, tuple[int, ...]]) -> Manifest:
    return Manifest(data.key.origin, done.size, data.class_names, counts, done.notes, done.faults)
