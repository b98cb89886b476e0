"""The fused BatchNorm against the Keras layer: outputs, statistics, gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fastcifar.models.batch_norm import BatchNormalization


def pair(dtype, **arguments):
    """The Keras layer and ours, with the same random weights."""
    rng = np.random.default_rng(1)
    layers = []
    for cls in (keras.layers.BatchNormalization, BatchNormalization):
        layer = cls(momentum=0.9, epsilon=1e-3, dtype=dtype, **arguments)
        layer.build((None, 6, 6, 5))
        layers.append(layer)
    values = [rng.uniform(0.5, 1.5, v.shape) for v in layers[0].weights]
    for layer in layers:
        layer.set_weights(values)
    return layers


def images(dtype="float32"):
    rng = np.random.default_rng(2)
    return tf.cast(rng.normal(0.5, 2.0, (4, 6, 6, 5)), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("training", [True, False])
def test_equals_the_keras_layer(dtype, training):
    keras_layer, ours = pair(dtype)
    expected = keras_layer(images(dtype), training=training)
    received = ours(images(dtype), training=training)
    np.testing.assert_allclose(received, expected, atol=1e-5)
    for theirs, mine in zip(keras_layer.weights, ours.weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), atol=1e-6)


def test_gradients_equal_those_of_the_keras_layer():
    found = []
    for layer in pair("float32"):
        x = images()
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(y * tf.cos(tf.cast(tf.range(5), tf.float32)) + y**3)
        found.append(tape.gradient(loss, [x, layer.gamma.value, layer.beta.value]))
    for theirs, mine in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-3)


def test_mixed_precision_keeps_float32_statistics():
    _, reference = pair("float32")
    _, mixed = pair("mixed_bfloat16")
    reference(images(), training=True)
    assert mixed(images("bfloat16"), training=True).dtype == tf.bfloat16
    assert mixed.moving_mean.dtype == "float32"
    np.testing.assert_allclose(
        mixed.moving_variance.numpy(), reference.moving_variance.numpy(), rtol=1e-2
    )


def test_frozen_layer_stays_in_inference_mode():
    _, layer = pair("float32")
    before = [w.numpy() for w in layer.weights]
    layer.trainable = False
    frozen = layer(images(), training=True)
    np.testing.assert_allclose(frozen, layer(images(), training=False))
    for old, variable in zip(before, layer.weights, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)


def test_one_value_per_channel_gives_finite_statistics():
    layer = BatchNormalization()
    layer(tf.ones([1, 1, 1, 3]), training=True)
    assert np.isfinite(layer.moving_variance.numpy()).all()


def test_synchronised_statistics_take_one_reduction_each_way(monkeypatch):
    reductions = []
    all_reduce = tf.distribute.ReplicaContext.all_reduce

    def counted(self, operation, value, options=None):
        reductions.append(value)
        return all_reduce(self, operation, value, options)

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layer = BatchNormalization(synchronized=True)
        layer.build((None, 4, 4, 2))

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x, training=True) ** 3)
        return tape.gradient(loss, x)

    step = tf.function(lambda x: strategy.run(gradient, args=(x,)), autograph=False)
    monkeypatch.setattr(tf.distribute.ReplicaContext, "all_reduce", counted)
    step.get_concrete_function(tf.TensorSpec([2, 4, 4, 2]))
    forward_and_backward = [value for value in reductions if tf.is_tensor(value)]
    assert len(forward_and_backward) == 2 * strategy.num_replicas_in_sync
