"""Images that carry their own number, to tell whether a pipeline delivers each of them once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fastcifar.bench.record import OK
from fastcifar.data.split import Split
from fastcifar.data.storage import empty_images

CLASSES = 10
# An image that is flipped, or shifted by so many pixels, still shows its number at its centre.
_SHIFT = 4


def numbered_split(count: int, size: int, background: np.ndarray | None = None) -> Split:
    """Make images whose centre holds their number; the label is the number modulo 10.

    Args:
        count: images, below 2**24.
        size: height and width in pixels.
        background: uint8 [count or more, size, size, 3], the images to be numbered; noise by
            default. Of 32 px, about a tenth is covered.
    """
    images = empty_images((count, size, size, 3))
    if background is None:
        images[:] = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    else:
        images[:] = background[:count]
    numbers = np.arange(count)
    colours = np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], axis=-1)
    # Flipping an even number of pixels moves the centre by one.
    middle = slice(max(0, size // 2 - _SHIFT - 1), size // 2 + _SHIFT + 1)
    images[:, middle, middle] = colours[:, np.newaxis, np.newaxis]
    return Split(images, numbers % CLASSES, tuple(map(str, range(CLASSES))))


def numbers_of(images: np.ndarray) -> np.ndarray:
    """Read the numbers of images [B, H, W, 3] (0..255, any dtype): int64 [B]."""
    _, height, width, _ = images.shape
    colours = np.rint(images[:, height // 2, width // 2]).astype(np.int64)
    high, middle, low = np.moveaxis(colours, -1, 0)
    return high << 16 | middle << 8 | low


def check_order(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], *, count: int, per_epoch: int, epochs: int = 2
) -> str:
    """Tell whether a pipeline delivers no image twice in an epoch, in an order that differs.

    Args:
        batches: (images [B, H, W, 3], labels [B]) of a `numbered_split`, without end.
        count: images in it.
        per_epoch: images that the pipeline delivers in an epoch; `count`, or fewer where it leaves
            out what does not fill a batch.
        epochs: how many to look at.

    Returns:
        `ok`, or `failed: …` with the first fault found.
    """
    found, right = [], 0
    for images, labels in batches:
        numbers = numbers_of(images)
        if not np.array_equal(numbers % CLASSES, labels):
            return "failed: an image came with the label of another"
        found.append(numbers)
        right += len(numbers)
        if right >= per_epoch * epochs:
            break
    if right < per_epoch * epochs:
        return f"failed: it ended after {right} of {per_epoch * epochs} images"
    numbers = np.concatenate(found)
    before = np.arange(per_epoch)
    for epoch in range(epochs):
        order = numbers[epoch * per_epoch : (epoch + 1) * per_epoch]
        if order.max() >= count:
            return "failed: an image came that is not in the set"
        twice = per_epoch - len(np.unique(order))
        if twice:
            return f"failed: {twice} of {per_epoch} images came twice in epoch {epoch + 1}"
        if np.array_equal(order, before):
            return f"failed: epoch {epoch + 1} has the order of the one before"
        before = order
    return OK
