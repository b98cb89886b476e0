"""Prepared folders: a data set decoded and laid out once, for many runs.

    FOLDER/prepared.json                 what the set is; its being there makes the folder valid
    FOLDER/files                         what it was made from: size, times and path of each file
    FOLDER/images-train.array_record-*   pixels and labels (`fastcifar.data.records`)
    FOLDER/labels-train.npy
    FOLDER/digests-train.npy             a hash of each image's pixels
    FOLDER/dataset_info.json, …          TFDS's description of the same records

A folder is written under another name and renamed when it is whole, so what an interrupted
preparation leaves is never taken for a set; the next one removes it. A lock lets one process
prepare and the others wait for it.

prepared.json holds the checksums of the other files (`fastcifar.data.checksums`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fastcifar.data import checksums, storage
from fastcifar.data.checksums import Seal
from fastcifar.errors import SourceError

FORMAT = 2  # raised with every change of what a folder holds; others are refused
_MANIFEST, _FILES = "prepared.json", "files"


class FileStamp(NamedTuple):
    """A file that a set is made from, and what tells that it has changed."""

    path: str  # relative to the set's root
    size: int
    mtime_ns: int
    # Of the last change of anything, which no program can set: a file of the same size whose time
    # of modification was put back is another file all the same.
    ctime_ns: int = -1


@dataclass(frozen=True)
class Key:
    """Which set a prepared folder holds.

    Attributes:
        origin: what a person calls it, such as the folder of the images.
        options: what the pixels depend on beside the files, such as the storage size; JSON values.
        files: everything the set is made from.
    """

    origin: str
    options: Mapping[str, str | int | bool | None]
    files: Sequence[FileStamp] = ()

    def folder(self) -> Path:
        """Where the set is kept in the cache: by origin and options, whatever the files."""
        identity = json.dumps([self.origin, dict(self.options)], sort_keys=True)
        digest = hashlib.blake2b(identity.encode("utf-8", "surrogateescape"), digest_size=8)
        return storage.cache_folder() / "prepared" / digest.hexdigest()


@dataclass(frozen=True)
class Manifest:
    """What prepared.json says.

    Attributes:
        origin: see `Key`.
        size: height and width of the images, in pixels.
        class_names: the name of each label.
        counts: for each split, how many images each shard holds.
        notes: what the user should know about how the images came to be.
        faults: the unreadable files that were left out, each with its reason.
    """

    origin: str
    size: int
    class_names: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    notes: tuple[str, ...]
    faults: tuple[str, ...]


def holds_prepared(folder: Path) -> bool:
    """Whether `folder` is a prepared one, of whatever version."""
    return (folder / _MANIFEST).is_file()


def read(folder: Path, *, shards: bool = False) -> Manifest:
    """Read what a prepared folder holds, and check that all of it is there and as it was written.

    Args:
        folder: a prepared folder.
        shards: check the content of the images' files too, where their stamps do not vouch for it.
            Without, damage there shows when an image is read: each record has a hash of its own.

    Raises:
        SourceError: if the folder is of another version, not whole or damaged.
    """
    where = str(folder)
    try:
        values = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise SourceError(
                f"the prepared folder {where!r} must be of format {FORMAT}. Received: format "
                f"{values['format']!r}; prepare the images again with this version"
            )
        _check_files(folder, values, shards)
        return Manifest(
            origin=values["origin"],
            size=values["size"],
            class_names=tuple(values["class_names"]),
            counts={name: tuple(counts) for name, counts in values["counts"].items()},
            notes=tuple(values["notes"]),
            faults=tuple(values["faults"]),
        )
    except SourceError:
        raise
    except checksums.Damaged as error:
        raise SourceError(
            f"the prepared folder {where!r} is damaged: {error}; remove the folder and prepare the "
            "images again"
        ) from error
    except OSError as error:
        what = f"{error.filename}: {error.strerror}"
        raise SourceError(f"the prepared folder {where!r} cannot be read: {what}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"the prepared folder {where!r} is damaged: {_MANIFEST} is not one "
            f"({type(error).__name__}); remove the folder and prepare the images again"
        ) from error


def _check_files(folder: Path, values: dict, shards: bool) -> None:
    seals = {name: Seal(*seal) for name, seal in values["seals"].items()}
    for name, seal in seals.items():
        found = (folder / name).stat().st_size
        if found != seal.size:
            raise checksums.Damaged(f"{name} must hold {seal.size} bytes. Received: {found}")
    chosen = {name: s for name, s in seals.items() if shards or ".array_record" not in name}
    renewed = {**seals, **checksums.check_all(folder, chosen)}
    if renewed != seals:
        with contextlib.suppress(OSError):  # then the next one reads the files again
            _write_manifest(folder, {**values, "seals": renewed})


def changes(folder: Path, files: Sequence[FileStamp]) -> str | None:
    """Say in what `files` differ from those that `folder` was made from; None if in nothing."""
    now = _listing(files)
    then = (folder / _FILES).read_bytes()
    if now == then:
        return None
    old, new = _parse_listing(then), _parse_listing(now)
    parts = [
        _count(f"{what}", sorted(names))
        for what, names in (
            ("added", new.keys() - old.keys()),
            ("removed", old.keys() - new.keys()),
            ("changed", {path for path in new.keys() & old.keys() if new[path] != old[path]}),
        )
        if names
    ]
    return ", ".join(parts) or "the order of files"


@contextlib.contextmanager
def locked(folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the right to write `folder`, which another process may hold until it has finished.

    Args:
        folder: a prepared folder, there or not.
        on_wait: called before waiting.

    Raises:
        SourceError: if the disk refuses.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = open(folder.with_name(f"{folder.name}.lock"), "wb")  # noqa: SIM115
    except OSError as error:
        raise refused(folder, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Give a new folder to fill, which takes the place of `folder` if all goes well.

    The caller holds the lock. A folder that was there is replaced.
    """
    stem = f"{folder.name}.partial-"
    # The lock is ours, so whoever left these is gone.
    for left in folder.parent.glob(f"{folder.name}.*-[0-9]*"):
        shutil.rmtree(left, ignore_errors=True)
    partial = folder.with_name(f"{stem}{os.getpid()}")
    partial.mkdir()
    try:
        yield partial
        if folder.exists():
            old = folder.with_name(f"{folder.name}.old-{os.getpid()}")
            folder.rename(old)
            partial.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write(folder: Path, manifest: Manifest, files: Sequence[FileStamp]) -> None:
    """Write prepared.json and the list of files, last of all, into a folder that is filled."""
    (folder / _FILES).write_bytes(_listing(files))
    values = {
        "format": FORMAT,
        "origin": manifest.origin,
        "size": manifest.size,
        "class_names": manifest.class_names,
        "counts": manifest.counts,
        "notes": manifest.notes,
        "faults": manifest.faults,
        "seals": checksums.seal_all(sorted(folder.iterdir())),
    }
    _write_manifest(folder, values)


def _write_manifest(folder: Path, values: dict) -> None:
    partial = folder / f".{_MANIFEST}.{os.getpid()}"
    try:
        partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, folder / _MANIFEST)
    finally:
        partial.unlink(missing_ok=True)


def refused(folder: Path, error: OSError) -> SourceError:
    """The error for a disk that refuses to write `folder`."""
    return SourceError(
        f"{str(folder)!r} cannot be written: {error.strerror or error}. Free space there, or set "
        "FASTCIFAR_CACHE to another folder"
    )


# Paths may hold anything but NUL, so NUL ends a line.


def _listing(files: Sequence[FileStamp]) -> bytes:
    return b"".join(b"%d %d %d %s\0" % (*stamp[1:], os.fsencode(stamp.path)) for stamp in files)


def _parse_listing(listing: bytes) -> dict[str, list[bytes]]:
    found = {}
    for line in listing.split(b"\0")[:-1]:
        *stamp, path = line.split(b" ", 3)
        found[os.fsdecode(path)] = stamp
    return found


def _count(what: str, names: list[str]) -> str:
    more = "" if len(names) == 1 else ", …"
    return f"{len(names)} {'file' if len(names) == 1 else 'files'} {what} ({names[0]!r}{more})"
