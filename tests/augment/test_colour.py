"""The arithmetic of colours against Pillow, TensorFlow and NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from fastcifar.augment import colour


@pytest.fixture
def photos() -> np.ndarray:
    """uint8 [6, 24, 20, 3]: smooth, noisy, dark, flat in a channel, of one colour, of two."""
    rng = np.random.default_rng(3)
    smooth = np.linspace(10, 240, 24 * 20 * 3).reshape(24, 20, 3)
    noisy = rng.integers(0, 256, (24, 20, 3))
    dark = rng.integers(0, 40, (24, 20, 3))
    flat = noisy.copy()
    flat[..., 1] = 77
    single = np.full((24, 20, 3), 99)
    double = np.where(rng.random((24, 20, 1)) < 0.3, 50, 200).repeat(3, axis=2)
    return np.stack([smooth, noisy, dark, flat, single, double]).astype(np.uint8)


def by_pillow(photos, function):
    return np.stack([np.asarray(function(Image.fromarray(photo))) for photo in photos])


def as_float(photos):
    return tf.cast(photos, tf.float32)


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 1.7])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (colour.brightness, ImageEnhance.Brightness),
        (colour.contrast, ImageEnhance.Contrast),
        (colour.saturation, ImageEnhance.Color),
        (colour.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_enhancers_equal_pillow(photos, ours, theirs, factor):
    received = ours(as_float(photos), tf.fill([6], factor))
    expected = by_pillow(photos, lambda image: theirs(image).enhance(factor))
    # Pillow rounds the grey or smoothed image, and then the result, to whole numbers.
    np.testing.assert_allclose(received, expected, atol=1.01 + 0.51 * abs(1 - factor))


@pytest.mark.parametrize("bits", [1, 4, 7, 8])
def test_posterise_equals_pillow(photos, bits):
    expected = by_pillow(photos, lambda image: ImageOps.posterize(image, bits))
    received = colour.posterise(as_float(photos), tf.fill([6], float(bits)))
    np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize("threshold", [0, 1, 128, 256])
def test_solarise_equals_pillow(photos, threshold):
    expected = by_pillow(photos, lambda image: ImageOps.solarize(image, threshold))
    received = colour.solarise(as_float(photos), tf.fill([6], float(threshold)))
    np.testing.assert_array_equal(received, expected)


def test_equalise_equals_pillow(photos):
    expected = by_pillow(photos, ImageOps.equalize)
    np.testing.assert_array_equal(colour.equalise(as_float(photos)), expected)


def test_equalise_equals_pillow_on_many_histograms():
    rng = np.random.default_rng(0)
    widths = rng.integers(1, 256, (40, 1, 1, 1))
    photos = (rng.integers(0, 256, (40, 32, 32, 3)) % widths).astype(np.uint8)
    expected = by_pillow(photos, ImageOps.equalize)
    np.testing.assert_array_equal(colour.equalise(as_float(photos)), expected)


def test_autocontrast_equals_pillow(photos):
    expected = by_pillow(photos, ImageOps.autocontrast)
    received = colour.autocontrast(as_float(photos))
    np.testing.assert_allclose(received, expected, atol=1.01)  # Pillow cuts to whole numbers


def test_invert_and_greyscale_equal_pillow(photos):
    np.testing.assert_array_equal(
        colour.invert(as_float(photos)), by_pillow(photos, ImageOps.invert)
    )
    expected = by_pillow(photos, lambda image: image.convert("L").convert("RGB"))
    np.testing.assert_allclose(colour.greyscale(as_float(photos)), expected, atol=0.51)


@pytest.mark.parametrize("turns", [-0.4, 0.0, 0.11, 0.5])
def test_hue_equals_tensorflow(photos, turns):
    received = colour.hue(as_float(photos), tf.fill([6], turns))
    expected = tf.image.adjust_hue(as_float(photos) / 255, turns) * 255
    np.testing.assert_allclose(received, expected, atol=0.05)


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_zero_strength_is_the_identity(data):
    rng = np.random.default_rng(data)
    images = as_float(rng.integers(0, 256, (2, 5, 4, 3), dtype=np.uint8))
    one, zero = tf.ones([2]), tf.zeros([2])
    for operation in (colour.brightness, colour.contrast, colour.saturation, colour.sharpness):
        np.testing.assert_allclose(operation(images, one), images, atol=1e-4)
    np.testing.assert_allclose(colour.hue(images, zero), images, atol=1e-3)
    np.testing.assert_array_equal(colour.posterise(images, 8 * one), images)
    np.testing.assert_array_equal(colour.solarise(images, 256 * one), images)
    np.testing.assert_array_equal(colour.invert(colour.invert(images)), images)


@settings(max_examples=20)
@given(data=st.integers(0, 2**31), factor=st.floats(0, 10), turns=st.floats(-1, 1))
def test_results_stay_in_range(data, factor, turns):
    rng = np.random.default_rng(data)
    images = as_float(rng.integers(0, 256, (2, 4, 5, 3), dtype=np.uint8))
    amount = tf.fill([2], np.float32(factor))
    results = [
        colour.brightness(images, amount),
        colour.contrast(images, amount),
        colour.saturation(images, amount),
        colour.sharpness(images, amount),
        colour.hue(images, tf.fill([2], np.float32(turns))),
        colour.autocontrast(images),
        colour.equalise(images),
    ]
    for result in results:
        assert np.isfinite(result).all()
        assert np.min(result) >= 0
        assert np.max(result) <= 255


def test_each_image_has_its_own_amount(photos):
    factors = tf.constant([0.2, 0.5, 0.8, 1.1, 1.4, 1.7])
    received = colour.contrast(as_float(photos), factors)
    for index in range(6):
        alone = colour.contrast(as_float(photos[index : index + 1]), factors[index : index + 1])
        np.testing.assert_allclose(received[index], alone[0], atol=1e-4)


def test_sharpness_leaves_images_without_an_inside_alone():
    images = as_float(np.random.default_rng(0).integers(0, 256, (2, 2, 7, 3), dtype=np.uint8))
    np.testing.assert_array_equal(colour.sharpness(images, tf.zeros([2])), images)
