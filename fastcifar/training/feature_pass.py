"""A pass of a frozen backbone over a split: its images, in their own order, to features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fastcifar.data import pipeline
from fastcifar.data.pipeline import Batch, HostTransform
from fastcifar.data.split import Examples
from fastcifar.runtime import replica_here
from fastcifar.training.step import Transform

# Images on each replica at a time. Not the batch of training: then every batch size would have
# features of its own, in the last bits. What inference holds of so many is less than what training
# holds of a few.
_IMAGES = 128


class FeaturePass:
    """Computes the features of splits by one backbone, compiled once for each image size.

    Args:
        backbone: images ready for the network -> features [B, F]; runs in inference mode.
        examples: of the largest split.
        multiple: what a replica's batch must be a multiple of.
        strategy: the distribution strategy under whose scope the network was made.
        xla: compile by XLA.
    """

    def __init__(
        self,
        backbone: keras.Model,
        *,
        examples: int,
        multiple: int = 1,
        strategy: Any,
        xla: bool,
    ):
        self._strategy = strategy
        self._trainable = len(backbone.trainable_variables)
        # Of this host: each host computes all features, without a word to the others.
        variable = backbone.variables[0].value
        self._replicas = len(strategy.experimental_local_results(variable))
        images = min(_IMAGES, -(-examples // self._replicas))
        self._images = -(-images // multiple) * multiple

        def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
            return tf.function(function, jit_compile=xla or None, autograph=False)

        def forward(values: list[tf.Tensor], images: tf.Tensor) -> tf.Tensor:
            own, others = values[: self._trainable], values[self._trainable :]
            return backbone.stateless_call(own, others, images, training=False)[0]

        self._compiled = compiled
        # The transforms are programs of their own, and weights are arguments: training and
        # validation images then share these, and compiling them takes longer than many passes.
        self._forward = [compiled(forward) for _ in range(self._replicas)]

    def __call__(
        self,
        split: Examples,
        *,
        weights: Sequence[tf.Variable],
        transform: Transform,
        host_transform: HostTransform | None = None,
        groups: int = 1,
        seed: int = 0,
        views: int = 1,
    ) -> Iterator[np.ndarray]:
        """Yield the features of successive images, [n, F] at a time, one view after the other.

        Args:
            split: the images.
            weights: of the backbone's trainable and then of its other variables, those to use.
            transform: of the images; keyed by (seed, view) and by each image's place in the split,
                up to the order of a group.
            host_transform: what comes before it on the host, if anything.
            groups: the transform works on so many neighbours, which change places in each view, as
                in each epoch of training: what depends on the place in a group is no image's own.
            seed: of the transform.
            views: how often.
        """
        global_batch_size = self._images * self._replicas
        dataset = pipeline.batches_in_order(
            split,
            global_batch_size=global_batch_size,
            replicas=self._replicas,
            epochs=views,
            groups=groups,
            seed=seed,
            host_transform=host_transform,
        )
        batches = iter(pipeline.to_devices(dataset, self._strategy))
        call = self._over_replicas(weights, transform, seed)
        for _ in range(views):
            for start in range(0, len(split), global_batch_size):
                batch = next(batches)
                features, indices = self._together(call(batch)), self._together(batch.indices)
                # What is behind the last image is padding.
                yield features[np.argsort(indices)][: len(split) - start]

    def _together(self, values: Any) -> np.ndarray:
        # Replicas hold successive slices.
        parts = self._strategy.experimental_local_results(values)
        return np.concatenate([part.numpy() for part in parts])

    def _over_replicas(
        self, weights: Sequence[tf.Variable], transform: Transform, seed: int
    ) -> Callable[[Any], Any]:
        """Return batches on the replicas' devices -> features there."""

        def ready(batch: Batch) -> tf.Tensor:
            key = tf.stack([tf.constant(seed, tf.int64), batch.epoch])
            return transform(batch.images, batch.labels, key, batch.positions, batch.indices)[0]

        transforms = [self._compiled(ready) for _ in range(self._replicas)]

        def on_replica(batch: Batch) -> tf.Tensor:
            replica = replica_here(self._replicas)
            local = [self._strategy.experimental_local_results(v)[replica] for v in weights]
            values = [variable.read_value() for variable in local]
            return self._forward[replica](values, transforms[replica](batch))

        return tf.function(
            lambda batch: self._strategy.run(on_replica, args=(batch,)), autograph=False
        )
