"""How decoded images are kept: TensorFlow's view of host memory, of a file, or encoded."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fastcifar.errors import SourceError
from fastcifar.paths import local_path

# TensorFlow's kernels abort on a tensor that is not aligned to this many bytes.
ALIGNMENT = 64


def empty_images(shape: tuple[int, ...]) -> np.ndarray:
    """Allocate uint8 `shape`, uninitialised, aligned so that TensorFlow can share the memory."""
    size = int(np.prod(shape))
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    offset = -buffer.ctypes.data % ALIGNMENT
    return buffer[offset : offset + size].reshape(shape)


def tensor(images: np.ndarray):
    """Return a tensor of `images` (uint8 [N, H, W, 3]) that shares their memory.

    `tf.constant` would hold a second copy, and for a moment a third. The array must not be written
    to afterwards. An array that is not aligned is copied once.
    """
    import tensorflow as tf

    if images.ctypes.data % ALIGNMENT or not images.flags.c_contiguous:
        aligned = empty_images(images.shape)
        np.copyto(aligned, images)
        images = aligned
    # DLPack in this TensorFlow refuses arrays marked read-only; the memory is only read.
    return tf.experimental.dlpack.from_dlpack(images.__dlpack__())


def host_memory_bytes() -> int:
    """Memory of this machine, or of the container that this process runs in, if that has less."""
    import psutil

    found = [psutil.virtual_memory().total]
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # absent, or "max"
            found.append(int(Path(limit).read_text()))
    return min(found)


def cache_folder() -> Path:
    """$FASTCIFAR_CACHE, or fastcifar in the user's cache folder."""
    for name, inside in (("FASTCIFAR_CACHE", ""), ("XDG_CACHE_HOME", "fastcifar")):
        if os.environ.get(name):
            return Path(local_path(name, os.environ[name])) / inside
    return Path(local_path("FASTCIFAR_CACHE", "~/.cache/fastcifar"))


def on_disk(images: np.ndarray, say: Callable[[str], None] | None = None) -> np.ndarray:
    """Return `images` as a memory-mapped file in the cache folder, written where it is missing.

    The name is a hash of the content. The file appears whole or not at all; one that holds anything
    else is written again instead of being read.

    Args:
        images: uint8 [N, H, W, 3].
        say: told in a line where a file was damaged.

    Raises:
        SourceError: if the disk refuses.
    """
    digest = hashlib.sha256(images.data).hexdigest()
    path = cache_folder() / "decoded" / f"{digest}.u8"
    try:
        whole = path.exists() and _sha256(path) == digest
        if path.exists() and not whole and say is not None:
            say(f"the decoded images in {path} were damaged; they are written again")
        if not whole:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".partial-{os.getpid()}")
            try:
                images.tofile(partial)
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
        # Copy-on-write: the file itself can never be changed through this array.
        return np.memmap(path, np.uint8, "c", shape=images.shape)
    except OSError as error:
        raise SourceError(
            f"cache disk cannot write {path}: {error.strerror}. "
            "Free space there, set FASTCIFAR_CACHE, or use --cache memory"
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def encode(images: np.ndarray):
    """Return `images` (uint8 [N, H, W, 3]) as PNG, losslessly: a string tensor [N]."""
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(tensor(images))
    encoded = dataset.map(tf.io.encode_png, num_parallel_calls=tf.data.AUTOTUNE)
    return next(iter(encoded.batch(len(images))))
