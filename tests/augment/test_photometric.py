"""Random colours: which images change, by how much, and what comes out."""

import math

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.augment import operations as op
from fastcifar.augment.photometric import adjust, recolour
from fastcifar.errors import ConfigError

ALWAYS = [
    op.Brightness((0.5, 0.6)),
    op.Contrast((0.5, 0.6)),
    op.Saturation((0.2, 0.3)),
    op.Sharpness((0.0, 0.1)),
    op.Hue((0.2, 0.3)),
    op.Greyscale(1.0),
    op.Invert(1.0),
    op.Equalise(1.0),
    op.Autocontrast(1.0),
    op.Posterise((2, 3)),
    op.Solarise((10, 20)),
    op.GaussianNoise((5, 6)),
]


@pytest.mark.parametrize("operation", ALWAYS, ids=lambda o: type(o).__name__)
def test_every_operation_changes_images_and_keeps_shape_and_range(
    operation, images, seed, positions
):
    # Room to stretch, and pixels enough for Pillow's equalisation to change anything.
    images = np.clip(images, 20, 200).repeat(2, axis=1).repeat(2, axis=2)
    received = recolour(images, seed, positions, [operation]).numpy()
    assert received.dtype == np.float32
    assert received.shape == images.shape
    assert (np.abs(received - images).reshape(16, -1).max(axis=1) > 0).all()
    assert received.min() >= 0
    assert received.max() <= 255
    assert recolour(tf.cast(images, tf.bfloat16), seed, positions, [operation]).dtype == tf.bfloat16


@pytest.mark.parametrize("operation", ALWAYS, ids=lambda o: type(o).__name__)
def test_probability_zero_is_the_identity(operation, images, seed, positions):
    never = type(operation)(probability=0.0)
    received = recolour(images, seed, positions, [never])
    np.testing.assert_array_equal(received, images)


def test_probability_is_the_share_of_images_that_change():
    images = np.full((2000, 1, 1, 3), 10, np.uint8)
    received = recolour(images, np.array([1, 1]), np.arange(2000), [op.Invert(0.3)]).numpy()
    share = np.mean(received[:, 0, 0, 0] == 245)
    assert abs(share - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 2000)


def test_amounts_are_uniform_over_the_range(assert_uniform):
    images = np.full((2000, 1, 1, 3), 100, np.uint8)
    received = recolour(images, np.array([1, 1]), np.arange(2000), [op.Brightness((0.5, 1.5))])
    assert_uniform(received[:, 0, 0, 0].numpy() / 100, 0.5, 1.5)


def test_whether_and_how_strongly_are_drawn_apart(assert_uniform):
    images = np.full((4000, 1, 1, 3), 100, np.uint8)
    operation = op.Brightness((1.5, 2.5), probability=0.5)
    received = recolour(images, np.array([1, 1]), np.arange(4000), [operation]).numpy()[:, 0, 0, 0]
    assert_uniform(received[received > 100] / 100, 1.5, 2.5)


def test_posterise_draws_whole_bits_ends_included():
    images = np.full((3000, 1, 1, 3), 255, np.uint8)
    received = recolour(images, np.array([1, 1]), np.arange(3000), [op.Posterise((2, 4))])
    values, counts = np.unique(received[:, 0, 0, 0], return_counts=True)
    np.testing.assert_array_equal(values, [192, 224, 240])
    assert (((counts - 1000) ** 2) / 1000).sum() < 13.8  # chi-square, 2 degrees, 0.1 %


def test_noise_has_the_drawn_deviation_and_is_new_for_each_operation():
    images = np.full((64, 16, 16, 3), 128, np.uint8)
    key = np.array([1, 1]), np.arange(64)
    once = recolour(images, *key, [op.GaussianNoise((10, 10))]).numpy() - 128
    assert abs(once.std() - 10) < 5 * 10 / math.sqrt(2 * once.size)
    twice = recolour(images, *key, [op.GaussianNoise((10, 10))] * 2).numpy() - 128
    assert abs(twice.std() - 10 * math.sqrt(2)) < 0.3


def test_operations_run_in_order(images, seed, positions):
    first, second = op.Solarise((128, 128)), op.Brightness((0.5, 0.5))
    forward = recolour(images, seed, positions, [first, second])
    solarised = np.where(images >= 128, 255 - images, images)
    np.testing.assert_allclose(forward, solarised * 0.5)
    backward = recolour(images, seed, positions, [second, first])
    np.testing.assert_allclose(backward, np.where(images * 0.5 >= 128, 0, images * 0.5))


def test_bad_arguments(images, seed, positions):
    with pytest.raises(ConfigError, match=r"of kind photometric\. Received: Flip"):
        recolour(images, seed, positions, [op.Flip()])
    with pytest.raises(ConfigError, match=r"shape \[B, h, w, 3\]"):
        recolour(images[0], seed, positions, [op.Invert()])
    with pytest.raises(TypeError, match="not a photometric operation"):
        adjust(op.Flip(), tf.zeros([1, 2, 2, 3]), tf.zeros([1, 2]), lambda shape: None)
