"""The reduction across replicas alone, of vectors as long as those of the step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from fastcifar.bench.record import OK
from fastcifar.bench.subject import Subject

METRICS = 3  # that travel with the gradients


class Reduction:
    """Adds up vectors of ones across the replicas of a strategy, a reduction for each vector.

    Args:
        strategy: with several replicas.
        sizes: elements and dtype of each vector.

    Attributes:
        bytes: of all vectors of one replica.
    """

    def __init__(self, strategy: Any, sizes: Sequence[tuple[int, str]]):
        self._strategy = strategy
        self._vectors = [
            strategy.experimental_distribute_values_from_function(
                lambda context, size=size, dtype=dtype: tf.ones([size], dtype)
            )
            for size, dtype in sizes
        ]
        self.bytes = sum(size * tf.as_dtype(dtype).size for size, dtype in sizes)
        self._call = tf.function(self._reduce, autograph=False)

    @classmethod
    def of_step(cls, subject: Subject) -> Reduction:
        """What a step of `subject` adds up."""
        state = subject.prepared.state
        dtype = subject.config.runtime.reduce_dtype
        gradients = elements(state.trainable)
        rest = METRICS + elements(state.statistics)
        # In float32 all travels as one vector.
        sizes = [(rest + gradients, dtype)]
        if dtype != "float32":
            sizes = [(rest, "float32"), (gradients, dtype)]
        return cls(subject.prepared.runtime.strategy, sizes)

    def run(self, times: int) -> float:
        """Reduce `times` times, one after the other; returns the sum of the first elements."""
        return float(self._call(tf.constant(times, tf.int64)).numpy())

    def check(self) -> str:
        """Tell whether ones add up to as many as there are replicas."""
        expected = float(len(self._vectors) * self._strategy.num_replicas_in_sync)
        found = self.run(1)
        return OK if found == expected else f"failed: {expected:g} expected. Received: {found:g}"

    def _reduce(self, times: tf.Tensor) -> tf.Tensor:
        def one(i: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            found = self._strategy.run(_on_replica, args=(self._vectors,))
            found = self._strategy.experimental_local_results(found)[0]
            return i + 1, total + found

        start = (tf.constant(0, tf.int64), tf.constant(0.0))
        _, total = tf.while_loop(lambda i, _: i < times, one, start, parallel_iterations=1)
        return total


def _on_replica(vectors: list[tf.Tensor]) -> tf.Tensor:
    """Sum each vector over the replicas; returns a number that needs all of them."""
    context = tf.distribute.get_replica_context()
    summed = [context.all_reduce(tf.distribute.ReduceOp.SUM, vector) for vector in vectors]
    return tf.add_n([tf.cast(vector[0], tf.float32) for vector in summed])


def elements(variables: Iterable[tf.Variable]) -> int:
    """Numbers in all of the variables."""
    return sum(variable.shape.num_elements() for variable in variables)
