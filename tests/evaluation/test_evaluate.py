"""Evaluation counts every example once, in every layout, and reports what NumPy reports."""

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.evaluation.evaluate import Evaluator
from fastcifar.evaluation.metrics import confusion_matrix
from tests.training.tiny import mirrored, tiny_model, tiny_split


def scale(images):
    return tf.cast(images, tf.float32) / 255


@pytest.fixture(scope="module")
def expected():
    split = tiny_split()
    logits = tiny_model()(split.images / np.float32(255), training=False).numpy()
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    losses = -log_p[np.arange(len(split)), split.labels]
    return logits.argmax(-1), losses.mean()


@pytest.mark.parametrize(
    ("batch", "xla"),
    [(10, False), (48, False), (64, False), (10, True)],
)
@pytest.mark.parametrize("replicas", [1, 2])
def test_equals_numpy_whatever_the_batch(expected, replicas, batch, xla):
    predictions, loss = expected
    strategy = mirrored() if replicas == 2 else tf.distribute.get_strategy()
    with strategy.scope():
        model = tiny_model()
    split = tiny_split()
    evaluator = Evaluator(
        model=model, preprocess=scale, strategy=strategy, xla=xla, global_batch_size=batch
    )
    result = evaluator(split)
    np.testing.assert_array_equal(result.predictions, predictions)
    assert result.accuracy == pytest.approx((predictions == split.labels).mean())
    assert result.loss == pytest.approx(loss, rel=1e-5)
    assert result.confusion.sum() == len(split)
    again = evaluator(split)
    assert again.loss == result.loss


def test_evaluation_leaves_the_model_as_it_was():
    model = tiny_model()
    before = [v.numpy() for v in model.variables]
    evaluator = Evaluator(
        model=model,
        preprocess=scale,
        strategy=tf.distribute.get_strategy(),
        xla=False,
        global_batch_size=16,
    )
    evaluator(tiny_split())
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_an_empty_split_is_refused():
    evaluator = Evaluator(
        model=tiny_model(),
        preprocess=scale,
        strategy=tf.distribute.get_strategy(),
        xla=False,
        global_batch_size=16,
    )
    with pytest.raises(ValueError, match="one example or more"):
        evaluator(tiny_split().take(np.zeros(0, np.int64)))


def test_confusion_matrix_has_true_classes_in_rows():
    labels, predictions = np.array([0, 0, 1, 2]), np.array([0, 2, 1, 2])
    np.testing.assert_array_equal(
        confusion_matrix(labels, predictions, 3), [[1, 0, 1], [0, 1, 0], [0, 0, 1]]
    )


def test_several_batches_are_under_way_before_the_first_is_read(monkeypatch):
    order = []

    class Result:
        def __init__(self, number, value):
            self.number, self.value = number, value

        def numpy(self):
            order.append(f"read {self.number}")
            return self.value

    def call(batch):
        number = sum(what.startswith("start") for what in order)
        order.append(f"start {number}")
        labels = batch.labels.numpy()
        return Result(number, np.ones(1, np.float32)), Result(number, labels)

    evaluator = Evaluator(
        model=tiny_model(),
        preprocess=scale,
        strategy=tf.distribute.get_strategy(),
        xla=False,
        global_batch_size=8,
    )
    monkeypatch.setattr(evaluator, "_call", call)
    result = evaluator(tiny_split())  # six batches
    assert order[:5] == ["start 0", "start 1", "start 2", "start 3", "read 0"]
    assert order.index("start 4") < order.index("read 1")
    assert result.accuracy == 1
    assert result.loss == pytest.approx(6 / 48)
