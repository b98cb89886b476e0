"""Dropout whose masks are a pure function of (seed, epoch, position), like all randomness here.

`keras.layers.Dropout` draws from a generator with a state of its own, a variable of the model that
no replica could share and that a resumed run would have to restore. Here the numbers come from the
hash that augmentation uses (`fastcifar.augment.randomness`), so a replica that holds any slice of
the global batch drops what the whole batch would have dropped.

A layer is called by Keras with images alone, so the keys reach it from beside: the train step
brings them in by `dropout_keys`, around its call of the network.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf

from fastcifar.augment.randomness import uniform
from fastcifar.errors import ConfigError

Tensor = Any  # tf.Tensor; TensorFlow ships no types

# Streams from here on are dropout's; augmentation counts its own from 0.
FIRST_STREAM = 1 << 20

# Of the thread: under MirroredStrategy each replica is traced in one of its own.
_keys: ContextVar[tuple[Tensor, Tensor] | None] = ContextVar("dropout_keys", default=None)


@contextlib.contextmanager
def dropout_keys(seed: Tensor, positions: Tensor) -> Iterator[None]:
    """Key the dropout of networks that are called inside.

    Args:
        seed: int64 [2]: (seed of the run, epoch).
        positions: int64 [B]: global position of each image within the epoch.
    """
    token = _keys.set((seed, positions))
    try:
        yield
    finally:
        _keys.reset(token)


@keras.saving.register_keras_serializable(package="fastcifar")
class Dropout(keras.layers.Layer):
    """Zeroes a share of its inputs and scales the others up (Srivastava et al., 2014).

    [B, …] in, the same shape and dtype out. In training inside `dropout_keys`; otherwise the
    identity, and in training without keys a RuntimeError: silence would train another network.

    Args:
        rate: share to drop, in [0, 1).
        stream: tells the dropouts of one network apart; 0, 1, ...

    Raises:
        ConfigError: if the rate is not in [0, 1).
    """

    def __init__(self, rate: float, stream: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ConfigError(f"dropout must be 0 or more and below 1. Received: {rate}")
        self.rate = rate
        self.stream = stream
        self.built = True

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Drop in training; [B, …] in and out."""
        if not training or not self.rate:
            return inputs
        keys = _keys.get()
        if keys is None:
            raise RuntimeError(f"{self.name} trains without keys: call it inside dropout_keys")
        count = math.prod(inputs.shape[1:])
        numbers = uniform(*keys, count, stream=FIRST_STREAM + self.stream)
        kept = tf.reshape(numbers >= self.rate, [-1, *inputs.shape[1:]])
        return tf.where(kept, inputs / tf.cast(1 - self.rate, inputs.dtype), 0)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape that comes in."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "rate": self.rate, "stream": self.stream}
