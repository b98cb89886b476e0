"""What stands in for a part of the step that a prefix of it leaves out.

A prefix is the step that trains, built by the function that builds it for training, with its later
parts replaced by something that takes what came before and costs next to nothing. So that nothing
is optimised away, every stand-in makes a number that the step returns or stores depend on its
input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fastcifar.training.preparation import Prepared
from fastcifar.training.trained_part import TrainedPart


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
    """A network whose parameters are among its other variables, so that no gradient is computed.

    The new BatchNorm statistics are computed and stored as in training.

    Args:
        model: the network.
        parameters: how many of its variables are trained; they are the first of the others.
    """

    def __init__(self, model: Any, parameters: int):
        self._model = model
        self._parameters = parameters

    def stateless_call(
        self,
        parameters: Sequence[tf.Tensor],
        others: Sequence[tf.Tensor],
        images: tf.Tensor,
        training: bool,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """As of the network itself; `parameters` are none."""
        own, rest = others[: self._parameters], others[self._parameters :]
        logits, new = self._model.stateless_call(own, rest, images, training=training)
        return logits, [*own, *new]


class TakesGradients:
    """In place of an optimizer: reads one value of each gradient, which needs all of it computed.

    Convolution and matrix kernels do not compute a part of their result, compiled or not; reading
    all of it would cost a pass over memory that the update pays a second time.

    Its one slot, a float32 scalar, is for the sum of what was read last.
    """

    slots = ("taken",)

    def apply(
        self, parameters: Any, slots: Any, gradients: Sequence[tf.Tensor], **arguments: Any
    ) -> None:
        """Store a number that depends on every gradient."""
        first = [tf.cast(tf.reshape(gradient, [-1])[0], tf.float32) for gradient in gradients]
        slots["taken"][0].assign(tf.add_n(first))


def without_reduction(context: Any, vectors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """In place of the reduction between replicas: each goes on with its own vectors."""
    return list(vectors)


def without_network(prepared: Prepared, part: TrainedPart) -> tuple[Prepared, TrainedPart]:
    """A checksum for the network, and nothing to update."""
    model = Checksum(len(prepared.splits.class_names))
    return _unscaled(prepared), _without_gradients(part, model=model, others=[], updated=[])


def without_backward(prepared: Prepared, part: TrainedPart) -> tuple[Prepared, TrainedPart]:
    """The network, without gradients and update."""
    count = len(part.trainable)
    part = _without_gradients(
        part,
        model=ForwardOnly(part.model, count),
        others=[*part.trainable, *part.others],
        updated=[count + place for place in part.updated],
    )
    return _unscaled(prepared), part


def without_update(prepared: Prepared, part: TrainedPart) -> tuple[Prepared, TrainedPart]:
    """The network and its gradients, which nothing is updated from."""
    with prepared.runtime.strategy.scope():
        taken = tf.Variable(0.0, trainable=False, name="taken")
    optimizer: Any = TakesGradients()
    part = dataclasses.replace(part, slots={"taken": [taken]}, averages=[])
    return dataclasses.replace(prepared, optimizer=optimizer), part


def _without_gradients(part: TrainedPart, **kept: Any) -> TrainedPart:
    slots: dict[str, list[tf.Variable]] = {name: [] for name in part.slots}
    return dataclasses.replace(
        part, trainable=[], paths=[], slots=slots, averages=[], decay=[], rate_factors=[], **kept
    )


def _unscaled(prepared: Prepared) -> Prepared:
    # Without gradients there is nothing to scale, and the transforms know their dtype already.
    runtime = dataclasses.replace(prepared.runtime, precision="float32")
    return dataclasses.replace(prepared, runtime=runtime)
