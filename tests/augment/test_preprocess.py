"""Resize and normalise."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fastcifar.augment.preprocess import SCHEMES, normalise, preprocess, resize
from fastcifar.errors import ConfigError


def test_resizing_to_the_same_size_is_a_cast(images):
    for dtype in ("float32", "bfloat16"):
        received = resize(images, (12, 10), dtype=dtype)
        assert received.dtype == dtype
        np.testing.assert_array_equal(tf.cast(received, tf.float32), images)


@pytest.mark.parametrize("size", [(24, 20), (5, 7)])
def test_resize_equals_keras_resizing(images, size):
    layer = keras.layers.Resizing(*size, interpolation="bilinear", antialias=True)
    np.testing.assert_allclose(resize(images, size), layer(images.astype("float32")), atol=1e-2)


def test_resize_compiles_where_tensorflows_does_not(images):
    compiled = tf.function(lambda x: resize(x, (5, 7)), jit_compile=True)
    np.testing.assert_allclose(compiled(images), resize(images, (5, 7)), atol=1e-3)


def test_caffe_is_what_keras_applications_expects(images):
    expected = keras.applications.resnet50.preprocess_input(images.astype("float32"))
    received = normalise(tf.cast(images, tf.float32), "caffe")
    np.testing.assert_allclose(received, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("scheme", "mean", "deviation"),
    [
        ("unit", (0, 0, 0), (1, 1, 1)),
        ("cifar", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_other_schemes_equal_numpy(images, scheme, mean, deviation):
    expected = (images / 255 - mean) / deviation
    received = normalise(tf.cast(images, tf.float32), scheme)
    np.testing.assert_allclose(received, expected, atol=1e-5)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_bfloat16_is_rounded_once(images, scheme):
    exact = normalise(tf.cast(images, tf.float32), scheme)
    received = normalise(tf.cast(images, tf.bfloat16), scheme)
    assert received.dtype == tf.bfloat16
    np.testing.assert_array_equal(received, tf.cast(exact, tf.bfloat16))


def test_preprocess_is_both(images):
    received = preprocess(images, image_size=(6, 5), scheme="cifar", method="nearest")
    expected = normalise(resize(images, (6, 5), method="nearest"), "cifar")
    np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: resize(x, (0, 5)), r"image_size must be .* above 0. Received: \(0, 5\)"),
        (lambda x: resize(x, 32), "image_size must be"),
        (lambda x: resize(x, (5.0, 5)), "image_size must be"),
        (lambda x: resize(x, (5, 5), method="bicubic"), "must be one of bilinear, nearest"),
        (lambda x: resize(x[0], (5, 5)), r"shape \[B, h, w, 3\]. Received: \(12, 10, 3\)"),
        (lambda x: resize(x[..., :1], (5, 5)), r"shape \[B, h, w, 3\]"),
        (lambda x: resize(x[:, :0], (5, 5)), "at least one pixel"),
        (lambda x: resize(x.astype(np.int32), (5, 5)), "uint8 or floating. Received: int32"),
        (lambda x: normalise(x, "unit"), "must be floating. Received: uint8"),
        (lambda x: normalise(x / 255, "cifer"), "Did you mean 'cifar'.*Received: 'cifer'"),
    ],
)
def test_bad_arguments(images, call, message):
    with pytest.raises(ConfigError, match=message):
        call(images)


def test_images_of_unknown_size_are_refused():
    function = tf.function(lambda x: resize(x, (5, 5)))
    with pytest.raises(ConfigError, match="height and width must be static"):
        function.get_concrete_function(tf.TensorSpec([None, None, None, 3], tf.uint8))
