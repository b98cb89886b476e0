"""The gradient of max-pooling both ways; that without a scatter is for steps that XLA compiles."""

import pytest
import tensorflow as tf

from fastcifar.models.max_pooling import max_pool

# What ResNet's stem hands over at 224 px, padded; 8 images.
SHAPE = (8, 114, 114, 64)
WAYS = {"tensorflow": lambda x: tf.nn.max_pool2d(x, 3, 2, "VALID"), "without scatter": max_pool}


@pytest.mark.parametrize("xla", [False, True], ids=["xla off", "xla on"])
@pytest.mark.parametrize("way", WAYS)
def test_forward_and_gradient(benchmark, way, xla):
    benchmark.group = f"xla {'on' if xla else 'off'}"
    x = tf.random.stateless_uniform(SHAPE, [1, 2])

    @tf.function(jit_compile=xla or None)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = WAYS[way](x)
        return tape.gradient(y, x)

    gradient(x)  # traced and compiled
    found = benchmark(lambda: gradient(x).numpy())
    assert found.sum() == SHAPE[0] * 56 * 56 * SHAPE[3]
