"""Features on disk, for the next run: in the cache folder, one file with its key beside it.

    CACHE/features/DATA-KEY.bin      the values [V, N, F], nothing else
    CACHE/features/DATA-KEY.json     what they depend on, in parts (`feature_key`), and their seal

DATA is a hash of the images, KEY one of all parts. Values appear whole or not at all, and the key
after them; a file that is not what was written (`fastcifar.data.checksums`) is not read.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastcifar.data import checksums, storage
from fastcifar.data.checksums import Seal
from fastcifar.errors import SourceError
from fastcifar.training.feature_key import Key, digest

# Of the same images the files used last are kept, the others removed.
_KEEP = 4


def path_of(key: Key) -> Path:
    """Where the features of `key` are kept."""
    name = f"{digest(key['images'])}-{digest(key)}.bin"
    return storage.cache_folder() / "features" / name


def find(key: Key, shape: tuple[int, int, int], dtype: Any) -> np.ndarray | None:
    """Map the features of `key`: `dtype` `shape`; None if there are none.

    Raises:
        Damaged: if there were, but the file is not what was written.
    """
    path = path_of(key)
    known, sealed = _read(path.with_suffix(".json"))
    if known != key or sealed is None:
        return None
    with contextlib.suppress(OSError):
        renewed = checksums.check_all(path.parent, {path.name: sealed})[path.name]
        _write_key(path, key, renewed)  # used last
        # Copy-on-write: the file itself can never be changed through this array.
        return np.memmap(path, dtype, "c", shape=shape)
    return None


def changed_parts(key: Key) -> list[str]:
    """Names of the parts in which `key` differs from that of the same images used last.

    Empty where there is none.
    """
    for path in _by_use(key):
        known, _ = _read(path)
        if known is not None:
            return [name for name in key if known.get(name) != key[name]]
    return []


def write(
    key: Key, shape: tuple[int, int, int], dtype: Any, blocks: Iterator[np.ndarray]
) -> np.ndarray:
    """Write the features of `key` from successive blocks [n, F], and map them.

    Raises:
        SourceError: if the disk refuses, or has not the space.
    """
    path = path_of(key)
    partial = _partial(path)
    needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with _refusing_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < needed:  # known before minutes of work
            reason = f"{needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free"
            raise OSError(errno.ENOSPC, reason)
        try:
            # Not through a memory map: a disk that is full would end the process there.
            with partial.open("wb") as file:
                for block in blocks:
                    # As bytes: not every dtype has a buffer.
                    file.write(np.ascontiguousarray(block, dtype).view(np.uint8).data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
            _write_key(path, key, checksums.seal(path))
        finally:
            partial.unlink(missing_ok=True)
        for old in _by_use(key)[_KEEP:]:
            old.unlink(missing_ok=True)
            old.with_suffix(".bin").unlink(missing_ok=True)
        return np.memmap(path, dtype, "c", shape=shape)


def _by_use(key: Key) -> list[Path]:
    """The keys of all features of the same images, the one used last first."""
    pattern = f"{digest(key['images'])}-*.json"
    found = [(path.stat().st_mtime_ns, path) for path in path_of(key).parent.glob(pattern)]
    return [path for _, path in sorted(found, reverse=True)]


def _partial(path: Path) -> Path:
    return path.with_suffix(f".partial-{platform.node()}-{os.getpid()}")  # hosts may share a folder


def _write_key(path: Path, key: Key, sealed: Seal) -> None:
    partial = _partial(path)
    try:
        text = json.dumps({"key": key, "seal": sealed}, indent=1) + "\n"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path.with_suffix(".json"))
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path) -> tuple[Key | None, Seal | None]:
    """The key and the seal of features, from their .json; None where it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return dict(found["key"]), Seal(*found["seal"])
    except (OSError, ValueError, TypeError, KeyError):
        return None, None


@contextlib.contextmanager
def _refusing_os_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"feature-cache disk cannot write {path}: {error.strerror or error}. Free space "
            "there, set FASTCIFAR_CACHE, or use --feature-cache memory"
        ) from error
