"""Evaluation: loss, accuracy, predictions and confusion matrix, every example exactly once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fastcifar.augment import test_time
from fastcifar.data import pipeline
from fastcifar.data.features import FeatureSplit
from fastcifar.data.pipeline import EvaluationBatch
from fastcifar.data.split import Examples
from fastcifar.evaluation.metrics import confusion_matrix
from fastcifar.models.losses import cross_entropy
from fastcifar.runtime import replica_here

# Batches that a device may be given before the first of them is read: to read one waits for it.
UNDER_WAY = 4

Preprocess = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Evaluation:
    """What a model does on a split.

    Attributes:
        loss: mean cross-entropy over the examples in nats, with labels as they are: neither
            smoothed nor mixed, whatever training does to them.
        accuracy: share of examples classified correctly, 0..1.
        predictions: int64 [N], the predicted class of each example, in the split's order.
        confusion: int64 [C, C], rows are true classes, columns predicted ones.
    """

    loss: float
    accuracy: float
    predictions: np.ndarray
    confusion: np.ndarray


class Evaluator:
    """Evaluates one model on any split of one image shape; compiled once.

    Args:
        model: images ready for the network -> float32 logits [B, C].
        preprocess: uint8 [B, H, W, 3] -> images ready for the network. A head is evaluated on
            features: both are then [B, F].
        strategy: the distribution strategy under whose scope the model was made.
        xla: compile by XLA.
        global_batch_size: images in one call, a multiple of the replicas.
        views: test-time augmentation, of `fastcifar.augment.test_time.VIEWS`; the logits of an
            image's views are averaged.
        weights: what stands in for the model's own trainable and then non-trainable variables,
            such as their moving averages; those themselves by default.
        hosted: which of the replicas this host feeds; all by default.
    """

    def __init__(
        self,
        *,
        model: keras.Model,
        preprocess: Preprocess,
        strategy: Any,
        xla: bool,
        global_batch_size: int,
        views: str = "none",
        weights: Sequence[tf.Variable] = (),
        hosted: range | None = None,
    ):
        self._model = model
        self._preprocess = preprocess
        self._strategy = strategy
        self._global_batch_size = global_batch_size
        self._views = views
        self._trainable = [v.value for v in model.trainable_variables]
        self._others = [v.value for v in model.non_trainable_variables]
        if weights:
            count = len(self._trainable)
            self._trainable, self._others = list(weights[:count]), list(weights[count:])
        self._hosted = hosted or range(strategy.num_replicas_in_sync)

        def compiled(replica: int) -> Callable[..., Any]:
            def program(batch: EvaluationBatch) -> tuple[tf.Tensor, tf.Tensor]:
                return self._forward(batch, replica)

            return tf.function(program, jit_compile=True, autograph=False) if xla else program

        # One dataset for each split, kept: one made anew at every epoch's end would add a graph to
        # the process each time.
        self._datasets: dict[int, tuple[Examples | FeatureSplit, tf.data.Dataset]] = {}
        self._programs = [compiled(r) for r in range(len(self._hosted))]
        self._call = tf.function(self._distribute, autograph=False)

    def __call__(self, split: Examples | FeatureSplit) -> Evaluation:
        """Evaluate `split`; an empty one is refused by a ValueError."""
        if not len(split):
            raise ValueError("a split to evaluate must hold one example or more. Received: 0")
        loss = 0.0
        predictions = []
        under_way: deque[Any] = deque()

        def read_first() -> None:
            nonlocal loss
            losses, predicted = under_way.popleft()
            for part in self._strategy.experimental_local_results(losses):
                loss += float(part.numpy().sum())
            for part in self._strategy.experimental_local_results(predicted):
                predictions.append(part.numpy())

        batches = iter(self._batches(split))
        for _ in range(pipeline.evaluation_steps(len(split), self._global_batch_size)):
            if len(under_way) == UNDER_WAY:
                read_first()
            under_way.append(self._call(next(batches)))
        while under_way:
            read_first()
        # Replicas hold successive slices, so concatenation is the split's order; then the padding.
        predicted_labels = np.concatenate(predictions)[: len(split)].astype(np.int64)
        return Evaluation(
            loss=loss / len(split),
            accuracy=float(np.mean(predicted_labels == split.labels)),
            predictions=predicted_labels,
            confusion=confusion_matrix(split.labels, predicted_labels, len(split.class_names)),
        )

    def _batches(self, split: Examples | FeatureSplit) -> Any:
        if id(split) not in self._datasets:
            dataset = pipeline.evaluation_batches(
                split,
                global_batch_size=self._global_batch_size,
                replicas=self._strategy.num_replicas_in_sync,
                hosted=self._hosted,
            )
            # Kept with its split, so that the key stays this split's.
            self._datasets[id(split)] = (split, pipeline.to_devices(dataset, self._strategy))
        return self._datasets[id(split)][1]

    def _distribute(self, batch: Any) -> Any:
        found = self._strategy.run(self._on_replica, args=(batch,))
        if len(self._hosted) == self._strategy.num_replicas_in_sync:
            return found
        # Other hosts have parts of the answer, and every host goes on with all of it.
        return tuple(self._strategy.gather(part, axis=0) for part in found)

    def _on_replica(self, batch: EvaluationBatch) -> tuple[tf.Tensor, tf.Tensor]:
        return self._programs[replica_here(len(self._hosted))](batch)

    def _forward(self, batch: EvaluationBatch, replica: int) -> tuple[tf.Tensor, tf.Tensor]:
        def values(variables: Sequence[tf.Variable]) -> list[tf.Tensor]:
            local = [self._strategy.experimental_local_results(v)[replica] for v in variables]
            return [v.read_value() for v in local]

        trainable, others = values(self._trainable), values(self._others)

        def predict(images: tf.Tensor) -> tf.Tensor:
            ready = self._preprocess(images)
            return self._model.stateless_call(trainable, others, ready, training=False)[0]

        if self._views == "none":
            logits = predict(batch.images)
        else:
            logits = test_time.average(predict, batch.images, self._views)
        losses = cross_entropy(logits, batch.labels)
        total = tf.reduce_sum(losses * tf.cast(batch.weights, losses.dtype), keepdims=True)
        return total, tf.argmax(logits, axis=-1, output_type=tf.int64)
