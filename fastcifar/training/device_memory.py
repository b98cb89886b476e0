"""A device that runs out of memory, as one line that says what would take less."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from fastcifar.errors import DeviceMemoryError

# How XLA and CUDA put it in errors of other types than TensorFlow's own.
_EXHAUSTED = re.compile(
    r"RESOURCE_EXHAUSTED|out of memory|OOM when|CUDA_ERROR_OUT_OF_MEMORY|CUDNN_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
# TensorFlow has the same type of error for a full disk.
_DISK = re.compile(r"no space left|disk quota", re.IGNORECASE)
_DEVICE = re.compile(r"/device:(\w+:\d+)")


@contextmanager
def refusing_exhaustion(doing: str, cure: str) -> Iterator[None]:
    """Turn running out of a device's memory, inside, into one line.

    Args:
        doing: what was too much, such as `training on 512 images of 224 px in one step`.
        cure: the flags that make it less.

    Raises:
        DeviceMemoryError: in place of TensorFlow's error.
    """
    try:
        yield
    except tf.errors.OpError as error:
        exhausted = isinstance(error, tf.errors.ResourceExhaustedError)
        exhausted |= bool(_EXHAUSTED.search(error.message))
        if not exhausted or _DISK.search(error.message):
            raise
        found = _DEVICE.search(error.message)
        device = found[1] if found else "the device"
        raise DeviceMemoryError(f"{device} ran out of memory while {doing}. {cure}") from error
