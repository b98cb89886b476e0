"""Optimizers against Keras' own, and weight decay against its definition."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fastcifar.config import OptimizerConfig
from fastcifar.training.optimizers import Optimizer, decayed

STEPS, RATE = 4, 0.05


def gradients(step, size=1.0):
    rng = np.random.default_rng(step)
    return [size * rng.normal(size=(3, 2)), size * rng.normal(size=2)]


def run(config, *, decay=(True, False), dtype="float64", size=1.0, rates=(RATE,) * STEPS):
    optimizer = Optimizer(config)
    start = gradients(100)
    parameters = [tf.Variable(value, dtype=dtype) for value in start]
    slots = {name: [tf.Variable(tf.zeros_like(v)) for v in parameters] for name in optimizer.slots}
    for step in range(STEPS):
        optimizer.apply(
            parameters,
            slots,
            [tf.constant(g, dtype) for g in gradients(step, size)],
            decay=decay,
            learning_rate=tf.constant(rates[step]),
            updates=tf.constant(step, tf.int64),
        )
    return [p.numpy() for p in parameters]


def run_keras(optimizer, l2=0.0, size=1.0, rates=(RATE,) * STEPS):
    start = [keras.Variable(value, dtype="float64") for value in gradients(100)]
    for step in range(STEPS):
        kernel, bias = (tf.constant(g) for g in gradients(step, size))
        optimizer.learning_rate = rates[step]
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


KERAS = {
    ("sgd", 0.9): lambda: keras.optimizers.SGD(RATE, momentum=0.9, nesterov=True),
    ("sgd", 0.0): lambda: keras.optimizers.SGD(RATE),
    ("adam", 0.9): lambda: keras.optimizers.Adam(RATE),
    ("rmsprop", 0.9): lambda: keras.optimizers.RMSprop(RATE),
}


@pytest.mark.parametrize("size", [1.0, 1e-7])
@pytest.mark.parametrize(("name", "momentum"), KERAS)
def test_equals_keras_where_the_rate_changes_and_epsilon_matters(name, momentum, size):
    """Where a momentum takes in the rate, and where epsilon stands, tell no other cases."""
    rates = (0.05, 0.2, 0.01, 0.1)
    config = OptimizerConfig(optimizer=name, momentum=momentum, weight_decay=0.0)
    start = gradients(100)
    received = run(config, size=size, rates=rates)
    expected = run_keras(KERAS[name, momentum](), size=size, rates=rates)
    for mine, theirs, value in zip(received, expected, start, strict=True):
        np.testing.assert_allclose(mine - value, theirs - value, rtol=1e-5, atol=1e-15)


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_weight_decay_is_not_that_of_keras(name):
    """There it is decoupled for all; the documentation says so."""
    theirs = KERAS[name, 0.9]()
    theirs.weight_decay = 0.1
    mine = run(OptimizerConfig(optimizer=name, weight_decay=0.1))[0]
    assert np.abs(mine - run_keras(theirs)[0]).max() > 1e-3


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
