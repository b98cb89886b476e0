"""Pictures of a policy: many draws of a few images beside the originals."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from fastcifar.augment import policies
from fastcifar.augment.build import build
from fastcifar.augment.checks import check_image_size
from fastcifar.errors import ConfigError

_BACKGROUND = 255


def draw_many(
    policy: policies.Policy | str,
    images: np.ndarray,
    *,
    count: int,
    image_size: tuple[int, int],
    seed: int = 0,
    resize_method: str = "bilinear",
) -> np.ndarray:
    """Augment each image `count` times, as training would over an epoch of `count` copies.

    The copies are shuffled over the positions, so that partners and groups vary as they do when
    training.

    Args:
        policy: a policy or its name.
        images: uint8 [N, h, w, 3].
        count: draws of each image, at least 1.
        image_size: (H, W) of the draws.
        seed: of the draws.
        resize_method: "bilinear" or "nearest".

    Returns:
        uint8 [N, count, H, W, 3].

    Raises:
        ConfigError: if an argument is not as above.
    """
    if not isinstance(policy, policies.Policy):
        policy = policies.get(policy)
    height, width = check_image_size(image_size)
    if count < 1 or len(images) == 0:
        raise ConfigError(
            f"a grid needs an image and a draw at least. Received: {len(images)} images, "
            f"{count} draws"
        )
    total = len(images) * count
    # Fill the last group up; what is drawn there is not shown.
    padded = -(-total // policy.group_size) * policy.group_size
    order = np.random.default_rng(seed).permutation(padded)
    augment = build(policy, image_size=(height, width), num_classes=2, resize_method=resize_method)
    drawn, _ = augment(
        images[(order % total) // count],
        np.zeros(padded, np.int64),
        np.array([seed, 0], np.int64),
        np.arange(padded, dtype=np.int64),
        order,  # each copy is an image of its own
    )
    shown = np.empty((padded, height, width, 3), np.uint8)
    shown[order] = np.clip(np.rint(tf.cast(drawn, tf.float32).numpy()), 0, 255)
    return shown[:total].reshape(len(images), count, height, width, 3)


def grid(originals: np.ndarray, draws: np.ndarray, *, scale: int = 1, gap: int = 2) -> np.ndarray:
    """Lay out one row for each image: the original, a wider gap, its draws.

    Args:
        originals: uint8 [N, h, w, 3]; enlarged to the draws' size by repeating pixels, or kept.
        draws: uint8 [N, count, H, W, 3].
        scale: how many pixels of the picture a pixel of the draws becomes, along each side.
        gap: white pixels between images, before scaling.

    Returns:
        uint8 [rows, columns, 3], white where there is no image.

    Raises:
        ConfigError: if the shapes do not fit each other.
    """
    if originals.ndim != 4 or draws.ndim != 5 or len(originals) != len(draws):
        raise ConfigError(
            "a grid needs originals [N, h, w, 3] and draws [N, count, H, W, 3]. "
            f"Received: {list(originals.shape)} and {list(draws.shape)}"
        )
    images, count, height, width, _ = draws.shape
    enlarged = max(1, min(height // originals.shape[1], width // originals.shape[2]))
    originals = originals.repeat(enlarged, axis=1).repeat(enlarged, axis=2)
    tall, wide = max(height, originals.shape[1]), originals.shape[2]
    first = wide + 4 * gap
    picture = np.full(
        (images * (tall + gap) + gap, first + count * (width + gap) + gap, 3),
        _BACKGROUND,
        np.uint8,
    )
    for row in range(images):
        top = gap + row * (tall + gap)
        picture[top : top + originals.shape[1], gap : gap + wide] = originals[row]
        for column in range(count):
            left = first + gap + column * (width + gap)
            picture[top : top + height, left : left + width] = draws[row, column]
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)
