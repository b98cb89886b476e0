"""Batch normalisation by TensorFlow's fused kernel, with Keras' weights, names and definition."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from fastcifar import one_trace

# The fused kernel's dtypes; anything else (float64 in tests) takes Keras' own arithmetic.
_FUSED_DTYPES = ("float32", "float16", "bfloat16")


@keras.saving.register_keras_serializable(package="fastcifar")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the channel axis, in one fused operation.

    Keras 3 normalises by elementwise operations on a float32 copy of its input. The fused kernel
    (`FusedBatchNormV3`) reads and writes the compute dtype while it accumulates in float32, which
    saves most of the layer's memory traffic without XLA and compiles to the same program with it.

    Weights, arguments and results are those of the Keras layer: [..., C] in, the same shape out,
    moving statistics in float32 with the biased variance. A frozen layer (`trainable=False`)
    stays in inference mode. `synchronized=True` and float64 fall back to the Keras layer, but for
    the way in which synchronised statistics are added up.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalise `inputs` [B, H, W, C]; with `training`, by the statistics of this batch."""
        fusable = (
            mask is None
            and not self.synchronized
            and not self.renorm
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and keras.backend.standardize_dtype(inputs.dtype) in _FUSED_DTYPES
        )
        if not fusable:
            return super().call(inputs, training=training, mask=mask)

        def float32(variable):
            return tf.cast(tf.convert_to_tensor(variable), tf.float32)

        moving_mean, moving_variance = float32(self.moving_mean), float32(self.moving_variance)
        gamma = float32(self.gamma) if self.scale else tf.ones_like(moving_mean)
        beta = float32(self.beta) if self.center else tf.zeros_like(moving_mean)
        if not (training and self.trainable):
            # Folded into one multiply-add per element: the kernel's own inference mode does the
            # same, but has no bfloat16 form on every device.
            factor = gamma * tf.math.rsqrt(moving_variance + self.epsilon)
            offset = beta - moving_mean * factor
            outputs = tf.cast(inputs, tf.float32) * factor + offset
            return tf.cast(outputs, self.compute_dtype)

        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=gamma,
            offset=beta,
            mean=tf.zeros([0], tf.float32),
            variance=tf.zeros([0], tf.float32),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The kernel reports the unbiased variance; Keras' moving variance is the biased one.
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
        variance = variance * (tf.maximum(count - 1.0, 1.0) / count)
        self.moving_mean.assign(moving_mean * self.momentum + mean * (1.0 - self.momentum))
        self.moving_variance.assign(
            moving_variance * self.momentum + variance * (1.0 - self.momentum)
        )
        return outputs

    def _moments(self, inputs, mask):
        """Mean and biased variance of each channel, over the global batch where synchronised.

        Keras' own formula, in one reduction in place of its three.
        """
        context = tf.distribute.get_replica_context()
        alone = context is None or context.num_replicas_in_sync == 1
        if not self.synchronized or mask is not None or alone:
            return super()._moments(inputs, mask)
        axes = self._reduction_axes
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[self.axis], inputs.dtype)
        sums = [tf.reduce_sum(inputs, axes), tf.reduce_sum(tf.square(inputs), axes), count[None]]
        channels = inputs.shape[self.axis]
        total, squared, count = tf.split(
            _sum_over_replicas(tf.concat(sums, axis=0)), [channels, channels, 1]
        )
        mean = total / count
        return mean, tf.maximum(squared / count - tf.square(mean), 0.0)


@tf.custom_gradient
def _sum_over_replicas(vector: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Add up a vector of each replica; the gradient of a sum is the sum of the gradients.

    `ReplicaContext.all_reduce` has this gradient too, but looks for variables behind every
    differentiable operation that its result depends on: through the other replicas' vectors, that
    is the whole graph of each. Behind `stop_gradient` there is nothing to look at, which makes the
    time to trace a network grow with its layers and no longer with their square.
    """

    def add_up(tensor: tf.Tensor) -> tf.Tensor:
        return one_trace.add_up(tf.distribute.get_replica_context(), tf.stop_gradient(tensor))

    return add_up(vector), add_up
