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
def test_a_view_is_a_crop_of_the_reflected_image(images, mirrored, down, right):
    received = look(images, View(1.0, mirrored, down, right))
    source = np.flip(images, 2) if mirrored else images
    padded = np.pad(source, [(0, 0), (1, 1), (1, 1), (0, 0)], "reflect")
    expected = padded[:, 1 - down : 13 - down, 1 - right : 11 - right]
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


def test_a_symmetric_model_is_unchanged_by_flips(images):
    def predict(x):
        return tf.reduce_mean(tf.cast(x, tf.float32), axis=[1, 2])

    np.testing.assert_allclose(average(predict, images, "flip"), predict(images), rtol=1e-5)


def test_an_unknown_name_is_refused(images):
    with pytest.raises(ConfigError, match=r"one of none, flip, flip-shift.*Received: 'fivecrop'"):
        average(lambda x: x, images, "fivecrop")
