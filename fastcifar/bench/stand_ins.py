"""What stands in for a part of the step that a prefix of it leaves out.

A prefix is the step that trains, built by the function that builds it for training, with its later
parts replaced by something that takes what came before and costs next to nothing. So that nothing
is optimised away, every stand-in makes a number that the step returns or stores depend on its
input.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fastcifar.runtime import replica_devices, replica_here
from fastcifar.training.preparation import Prepared
from fastcifar.training.state import TrainState, local_copy


class Checksum:
    """In place of a network: the mean of an image for a logit."""

    def __init__(self, num_classes: int):
        self._num_classes = num_classes

    def stateless_call(
        self,
        parameters: Sequence[tf.Tensor],
        statistics: Sequence[tf.Tensor],
        images: tf.Tensor,
        training: bool,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Images [B, H, W, 3] -> (float32 logits [B, C], no statistics)."""
        mean = tf.cast(tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2, 3]), tf.float32)
        return tf.tile(mean[:, None], [1, self._num_classes]), []


class ForwardOnly:
    """A network whose parameters are read outside the tape, so that no gradient is computed.

    The new BatchNorm statistics are computed and stored as in training.
    """

    def __init__(self, state: TrainState, strategy: Any):
        self._state = state
        self._strategy = strategy

    def stateless_call(
        self,
        parameters: Sequence[tf.Tensor],
        statistics: Sequence[tf.Tensor],
        images: tf.Tensor,
        training: bool,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """As of the network itself, whatever `parameters` are."""
        here = replica_here(len(replica_devices(self._strategy)))
        local = local_copy(self._strategy, here)
        own = [local(variable).read_value() for variable in self._state.trainable]
        return self._state.model.stateless_call(own, statistics, images, training=training)


class TakesGradients:
    """In place of an optimizer: reads one value of each gradient, which needs all of it computed.

    Convolution and matrix kernels do not compute a part of their result, compiled or not; reading
    all of it would cost a pass over memory that the update pays a second time.

    Attributes:
        taken: for each replica of this host a float32 scalar: the sum of what was read last.
    """

    slots = ()

    def __init__(self, strategy: Any) -> None:
        self.taken = []
        for device in replica_devices(strategy):
            with tf.device(device):
                self.taken.append(tf.Variable(0.0, trainable=False, name="taken"))

    def apply(
        self, parameters: Any, slots: Any, gradients: Sequence[tf.Tensor], **arguments: Any
    ) -> None:
        """Store a number that depends on every gradient."""
        first = [tf.cast(tf.reshape(gradient, [-1])[0], tf.float32) for gradient in gradients]
        self.taken[replica_here(len(self.taken))].assign(tf.add_n(first))


def without_reduction(context: Any, vectors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """In place of the reduction between replicas: each goes on with its own vectors."""
    return list(vectors)


def without_network(prepared: Prepared) -> Prepared:
    """The parts of a run with a checksum for the network, and nothing to update."""
    state = _without_gradients(prepared.state)
    state.model = Checksum(len(prepared.splits.class_names))
    state.statistics = []
    return _unscaled(prepared, state)


def without_backward(prepared: Prepared) -> Prepared:
    """The parts of a run with the network, without gradients and update."""
    state = _without_gradients(prepared.state)
    state.model = ForwardOnly(prepared.state, prepared.runtime.strategy)
    return _unscaled(prepared, state)


def without_update(prepared: Prepared) -> Prepared:
    """The parts of a run with the network and its gradients, which nothing is updated from."""
    optimizer: Any = TakesGradients(prepared.runtime.strategy)
    return dataclasses.replace(prepared, optimizer=optimizer)


def _without_gradients(state: TrainState) -> Any:
    found: Any = copy.copy(state)
    found.trainable, found.trainable_paths = [], []
    found.slots = {name: [] for name in state.slots}
    found.averages = []
    return found


def _unscaled(prepared: Prepared, state: Any) -> Prepared:
    # Without gradients there is nothing to scale, and the transforms know their dtype already.
    runtime = dataclasses.replace(prepared.runtime, precision="float32")
    return dataclasses.replace(prepared, state=state, runtime=runtime)
