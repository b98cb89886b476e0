"""The backward pass: at once, or a stage of the network at a time.

At once, a compiler is free to put off the gradients of weights to the end of the pass, as nothing
else waits for them; and XLA does. In stages, those of a stage are there before the pass goes on to
the stage in front of it, so that their reduction can go on beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops.gen_xla_ops import xla_optimization_barrier

from fastcifar.models.subsets import group_of
from fastcifar.training.trained_part import TrainedPart

# Of the stem and the head, whose few numbers are there shortly after and before those of a stage.
_WITH = {"conv1": "conv2", "head": "conv5"}


def buckets(paths: Sequence[str]) -> dict[str, list[int]]:
    """Return the places of the variables of each stage, the last stage first.

    A network of four stages has four buckets: the stem is in that of the first stage, the head in
    that of the last.

    Args:
        paths: of the trainable variables, such as `conv4_block6_2_conv/kernel`.
    """
    found: dict[str, list[int]] = {}
    for place, path in enumerate(paths):
        stage = group_of(path.split("/")[0]).split("_")[0]
        found.setdefault(_WITH.get(stage, stage), []).append(place)
    return {stage: found[stage] for stage in sorted(found, reverse=True)}


class Backward:
    """Differentiates with respect to what a part of a network trains.

    Args:
        part: what is trained.
        by_stage: in the order of `buckets`.
        ordered: have XLA keep to that order.

    Attributes:
        buckets: places in `part.trainable` whose gradients are there together, in their order.
    """

    def __init__(self, part: TrainedPart, *, by_stage: bool, ordered: bool):
        self._ordered = ordered
        self._model = part.model
        self.buckets = [list(range(len(part.trainable)))]
        # A benchmark may leave the network out.
        if not (by_stage and part.trainable and isinstance(part.model, keras.Model)):
            return
        stages = buckets(part.paths)
        self.buckets = list(stages.values())
        # Between two buckets stands what the second one's stage hands on.
        _, *behind = stages
        ends = [_last_of(part.model, stage).output for stage in behind]
        if ends:
            self._model = keras.Model(part.model.input, [part.model.output, *ends])

    def tape(self) -> tf.GradientTape:
        """The tape to record `forward` and the objective by."""
        return tf.GradientTape(persistent=len(self.buckets) > 1, watch_accessed_variables=False)

    def forward(
        self, parameters: Sequence[tf.Tensor], others: Sequence[tf.Tensor], images: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
        """Return the logits, the network's new other variables, and what `gradients` asks for."""
        outputs, seen = self._model.stateless_call(parameters, others, images, training=True)
        logits, *ends = outputs if len(self.buckets) > 1 else [outputs]
        return logits, seen, ends

    def gradients(
        self,
        tape: tf.GradientTape,
        objective: tf.Tensor,
        parameters: Sequence[tf.Tensor],
        ends: Sequence[tf.Tensor],
    ) -> list[tf.Tensor]:
        """Return the gradient of the objective for each of the parameters."""
        found: dict[int, tf.Tensor] = {}
        target, upstream = objective, None
        for bucket, end in zip(self.buckets, [*ends, None], strict=True):
            sources = [parameters[place] for place in bucket]
            if end is None:
                own = tape.gradient(target, sources, output_gradients=upstream)
            else:
                *own, upstream = tape.gradient(target, [*sources, end], output_gradients=upstream)
                target = end
                if self._ordered:
                    own, upstream = _in_order(own, upstream)
            found.update(zip(bucket, own, strict=True))
        return [found[place] for place in range(len(parameters))]


def _in_order(
    gradients: Sequence[tf.Tensor], upstream: tf.Tensor
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Return both as they are, the second so that XLA computes it after the first.

    Its barrier alone would not do: that is gone before operations are put into their order, which
    keeps to nothing but what is computed from what. Behind a barrier XLA does not see that the
    condition is never true.
    """
    flat = tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], axis=0)
    (flat,) = xla_optimization_barrier([flat])
    upstream = tf.where(flat[0] > np.inf, tf.zeros_like(upstream), upstream)
    shapes = [gradient.shape for gradient in gradients]
    parts = tf.split(flat, [shape.num_elements() for shape in shapes])
    return [tf.reshape(*pair) for pair in zip(parts, shapes, strict=True)], upstream


def _last_of(model: Any, stage: str) -> keras.layers.Layer:
    """The layer that a stage ends in."""
    return [la for la in model.layers if la.name.startswith(stage) and la.name.endswith("_out")][-1]
