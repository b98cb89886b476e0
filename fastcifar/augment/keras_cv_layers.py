"""The policy `keras-cv`: KerasCV's own layers, for comparison with ours.

They do not compile under XLA (RandomCrop among them) and keep their own random state, so the policy
runs in a graph before the compiled program and repeats itself only by chance.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fastcifar.augment.operations import KerasCV

Tensor = Any  # tf.Tensor; TensorFlow ships no types


class KerasCVLayers:
    """Flip, pad and crop, cutout as KerasCV does them; made once, as layers hold state."""

    def __init__(self, operation: KerasCV, size: tuple[int, int]) -> None:
        """Args: `operation`, the parameters; `size`, (height, width) of the source images."""
        import keras_cv  # takes seconds, and only this policy needs it

        padding = operation.padding
        self._paddings = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
        self._layers = [
            keras_cv.layers.RandomFlip("horizontal"),
            keras_cv.layers.RandomCrop(*size),
            keras_cv.layers.RandomCutout((operation.side,) * 2, (operation.side,) * 2),
        ]

    def __call__(self, images: Tensor) -> Tensor:
        """Map [B, h, w, 3], 0..255, to float32 of the same shape."""
        images = tf.pad(tf.cast(images, tf.float32), self._paddings)
        for layer in self._layers:
            images = layer(images, training=True)
        return images
