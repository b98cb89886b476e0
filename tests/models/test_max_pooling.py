"""The gradient of max-pooling against TensorFlow's own, to the bit."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fastcifar.models.max_pooling import FusedMaxPooling2D, max_pool
from fastcifar.models.resnet import build_resnet
from fastcifar.runtime import Runtime
from fastcifar.training.assembly import build_network
from tests.training.small_run import small


def gradients(pool, x, dy):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = pool(x)
    return y, tape.gradient(y, x, dy)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("shape", [(2, 10, 12, 3), (2, 9, 11, 4), (1, 3, 3, 1)])
def test_values_and_gradient_are_tensorflow_s_to_the_bit(shape, xla, ties, dtype):
    rng = np.random.default_rng(0)
    values = np.maximum(rng.normal(size=shape), 0)
    x = tf.cast(tf.constant(np.round(values * 2) / 2 if ties else values), dtype)
    out = [shape[0], (shape[1] - 1) // 2, (shape[2] - 1) // 2, shape[3]]
    # Of any size, so that the order of additions shows.
    dy = tf.cast(tf.constant(rng.normal(size=out) * 10.0 ** rng.integers(-3, 3, out)), dtype)

    def plain(x):
        return tf.nn.max_pool2d(x, 3, 2, "VALID")

    fused = tf.function(lambda x, dy: gradients(max_pool, x, dy), jit_compile=xla, autograph=False)
    expected, found = gradients(plain, x, dy), fused(x, dy)
    for name, a, b in zip(("values", "gradient"), expected, found, strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(tf.cast(b, "float64"), tf.cast(a, "float64"), err_msg=name)


def test_compiled_it_has_no_scatter():
    x, dy = tf.zeros([2, 10, 10, 3]), tf.zeros([2, 4, 4, 3])
    function = tf.function(lambda x, dy: gradients(max_pool, x, dy)[1], jit_compile=True)
    program = function.experimental_get_compiler_ir(x, dy)(stage="hlo")
    assert "scatter" not in program


@pytest.mark.parametrize("fused", [False, True])
def test_the_network_has_it_where_asked(fused):
    model = build_resnet(depth=14, width=4, fused_pooling=fused)
    layer = model.get_layer("pool1_pool")
    assert isinstance(layer, FusedMaxPooling2D) == fused
    plain = keras.layers.MaxPooling2D(3, strides=2)
    images = tf.random.stateless_normal([2, 9, 10, 3], [1, 2])
    np.testing.assert_array_equal(layer(images), plain(images))


@pytest.mark.parametrize("xla", [False, True])
def test_a_step_that_xla_compiles_has_it(xla):
    chosen = Runtime(strategy=None, replicas=1, gpus=(), precision="float32", xla=xla)
    model = build_network(small(), chosen, num_classes=10)
    assert isinstance(model.get_layer("pool1_pool"), FusedMaxPooling2D) == xla
