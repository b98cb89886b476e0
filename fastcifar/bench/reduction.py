"""The reduction across replicas alone, of vectors as long as those of the step."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fastcifar.bench.subject import Subject

_METRICS = 3  # that travel with the gradients


class Reduction:
    """Adds up, across the replicas of a strategy, what a step of `subject` adds up."""

    def __init__(self, subject: Subject):
        self._strategy = subject.prepared.runtime.strategy
        state = subject.prepared.state
        dtype = subject.config.runtime.reduce_dtype
        gradients = _elements(state.trainable)
        rest = _METRICS + _elements(state.statistics)
        # In float32 all travels as one vector.
        sizes = [(rest + gradients, dtype)]
        if dtype != "float32":
            sizes = [(rest, "float32"), (gradients, dtype)]
        self._vectors = [
            self._strategy.experimental_distribute_values_from_function(
                lambda context, size=size, dtype=dtype: tf.ones([size], dtype)
            )
            for size, dtype in sizes
        ]
        self.bytes = sum(size * tf.as_dtype(dtype).size for size, dtype in sizes)
        self._call = tf.function(self._reduce, autograph=False)

    def run(self, times: int) -> None:
        """Reduce `times` times, one after the other, and wait until it is done."""
        self._call(tf.constant(times, tf.int64)).numpy()

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


def _elements(variables: Any) -> int:
    return sum(variable.shape.num_elements() for variable in variables)
