"""Cross-entropy for sparse and for soft labels, in the dtype of the logits."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled  # has no public name


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float = 0.0) -> tf.Tensor:
    """Return the loss of each example: [B], in the dtype of `logits`.

    Args:
        logits: [B, C], float32 or float64.
        labels: int [B] (sparse), or float [B, C] whose rows add up to one (one-hot or mixed).
        label_smoothing: share of each label spread evenly over all classes (Szegedy et al.,
            "Rethinking the Inception Architecture", 2016).
    """
    if labels.shape.rank == 1 and is_op_determinism_enabled():
        # TensorFlow's deterministic gradient for sparse labels is a scatter, which XLA makes a loop
        # over the batch on a GPU.
        labels = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    if labels.shape.rank == 1:
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    else:
        loss = tf.nn.softmax_cross_entropy_with_logits(tf.cast(labels, logits.dtype), logits)
    if label_smoothing:
        # (1 - s) * CE(labels) + s * CE(uniform): the same as smoothing the labels, without them.
        uniform = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
        loss = (1.0 - label_smoothing) * loss + label_smoothing * uniform
    return loss


def describe_objective(*, label_smoothing: float = 0.0, mixed: bool = False) -> str:
    """Name what training minimises, such as `cross-entropy with label smoothing 0.1`.

    Weight decay is no part of it. Evaluation reports plain `cross-entropy`, which is comparable
    with the objective only where the two have the same name.

    Args:
        label_smoothing: see `cross_entropy`.
        mixed: the augmentation mixes images, and their labels in the same shares.
    """
    labels = " of mixed labels" if mixed else ""
    smoothing = f" with label smoothing {label_smoothing:g}" if label_smoothing else ""
    return f"cross-entropy{labels}{smoothing}"


def correct(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return 1.0 where the largest logit is the label (the largest label, if soft): float32 [B]."""
    # int64: what is int32 TensorFlow compares on the host, which would wait for a GPU.
    if labels.shape.rank == 2:
        labels = tf.argmax(labels, axis=-1, output_type=tf.int64)
    predicted = tf.argmax(logits, axis=-1, output_type=tf.int64)
    return tf.cast(tf.equal(predicted, tf.cast(labels, tf.int64)), tf.float32)
