"""Checksums: whether a file still holds what was written, and what images hold.

A seal is what a file must be: its size and the SHA-256 of its content. Hashing takes about a second
a gigabyte, so a seal also keeps the file's stamp. Where inode, time of modification and time of
change are those of a file that was found whole, no program has written to it since, because the
last of them cannot be set; such a file is not read again. A file that was changed within the last
moments gets no stamp: another change may meet the same tick of the clock.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastcifar.environment import usable_cores

_SETTLED_NS = 2_000_000_000  # coarser than the clock of any file system


class Damaged(ValueError):
    """A file that is not what was written; the message names it."""


class Seal(NamedTuple):
    """What a file must be.

    Attributes:
        size: in bytes.
        sha256: of its content, in hexadecimal digits.
        stamp: of the file when it was last found whole; empty where that was too soon to tell.
    """

    size: int
    sha256: str
    stamp: str = ""


def seal(path: Path) -> Seal:
    """Read a file and return its seal.

    Raises:
        OSError: if it cannot be read.
    """
    status = path.stat()  # before the content: a change meanwhile is then a change
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    settled = time.time_ns() - status.st_ctime_ns > _SETTLED_NS
    return Seal(status.st_size, digest, _stamp(status) if settled else "")


def seal_all(paths: Iterable[Path]) -> dict[str, Seal]:
    """Return the seals of files by name; they are read at the same time."""
    paths = list(paths)
    with ThreadPoolExecutor(usable_cores()) as pool:
        return dict(zip((path.name for path in paths), pool.map(seal, paths), strict=True))


def check_all(folder: Path, seals: Mapping[str, Seal]) -> dict[str, Seal]:
    """Check the files of a folder; return their seals with the stamps of today.

    Raises:
        Damaged: if one is not as sealed.
        OSError: if one cannot be read.
    """
    unread = []
    for name, known in seals.items():
        status = (folder / name).stat()
        if status.st_size != known.size:
            raise Damaged(f"{name} must hold {known.size} bytes. Received: {status.st_size}")
        if _stamp(status) != known.stamp:
            unread.append(name)
    found = seal_all(folder / name for name in unread)
    for name, now in found.items():
        if now.sha256 != seals[name].sha256:
            raise Damaged(f"{name} must hold what was written. Received: other bytes")
    return {**seals, **found}


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}"


def image_digests(images: np.ndarray) -> np.ndarray:
    """Hash each image by itself: uint64 [N] of uint8 [N, H, W, 3].

    Equal pixels in equal shapes have equal digests, wherever they come from.
    """
    rows = np.ascontiguousarray(images).reshape(len(images), math.prod(images.shape[1:]))

    def digest(part: np.ndarray) -> bytes:
        return b"".join(hashlib.sha256(row.data).digest()[:8] for row in part)

    # Small images are hashed faster than threads take turns.
    small = rows.shape[1] < 1 << 14
    parts = [rows] if small else np.array_split(rows, 4 * usable_cores())
    with ThreadPoolExecutor(usable_cores()) as pool:
        return np.frombuffer(b"".join(pool.map(digest, parts)), "<u8").astype(np.uint64)
