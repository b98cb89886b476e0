"""Test-time augmentation."""

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.augment.test_time import VIEWS, View, average, look
from fastcifar.errors import ConfigError


@pytest.mark.parametrize("name", VIEWS)
def test_weights_sum_to_one_and_views_differ(name):
    views = VIEWS[name]
    assert sum(view.weight for view in views) == 1
    assert len({(v.mirrored, v.down, v.right) for v in views}) == len(views)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("down", [-1, 0, 1])
@pytest.mark.parametrize("right", [-1, 0, 1])
def test_a_view_is_a_crop_of_the_reflected_image_and_then_mirrored(images, mirrored, down, right):
    received = look(images, View(1.0, mirrored, down, right))
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)], "reflect")
    expected = padded[:, 1 - down : 13 - down, 1 - right : 11 - right]
    expected = np.flip(expected, 2) if mirrored else expected
    assert received.dtype == tf.uint8
    np.testing.assert_array_equal(received, expected)


def test_average_is_the_weighted_mean_of_what_the_model_says(images):
    def predict(x):
        return tf.cast(x[:, 0, 0], tf.float32)

    received = average(predict, images, "flip")
    expected = (images[:, 0, 0].astype(float) + images[:, 0, -1]) / 2
    np.testing.assert_allclose(received, expected)
    np.testing.assert_array_equal(average(predict, images, "none"), images[:, 0, 0])
    six = average(predict, images, "flip-shift")
    views = [predict(look(images, view)) * view.weight for view in VIEWS["flip-shift"]]
    np.testing.assert_allclose(six, np.sum(views, axis=0), rtol=1e-6)


def test_flip_shift_is_the_published_evaluation(images):
    """airbench94's: pad by reflection, crop both corners, mirror each crop."""
    net = np.random.default_rng(3).normal(size=(12, 10, 3))  # no symmetry at all

    def predict(x):
        return tf.reduce_sum(tf.cast(x, tf.float64) * net, axis=[1, 2, 3])

    def both(x):
        return 0.5 * predict(x).numpy() + 0.5 * predict(np.flip(x, 2)).numpy()

    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)], "reflect")
    shifted = (both(padded[:, :12, :10]) + both(padded[:, 2:, 2:])) / 2
    expected = 0.5 * both(images) + 0.5 * shifted
    np.testing.assert_allclose(average(predict, images, "flip-shift"), expected, rtol=1e-6)


def test_a_symmetric_model_is_unchanged_by_flips(images):
    def predict(x):
        return tf.reduce_mean(tf.cast(x, tf.float32), axis=[1, 2])

    np.testing.assert_allclose(average(predict, images, "flip"), predict(images), rtol=1e-5)


def test_an_unknown_name_is_refused(images):
    with pytest.raises(ConfigError, match=r"one of none, flip, flip-shift.*Received: 'fivecrop'"):
        average(lambda x: x, images, "fivecrop")
