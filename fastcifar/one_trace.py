"""Sums over replicas, also within a program that is traced once for all of them.

`tf.distribute.ReplicaContext.all_reduce` brings together what each replica traces for itself. In a
trace that all replicas share there is nothing to bring together: the operation itself is the same
on each of them, and finds the others when it runs. XLA compiles it for GPUs, which the key and the
variable that `all_reduce` gives each reduction in each step would prevent.
"""

from __future__ import annotations

import contextvars
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

# Names the replicas to TensorFlow; the keys of its strategies count up from 1.
_GROUP = 1 << 21
# Over all programs of the process: TensorFlow keeps the shape that a key has had.
_KEYS = itertools.count()


class _OneTrace:
    """A program while it is traced for all replicas of this host."""

    def __init__(self, replicas: int, hint: str):
        self._replicas = replicas
        self._hint = hint
        self._last: list[tf.Tensor] = []

    def add_up(self, tensor: tf.Tensor) -> tf.Tensor:
        # One after the other, in the same order on each: NCCL waits for all of one sum.
        with tf.control_dependencies(self._last):
            total = tf.raw_ops.CollectiveReduceV2(
                input=tensor,
                group_size=self._replicas,
                group_key=_GROUP + self._replicas,
                instance_key=next(_KEYS),
                ordering_token=[],
                merge_op="Add",
                final_op="Id",
                communication_hint=self._hint,
            )
        self._last = [total]
        return total


_current: contextvars.ContextVar[_OneTrace | None] = contextvars.ContextVar("trace", default=None)


@contextmanager
def for_all(replicas: int, hint: str) -> Iterator[None]:
    """Let what is traced inside be a program of all `replicas`, all of them on this host.

    Args:
        replicas: how many.
        hint: how TensorFlow adds up, `nccl` or `ring`.
    """
    token = _current.set(_OneTrace(replicas, hint))
    try:
        yield
    finally:
        _current.reset(token)


def add_up(context: Any, tensor: tf.Tensor) -> tf.Tensor:
    """Sum a tensor over the replicas; called on every replica, within its context."""
    trace = _current.get()
    if trace is not None:
        return trace.add_up(tensor)
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensor)
