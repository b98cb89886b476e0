"""Random numbers that are a pure function of (seed, epoch, position, stream).

There is no generator and no state: number `c` of stream `s` for the image at global position `p`
of epoch `e` is a hash of (seed, e, p, s, c). So a replica that holds any slice of the global batch
draws what the whole batch would have drawn, and a resumed run continues without iterator state.

The hash is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014; the finaliser is variant 13 of Stafford's "Better bit mixing", 2011) used as a counter:
hashing (seed, epoch) gives a key, hashing key and position gives each image a SplitMix64 generator
of its own, and the columns are that generator's outputs. It needs only uint64 add, multiply, shift
and xor, which TensorFlow registers for CPU and GPU alike and XLA compiles; all of them wrap modulo
2**64, so eager, graph, tf.data, XLA and GPU give the same bits. (int32 would not do: its kernels
and variables live on the host. `tf.random.stateless_*` is keyed by one seed for the whole tensor,
so a slice of the batch cannot draw its own part.)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import tensorflow as tf

from fastcifar.augment.operations import Operation
from fastcifar.errors import ConfigError

Tensor = Any  # tf.Tensor or anything that converts to one; TensorFlow ships no types

# 2**64 divided by the golden ratio, made odd: the increment of SplitMix64.
_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)
# Columns per stream: stream s owns outputs s * _STREAM + 1 ... (s + 1) * _STREAM of a generator.
_STREAM = 1 << 32


def _finalise(state: Tensor) -> Tensor:
    """Mix uint64 `state` so that each input bit flips each output bit with probability 1/2."""
    shift = tf.bitwise.right_shift
    state = tf.bitwise.bitwise_xor(state, shift(state, np.uint64(30))) * _MULTIPLIER_1
    state = tf.bitwise.bitwise_xor(state, shift(state, np.uint64(27))) * _MULTIPLIER_2
    return tf.bitwise.bitwise_xor(state, shift(state, np.uint64(31)))


def _unsigned(values: Tensor) -> Tensor:
    # Bitcast, not cast: negative seeds are legal, and converting them is left undefined by C++.
    return tf.bitcast(tf.cast(values, tf.int64), tf.uint64)


def bits(seed: Tensor, positions: Tensor, count: int, *, stream: int = 0) -> Tensor:
    """Return 64 random bits for each image and column.

    Args:
        seed: int64 [2]: (run seed, epoch). Any values.
        positions: int64 [B]: global position of each image within the epoch.
        count: columns per image, 1 ... 2**32.
        stream: 0 ... 2**31 - 1; numbers of different streams are independent.

    Returns:
        uint64 [B, count].

    Raises:
        ConfigError: if a shape, `count` or `stream` is not as above.
    """
    if not 0 < count <= _STREAM:
        raise ConfigError(f"count must lie in 1..2**32. Received: {count}")
    if not 0 <= stream < 1 << 31:
        raise ConfigError(f"stream must lie in 0..2**31 - 1. Received: {stream}")
    seed, positions = tf.convert_to_tensor(seed), tf.convert_to_tensor(positions)
    if not seed.shape.is_compatible_with([2]):
        raise ConfigError(f"seed must have shape [2]: (run seed, epoch). Received: {seed.shape}")
    if not positions.shape.is_compatible_with([None]):
        raise ConfigError(
            f"positions must have shape [B], one for each image. Received: {positions.shape}"
        )
    # Numbers 1 and 2 keep (seed, epoch) and (epoch, seed) apart; the factor 3 does so for the sum.
    key = _finalise(_unsigned(seed) + np.array([1, 2], np.uint64) * _INCREMENT)
    # Differences modulo 2**64, not sums: graph optimizers make AddN of a chain of sums, which has
    # no uint64 kernel on GPUs.
    key = key[0] - key[1] * np.uint64(2**64 - 3)
    image_key = _finalise(_unsigned(positions) * _INCREMENT - (np.uint64(0) - key))
    columns = np.arange(count, dtype=np.uint64) + np.uint64(stream * _STREAM + 1)
    return _finalise(image_key[:, tf.newaxis] + columns * _INCREMENT)


def uniform(seed: Tensor, positions: Tensor, count: int, *, stream: int = 0) -> Tensor:
    """Return uniform numbers: float32 [B, count] in [0, 1), multiples of 2**-24.

    Arguments and errors as in `bits`. One call per batch, with a column for every random parameter
    of every operation, costs about 25 small operations whatever `count` is.
    """
    # The top 24 bits: what a float32 holds exactly, so 1.0 is never reached by rounding.
    top = tf.bitwise.right_shift(bits(seed, positions, count, stream=stream), np.uint64(40))
    return _computed_once(tf.cast(tf.cast(top, tf.int64), tf.float32) * np.float32(2.0**-24))


def _computed_once(numbers: Tensor) -> Tensor:
    """The same numbers, float32 [B, count], behind an operation that XLA fuses into no other.

    An image's few numbers are used at each of its pixels. XLA would fuse the hash into the loop
    over pixels and compute it there each time: on a CPU the policy `standard` ran at a quarter of
    its speed, and `cutmix` at a tenth. TensorFlow has no barrier that exists outside XLA too; a
    scatter of each row to its own place is one, and costs nothing next to the hash. It keeps the
    larger of the number and zero, because XLA's deterministic scatter on GPUs is a loop over rows
    for all that depends on an order.
    """
    batch = numbers.shape[0]
    # A constant where the batch is static, as it is in training: `range` is made on the host.
    rows = tf.range(tf.shape(numbers)[0]) if batch is None else np.arange(batch, dtype=np.int32)
    return tf.tensor_scatter_nd_max(tf.zeros_like(numbers), rows[:, np.newaxis], numbers)


def normal(seed: Tensor, positions: Tensor, shape: tuple[int, int, int], *, stream: int) -> Tensor:
    """Return standard normal numbers: float32 [B, height, width, channels] (`shape` without B).

    Three numbers come out of each hash, of 21 bits each, by inversion of the distribution function:
    values lie within 5.1 standard deviations. Arguments and errors as in `bits`.
    """
    height, width, channels = shape
    hashes = -(-height * width * channels // 3)
    raw = bits(seed, positions, hashes, stream=stream)
    fields = [
        tf.bitwise.right_shift(tf.bitwise.left_shift(raw, np.uint64(21 * i)), np.uint64(43))
        for i in range(3)
    ]
    integers = tf.cast(tf.cast(tf.concat(fields, axis=1), tf.int64), tf.float32)
    integers = integers[:, : height * width * channels]
    # The centre of each of 2**21 equal cells, mapped to (-1, 1): never an end, where erfinv is inf.
    centred = integers * np.float32(2.0**-20) + np.float32(2.0**-21 - 1.0)
    values = tf.math.erfinv(centred) * np.float32(np.sqrt(2.0))
    return tf.reshape(values, [-1, height, width, channels])


def between(numbers: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Map uniform `numbers` in [0, 1) to [low, high)."""
    low, high = bounds
    return numbers * np.float32(high - low) + np.float32(low)


def draw(
    operations: Sequence[Operation], seed: Tensor, positions: Tensor, *, stream: int = 0
) -> list[tuple[Any, Tensor]]:
    """Pair each operation with its own numbers, all of them from one evaluation of the hash.

    Args:
        operations: whatever tells in `columns` how many numbers an image spends on it.
        seed, positions, stream: as `bits`.

    Returns:
        For each operation: it, and uniform numbers float32 [B, operation.columns].
    """
    ends = list(accumulate(operation.columns for operation in operations))
    if not ends:
        return []
    numbers = uniform(seed, positions, max(ends[-1], 1), stream=stream)
    return [
        (operation, numbers[:, end - operation.columns : end])
        for operation, end in zip(operations, ends, strict=True)
    ]
