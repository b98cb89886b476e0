"""What replicas add up in a step: gradients, BatchNorm statistics and metrics, as a few vectors.

Packed, all of it is one vector, so that the latency of a reduction is paid once a step. In buckets,
the gradients of each stage of the network are a vector: its reduction may start as soon as the
backward pass has left that stage, and go on while the pass does (Li et al., "PyTorch Distributed",
2020, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from fastcifar import one_trace
from fastcifar.training.trained_part import TrainedPart

_METRICS = 3


class Results(NamedTuple):
    """Of a step on one replica, or added up over all of them.

    Attributes:
        gradients: of each trainable variable.
        statistics: the new value of each updated one; of one replica, its share of it.
        metrics: float32 [3].
    """

    gradients: Sequence[tf.Tensor]
    statistics: list[tf.Tensor]
    metrics: tf.Tensor


class Exchange:
    """Lays a step's results out as vectors, and takes their sums apart again.

    Args:
        part: what is trained.
        buckets: which of the gradients travel together.
        dtype: what gradients are added up in, float32 (their own dtype) or bfloat16.
    """

    def __init__(self, part: TrainedPart, buckets: Sequence[Sequence[int]], dtype: str = "float32"):
        self._apart = dtype != "float32"
        self._dtype = dtype
        self._buckets = buckets
        self._order = [place for bucket in buckets for place in bucket]
        self._gradients = [v.shape for v in part.trainable]
        self._rest = [tf.TensorShape(_METRICS), *(v.shape for v in part.statistics)]

    def pack(self, results: Results) -> list[tf.Tensor]:
        """Return the vectors to be added up; the last one has the metrics and the statistics."""
        gradients = results.gradients
        # A benchmark may leave the gradients out.
        dtype = gradients[0].dtype if gradients else results.metrics.dtype
        rest = [tf.cast(results.metrics, dtype), *results.statistics]
        *others, last = [_joined(tensors) for tensors in self._grouped(rest, gradients)]
        if self._apart:
            others = [tf.cast(vector, self._dtype) for vector in others]
        return [*others, last]

    def unpack(self, vectors: Sequence[tf.Tensor]) -> Results:
        """The inverse of `pack`, in the dtypes of what was packed."""
        groups = self._grouped(self._rest, self._gradients)
        # Each vector by itself: what is done with one of them waits for no other.
        values = [
            tf.reshape(part, shape)
            for vector, shapes in zip(vectors, groups, strict=True)
            for part, shape in zip(
                tf.split(tf.cast(vector, vectors[-1].dtype), [s.num_elements() for s in shapes]),
                shapes,
                strict=True,
            )
        ]
        count = len(self._order)
        ordered = dict(zip(self._order, values[:count], strict=True))
        metrics, *statistics = values[count:]
        gradients = [ordered[place] for place in range(count)]
        return Results(gradients, statistics, tf.cast(metrics, tf.float32))

    def _grouped(self, rest: Sequence[Any], gradients: Sequence[Any]) -> list[list[Any]]:
        """What each vector is made of, of the tensors or of their shapes."""
        *others, last = [[gradients[place] for place in bucket] for bucket in self._buckets]
        if not self._apart:
            return [*others, [*last, *rest]]
        # Counts and averages would lose what they gain in a step to so short a mantissa.
        return [*others, *([last] if last else []), list(rest)]


def _joined(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Lay tensors of one dtype one after the other: [elements of all]."""
    return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)


def add_up(context: Any, vectors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Sum each vector over the replicas; called on every replica, within its context."""
    return [one_trace.add_up(context, vector) for vector in vectors]
