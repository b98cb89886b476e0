"""A function of one replica's variables, traced once for all replicas."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from fastcifar import one_trace
from fastcifar.runtime import has_nccl, replica_devices
from fastcifar.training.state import local_copy


class Program:
    """A function of one replica's variables and of tensors, to be called on every replica.

    The variables are arguments of what is traced. A trace that captured them would belong to one
    replica, and tracing would take as many times as long as there are replicas.

    Args:
        function: (variable -> this replica's own copy, *tensors) -> tensors.
        variables: those that the function may ask for, as made under the strategy's scope.
        strategy: the distribution strategy.
        xla: compile by XLA.
        shared: whether one trace may serve all replicas; not if they exchange tensors within it by
            the strategy's own means.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        variables: Sequence[Any],
        strategy: Any,
        *,
        xla: bool,
        shared: bool,
    ):
        self._function = function
        self._variables = list(variables)
        self._strategy = strategy
        self._xla = xla
        # Without XLA an inner function buys nothing but the one trace.
        self._inlined = not xla and (not shared or strategy.num_replicas_in_sync == 1)
        self._shared = shared and not self._inlined
        self._traced: Any = None

    def __call__(self, replica: int, *tensors: Any) -> Any:
        """Call the function with the variables of a replica of this host, on whose device it is."""
        local = local_copy(self._strategy, replica)
        if self._inlined:
            return self._function(local, *tensors)
        own = [local(variable) for variable in self._variables]
        if self._traced is None:
            # Called as it was traced: by way of `tf.function`, TensorFlow would trace it again for
            # each device.
            # Without XLA it stays a function, so that TensorFlow does not optimise a copy of its
            # operations for each replica, all in one graph.
            attributes = None if self._xla else {"_noinline": True}
            compiled = tf.function(
                self._of,
                jit_compile=self._xla or None,
                autograph=False,
                experimental_attributes=attributes,
            )
            replicas = self._strategy.num_replicas_in_sync
            nccl = has_nccl(replica_devices(self._strategy))
            shared = one_trace.for_all(replicas, "nccl" if nccl else "ring")
            with shared if self._shared else contextlib.nullcontext():
                self._traced = compiled.get_concrete_function(own, *tensors)
        return self._traced(own, *tensors)

    def _of(self, own: Sequence[tf.Variable], *tensors: Any) -> Any:
        mine = {id(of_all): variable for of_all, variable in zip(self._variables, own, strict=True)}
        return self._function(lambda variable: mine[id(variable)], *tensors)
