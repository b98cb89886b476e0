"""Dropout: its masks' statistics, and that they follow from seed, epoch and position alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from fastcifar.augment.randomness import uniform
from fastcifar.errors import ConfigError
from fastcifar.models.dropout import FIRST_STREAM, Dropout, dropout_keys
from fastcifar.models.resnet import build_resnet

WIDTH = 50
SEED = np.array([3, 1], np.int64)


def dropped(positions, *, seed=SEED, rate=0.25, stream=0, dtype="float32", inputs=None):
    """What the layer makes of ones, at these positions of an epoch."""
    layer = Dropout(rate, stream, dtype=dtype)
    if inputs is None:
        inputs = tf.ones([len(positions), WIDTH], dtype)
    with dropout_keys(tf.constant(seed), tf.constant(positions, tf.int64)):
        return layer(inputs, training=True).numpy()


def test_the_share_and_the_scale_are_the_rates() -> None:
    rows = dropped(range(2000), rate=0.3)
    kept = rows > 0
    np.testing.assert_allclose(rows[kept], 1 / 0.7, rtol=1e-6)
    # 100,000 draws: 5 standard deviations of the share.
    assert abs(kept.mean() - 0.7) < 5 * np.sqrt(0.3 * 0.7 / kept.size)
    assert abs(kept.mean(axis=0) - 0.7).max() < 5 * np.sqrt(0.3 * 0.7 / 2000)
    # Neighbours in the row and in the batch know nothing of each other.
    centred = kept - kept.mean()
    for other in (centred[:, 1:], centred[1:]):
        same = centred[: other.shape[0], : other.shape[1]]
        assert abs((same * other).mean()) < 5 * 0.21 / np.sqrt(same.size)


def test_masks_follow_from_seed_epoch_position_and_stream() -> None:
    whole = dropped(range(8))
    np.testing.assert_array_equal(whole, dropped(range(8)))
    for rows in (
        dropped(range(8), seed=np.array([4, 1])),
        dropped(range(8), seed=np.array([3, 2])),
        dropped(range(8), stream=1),
        dropped(range(8, 16)),
    ):
        assert (rows != whole).any(axis=1).all()
    # Augmentation's own numbers, of stream 0 on, are others.
    used = uniform(SEED, tf.range(8, dtype=tf.int64), WIDTH).numpy() >= 0.25
    assert ((whole > 0) != used).any(axis=1).all()
    assert FIRST_STREAM > 1000


def test_a_slice_of_the_batch_drops_what_the_whole_drops() -> None:
    whole = dropped(range(8))
    halves = [dropped(range(4)), dropped(range(4, 8))]
    np.testing.assert_array_equal(whole, np.concatenate(halves))
    np.testing.assert_array_equal(whole[[5, 2]], dropped([5, 2]))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_dtypes_and_other_ranks(dtype: str) -> None:
    inputs = tf.cast(np.random.default_rng(0).normal(size=(3, 2, 5, 4)), dtype)
    rows = dropped(range(3), rate=0.5, dtype=dtype, inputs=inputs)
    assert rows.shape == inputs.shape
    assert rows.dtype == inputs.dtype.as_numpy_dtype
    kept = rows != 0
    np.testing.assert_array_equal(rows[kept], 2 * inputs.numpy()[kept])
    assert 0 < kept.mean() < 1


def test_outside_of_training_it_is_the_identity() -> None:
    inputs = tf.random.stateless_normal([4, WIDTH], [0, 0])
    for arguments in ({}, {"training": False}):
        np.testing.assert_array_equal(Dropout(0.5)(inputs, **arguments), inputs)
    np.testing.assert_array_equal(Dropout(0.0)(inputs, training=True), inputs)


def test_training_without_keys_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="keys"):
        Dropout(0.5)(tf.ones([1, 2]), training=True)
    with dropout_keys(tf.constant(SEED), tf.constant([0], tf.int64)):
        pass
    with pytest.raises(RuntimeError, match="keys"):
        Dropout(0.5)(tf.ones([1, 2]), training=True)


def test_gradients_pass_where_values_do() -> None:
    inputs = tf.random.stateless_normal([4, WIDTH], [0, 0])
    with tf.GradientTape() as tape, dropout_keys(tf.constant(SEED), tf.range(4, dtype=tf.int64)):
        tape.watch(inputs)
        outputs = Dropout(0.5)(inputs, training=True)
    gradient = tape.gradient(outputs, inputs).numpy()
    np.testing.assert_array_equal(gradient, np.where(outputs.numpy() != 0, 2.0, 0.0))


def test_rates_that_are_none_are_refused() -> None:
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(ConfigError, match="dropout must be 0 or more and below 1"):
            Dropout(rate)


def test_it_has_no_state_and_survives_saving() -> None:
    layer = Dropout(0.25, 3, name="drop")
    assert layer.variables == []
    again = Dropout.from_config(layer.get_config())
    assert (again.rate, again.stream, again.name) == (0.25, 3, "drop")


def head() -> keras.Model:
    model = build_resnet(
        depth=14, width=4, num_classes=3, head="mlp", dropout=0.5, image_size=(32, 32)
    )
    features = keras.Input((1, 1, 128))
    x = features
    for layer in model.layers[-9:]:
        x = layer(x)
    return keras.Model(features, x)


@pytest.mark.parametrize("xla", [False, True])
def test_a_network_with_it_compiles_and_is_keyed_by_position(xla: bool) -> None:
    model = head()
    # BatchNorm would make a row depend on the others: the statistics of 8 rows are not those of 4.
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False

    @tf.function(jit_compile=xla, autograph=False)
    def logits(features, seed, positions):
        with dropout_keys(seed, positions):
            return model.stateless_call(
                [v.value for v in model.trainable_variables],
                [v.value for v in model.non_trainable_variables],
                features,
                training=True,
            )[0]

    features = tf.random.stateless_normal([8, 1, 1, 128], [1, 1])
    positions = tf.range(8, dtype=tf.int64)
    whole = logits(features, SEED, positions).numpy()
    halves = [logits(features[k : k + 4], SEED, positions[k : k + 4]).numpy() for k in (0, 4)]
    np.testing.assert_allclose(whole, np.concatenate(halves), rtol=1e-5, atol=1e-6)
    assert np.abs(whole - model(features, training=False).numpy()).max(axis=1).min() > 1e-3
    with dropout_keys(tf.constant(SEED), positions):
        np.testing.assert_allclose(model(features, training=True), whole, rtol=1e-5, atol=1e-6)


def test_two_replicas_drop_what_one_drops() -> None:
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    layer = Dropout(0.25)

    def replica(positions):
        program = tf.function(lambda x, p: keyed(x, p), jit_compile=True, autograph=False)
        return program(tf.ones([4, WIDTH]), positions)

    def keyed(x, positions):
        with dropout_keys(tf.constant(SEED), positions):
            return layer(x, training=True)

    @tf.function(autograph=False)
    def step(positions):
        return strategy.run(replica, args=(positions,))

    def slices(context):
        first = 4 * context.replica_id_in_sync_group
        return tf.range(first, first + 4, dtype=tf.int64)

    positions = strategy.experimental_distribute_values_from_function(slices)
    halves = strategy.experimental_local_results(step(positions))
    np.testing.assert_array_equal(np.concatenate([h.numpy() for h in halves]), dropped(range(8)))
