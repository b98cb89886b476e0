"""Losses against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.models.losses import correct, cross_entropy

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(7, 5))
LABELS = RNG.integers(0, 5, 7)


def reference(logits, targets):
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -(targets * log_p).sum(-1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sparse_and_one_hot_labels_agree_with_numpy(smoothing):
    one_hot = np.eye(5)[LABELS]
    expected = reference(LOGITS, one_hot * (1 - smoothing) + smoothing / 5)
    logits = tf.constant(LOGITS)
    np.testing.assert_allclose(cross_entropy(logits, tf.constant(LABELS), smoothing), expected)
    np.testing.assert_allclose(cross_entropy(logits, tf.constant(one_hot), smoothing), expected)


def test_soft_labels():
    soft = RNG.dirichlet(np.ones(5), 7)
    np.testing.assert_allclose(
        cross_entropy(tf.constant(LOGITS), tf.constant(soft)), reference(LOGITS, soft)
    )


def test_correct_counts_the_largest_label():
    logits = tf.constant([[0.0, 2.0], [3.0, 1.0]])
    np.testing.assert_array_equal(correct(logits, tf.constant([1, 1])), [1, 0])
    soft = tf.constant([[0.4, 0.6], [0.9, 0.1]])
    np.testing.assert_array_equal(correct(logits, soft), [1, 1])
