"""3x3 max-pooling with stride 2 whose gradient XLA fuses.

XLA makes a scatter of TensorFlow's gradient, which is slow on a CPU and adds atomically, in no
order, on a GPU. Here it is two passes without one: which of its nine inputs each output took, then,
for each of the four places that an input can have in a 2x2 cell, the sum of what comes back to it.
Its values are TensorFlow's to the bit: the first of equal maxima takes the gradient, and an input
that several outputs took gets theirs in the outputs' order.
"""

from __future__ import annotations

import keras
import tensorflow as tf

_SIZE, _STRIDE = 3, 2


class FusedMaxPooling2D(keras.layers.MaxPooling2D):
    """`keras.layers.MaxPooling2D(3, strides=2)` with another gradient, of the same values."""

    def call(self, inputs):
        return max_pool(inputs)


@tf.custom_gradient
def max_pool(x):
    """Largest of each 3x3 window, with stride 2 and no padding: [B, H, W, C] -> [B, h, w, C]."""
    y = tf.nn.max_pool2d(x, _SIZE, _STRIDE, "VALID")
    return y, lambda dy: _gradient(x, y, dy)


def _gradient(x: tf.Tensor, y: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    height, width = x.shape[1:3]
    h, w = y.shape[1:3]
    # The first of the nine that is the maximum; none for NaN.
    first = tf.fill(tf.shape(y), tf.constant(9, tf.int8))
    for tap in reversed(range(9)):
        row, column = divmod(tap, 3)
        seen = x[:, row : row + 2 * h - 1 : 2, column : column + 2 * w - 1 : 2]
        first = tf.where(seen == y, tf.constant(tap, tf.int8), first)

    def back(row: int, column: int) -> tf.Tensor:
        """What comes back through one of the nine, laid on the grid of 2x2 cells of the input."""
        found = tf.where(
            first == tf.constant(3 * row + column, tf.int8), dy, tf.zeros([], dy.dtype)
        )
        below, right = row // 2, column // 2  # row 2 of a window is row 0 of the next cell
        return tf.pad(found, [[0, 0], [below, 1 - below], [right, 1 - right], [0, 0]])

    top = tf.stack([back(2, 2) + back(2, 0) + back(0, 2) + back(0, 0), back(2, 1) + back(0, 1)], 3)
    bottom = tf.stack([back(1, 2) + back(1, 0), back(1, 1)], 3)
    cells = tf.stack([top, bottom], 2)  # [B, h + 1, 2, w + 1, 2, C]
    pixels = tf.reshape(cells, [-1, 2 * h + 2, 2 * w + 2, x.shape[3]])
    return pixels[:, :height, :width]
