"""Optimizers against Keras' own, and weight decay against its definition."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fastcifar.config import OptimizerConfig
from fastcifar.training.optimizers import Optimizer, decayed

STEPS, RATE = 4, 0.05


def gradients(step):
    rng = np.random.default_rng(step)
    return [rng.normal(size=(3, 2)), rng.normal(size=2)]


def run(config, *, decay=(True, False), dtype="float64"):
    optimizer = Optimizer(config)
    start = gradients(100)
    parameters = [tf.Variable(value, dtype=dtype) for value in start]
    slots = {name: [tf.Variable(tf.zeros_like(v)) for v in parameters] for name in optimizer.slots}
    for step in range(STEPS):
        optimizer.apply(
            parameters,
            slots,
            [tf.constant(g, dtype) for g in gradients(step)],
            decay=decay,
            learning_rate=tf.constant(RATE),
            updates=tf.constant(step, tf.int64),
        )
    return [p.numpy() for p in parameters]


def run_keras(optimizer, l2=0.0):
    start = [keras.Variable(value, dtype="float64") for value in gradients(100)]
    for step in range(STEPS):
        kernel, bias = (tf.constant(g) for g in gradients(step))
        optimizer.apply([kernel + l2 * start[0].value, bias], start)
    return [v.numpy() for v in start]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_equals_keras_with_l2_in_the_gradient(name, weight_decay):
    theirs = {
        "sgd": lambda: keras.optimizers.SGD(RATE, momentum=0.9, nesterov=True),
        "adam": lambda: keras.optimizers.Adam(RATE),
        "rmsprop": lambda: keras.optimizers.RMSprop(RATE),
    }[name]()
    received = run(OptimizerConfig(optimizer=name, weight_decay=weight_decay))
    for mine, expected in zip(received, run_keras(theirs, weight_decay), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-5)


def test_adamw_equals_keras_with_decoupled_decay():
    theirs = keras.optimizers.AdamW(RATE, weight_decay=0.1)
    kernel, _ = run_keras(theirs)
    received = run(OptimizerConfig(optimizer="adamw", weight_decay=0.1))
    np.testing.assert_allclose(received[0], kernel, rtol=1e-5)


def test_decay_leaves_biases_alone():
    bias = run(OptimizerConfig(optimizer="adamw", weight_decay=0.1))[1]
    without = run(OptimizerConfig(optimizer="adamw", weight_decay=0.0))[1]
    np.testing.assert_array_equal(bias, without)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("conv1_conv/kernel", True),
        ("predictions/kernel", True),
        ("predictions/bias", False),
        ("conv1_bn/gamma", False),
        ("conv1_bn/beta", False),
    ],
)
def test_only_kernels_decay(path, expected):
    assert decayed(path) is expected
