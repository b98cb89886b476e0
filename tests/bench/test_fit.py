"""The real path against the step alone and `fit`: the same work, or no number."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from fastcifar.bench import fit, keras_fit
from fastcifar.bench.fit import FitPlan, compare_losses, measure_fit
from fastcifar.bench.subject import Subject, end_to_end, hold, resident
from fastcifar.config import OptimizerConfig, RuntimeConfig
from fastcifar.data.ordering import epoch_order
from tests.bench.subjects import BATCH, CONFIG, Rows, prepared

pytestmark = pytest.mark.usefixtures("tiny_network")


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_all_contenders_agree_and_have_ratios(short_pieces, precision):
    config, parts = prepared(dataclasses.replace(CONFIG, runtime=RuntimeConfig(precision)))
    rows = Rows()
    measure_fit(config, parts, FitPlan(seconds=0.1), rows)
    fits = {"fit": precision} | ({"fit_float32": "float32"} if precision != "float32" else {})
    assert list(rows) == ["end_to_end", "step", *fits]
    assert {row.check for row in rows.values()} == {"ok"}
    assert list(rows["end_to_end"].ratios) == ["step", *fits]
    for name, row in rows.items():
        assert row.images_per_s.n >= 2
        assert row.figures["precision"] == fits.get(name, precision)
        assert row.figures["steps_per_call"] == rows["step"].figures["steps_per_call"]


def test_a_fit_that_computes_something_else_fails_its_check(monkeypatch):
    config, parts = prepared()
    ours = fit._Ours(Subject.of(config, parts))
    ours.first_loss = 2.0
    monkeypatch.setattr(keras_fit, "first_loss", lambda subject, model: 2.1)
    wrong = fit._Fit("fit", "float32", ours)
    assert wrong.check() == (
        "failed: the loss of the first step is 2.10000 and should be 2.00000 within 1e-03"
    )
    wrong.stop()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_first_loss_of_fit_is_that_of_the_step(smoothing):
    config, parts = prepared(
        dataclasses.replace(CONFIG, optimizer=OptimizerConfig(label_smoothing=smoothing))
    )
    subject = Subject.of(config, parts)
    model = keras_fit.build(subject, "float32")
    keras_fit.compile_model(subject, model, steps_per_call=4)
    ours = end_to_end(subject)
    ours.run()
    assert keras_fit.first_loss(subject, model) == pytest.approx(ours.mean_loss, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_fit_trains_with_the_optimizer_of_the_configuration(optimizer):
    asked = OptimizerConfig(optimizer=optimizer, weight_decay=0.0)
    config, parts = prepared(dataclasses.replace(CONFIG, optimizer=asked))
    subject = Subject.of(config, parts)
    model = keras_fit.build(subject, "float32")
    keras_fit.compile_model(subject, model, steps_per_call=1)
    assert type(model.optimizer).__name__.lower() == optimizer
    assert model.optimizer.learning_rate.numpy() == pytest.approx(subject.phase.rates[0])


@pytest.mark.parametrize(
    ("received", "precisions", "ok"),
    [
        (2.3001, ["float32"], True),
        (2.31, ["float32"], False),
        (2.31, ["float32", "mixed_bfloat16"], True),
        (2.35, ["mixed_bfloat16"], False),
        (float("nan"), ["mixed_bfloat16"], False),
    ],
)
def test_losses_agree_as_well_as_their_precision_lets_them(received, precisions, ok):
    assert (compare_losses(received, 2.3, precisions) == "ok") == ok


def test_fit_runs_one_execution_at_a_time_in_one_long_call():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse", optimizer="sgd", steps_per_execution=3)
    counted = tf.Variable(0, dtype=tf.int64)
    data = tf.data.Dataset.from_tensors((np.ones((4, 2)), np.ones((4, 1)))).repeat()
    running = keras_fit.RunningFit(model, data)
    for piece in range(4):
        running.run()
        counted.assign(model.optimizer.iterations.value)
        assert counted.numpy() == 3 * (piece + 1)
    running.stop()
    assert model.optimizer.iterations.numpy() == 12


def test_an_error_of_fit_reaches_the_caller():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse", optimizer="sgd")
    data = tf.data.Dataset.from_tensors((np.ones((4, 2)), np.ones((5, 1)))).repeat()
    running = keras_fit.RunningFit(model, data)
    with pytest.raises(Exception, match=r"shape|size|dimension|Dimension"):
        running.run()
    running.stop()


def test_a_held_batch_is_the_first_of_the_pipeline_and_computed_anew_each_step():
    config, parts = prepared()
    subject = Subject.of(config, parts)
    batch = hold(subject).get_next()
    order = epoch_order(seed=config.seed, epoch=0, examples=len(parts.splits.train))
    expected = parts.splits.train.images[order[:BATCH]]
    np.testing.assert_array_equal(batch.images.numpy(), expected)

    calls = tf.Variable(0, dtype=tf.int64)

    def counting(images, labels, seed, positions, indices):
        calls.assign_add(1)
        return subject.phase.transforms.on_device(images, labels, seed, positions, indices)

    counted = dataclasses.replace(subject.phase.transforms, on_device=counting)
    phase = dataclasses.replace(subject.phase, transforms=counted)
    driver = resident(dataclasses.replace(subject, phase=phase))
    driver.steps = 5
    driver.run()
    assert calls.numpy() == 5


def test_draining_leaves_nothing_prepared_while_others_ran():
    config, parts = prepared()
    subject = Subject.of(config, parts)
    driver = end_to_end(subject)
    batches = driver._batches
    driver.run()
    driver.drain()
    prefetched = 2 * config.data.prefetch  # one batch is assembled at a time
    assert int(next(batches).positions[0]) == (1 + prefetched) * BATCH % len(parts.splits.train)


def test_this_benchmark_leaves_augmentation_out():
    config = dataclasses.replace(
        CONFIG, phases=(dataclasses.replace(CONFIG.phases[0], augment="flip-crop"),)
    )
    assert fit.without_augmentation(config).phases[0].augment == "none"
