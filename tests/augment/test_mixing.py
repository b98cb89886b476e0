"""MixUp and CutMix: partners, weights, and the mass of labels."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcifar.augment import operations as op
from fastcifar.augment.mixing import beta, mix
from fastcifar.augment.randomness import uniform
from fastcifar.errors import ConfigError

SEED = np.array([5, 1], np.int64)


def mixed(operations, images, labels, classes=10):
    images = tf.cast(images, tf.float32)
    positions = np.arange(len(images))
    return mix(images, labels, SEED, positions, operations, num_classes=classes)


def swap(values):
    return values[np.arange(len(values)) ^ 1]


@pytest.mark.parametrize(
    ("alpha", "cdf"),
    [
        (1.0, lambda x: x),
        (0.5, lambda x: 2 / np.pi * np.arcsin(np.sqrt(x))),
        (2.0, lambda x: 3 * x**2 - 2 * x**3),
        (3.0, lambda x: 10 * x**3 - 15 * x**4 + 6 * x**5),
    ],
)
def test_beta_follows_its_distribution(alpha, cdf, assert_distributed):
    numbers = uniform(SEED, np.arange(20_000), 1)[:, 0]
    assert_distributed(beta(numbers, alpha), cdf)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.4])
def test_beta_equals_numpys_where_there_is_no_closed_form(alpha):
    ours = beta(uniform(SEED, np.arange(20_000), 1)[:, 0], alpha).numpy()
    theirs = np.random.default_rng(0).beta(alpha, alpha, 20_000)
    # Towards 1 only as far as float32 can tell values apart.
    grid = np.concatenate([np.logspace(-9, -0.31, 60), 1 - np.logspace(-5, -0.31, 60)])
    share = [(sample[:, None] <= grid).mean(axis=0) for sample in (ours, theirs)]
    assert np.max(np.abs(share[0] - share[1])) < 1.95 * math.sqrt(2 / 20_000)


def test_beta_is_monotonic_and_reaches_both_ends():
    values = beta(tf.constant(np.linspace(0, 1 - 2**-24, 5000), tf.float32), 0.3).numpy()
    assert (np.diff(values) >= 0).all()
    assert values[0] == 0
    assert 0.999 < values[-1] <= 1


def test_mixup_equals_numpy(images, labels):
    received, soft = mixed([op.MixUp(alpha=1.0, probability=0.7)], images, labels)
    numbers = uniform(SEED, np.arange(16), 2).numpy()
    weight = np.where(numbers[:, 0] < 0.7, numbers[:, 1], 1.0)
    pixels = weight[:, None, None, None]
    expected = pixels * images + (1 - pixels) * swap(images)
    one_hot = np.eye(10)[labels]
    np.testing.assert_allclose(received, expected, atol=1e-3)
    np.testing.assert_allclose(
        soft, weight[:, None] * one_hot + (1 - weight[:, None]) * swap(one_hot), atol=1e-6
    )


def test_cutmix_pastes_a_rectangle_of_the_partner_and_labels_by_area():
    images = np.arange(1, 65, dtype=np.float32)[:, None, None, None] * np.ones((64, 12, 20, 3))
    received, soft = mixed([op.CutMix()], images, np.arange(64), classes=64)
    received = received.numpy()
    pasted = received[..., 0] == swap(images)[..., 0]
    expected = np.where(pasted[..., None], swap(images), images)
    np.testing.assert_array_equal(received, expected)
    rows, columns = pasted.any(axis=2), pasted.any(axis=1)
    np.testing.assert_array_equal(pasted, rows[:, :, None] & columns[:, None, :])
    area = pasted.mean(axis=(1, 2))
    np.testing.assert_allclose(soft.numpy()[np.arange(64), np.arange(64)], 1 - area, atol=1e-6)
    np.testing.assert_allclose(soft.numpy()[np.arange(64), np.arange(64) ^ 1], area, atol=1e-6)
    assert area.max() > 0.5  # it does paste


def test_the_area_of_an_unclipped_rectangle_is_the_drawn_one():
    images = np.zeros((1000, 64, 64, 3), np.uint8)
    labels = np.arange(1000) % 2
    _, soft = mixed([op.CutMix()], images, labels, classes=2)
    _, own, y, x = uniform(SEED, np.arange(1000), 4).numpy().T
    half = np.sqrt(1 - own) / 2
    inside = (half < y) & (y < 1 - half) & (half < x) & (x < 1 - half)
    assert inside.sum() > 100
    kept = soft.numpy()[np.arange(1000), labels]
    np.testing.assert_allclose(kept[inside], own[inside], atol=0.04)


@settings(max_examples=25)
@given(
    pairs=st.integers(1, 6),
    alpha=st.floats(0.05, 5),
    probability=st.floats(0, 1),
    kinds=st.lists(st.sampled_from([op.MixUp, op.CutMix]), min_size=1, max_size=3),
    soft=st.booleans(),
)
def test_label_mass_is_preserved(pairs, alpha, probability, kinds, soft):
    rng = np.random.default_rng(pairs)
    images = rng.integers(0, 256, (2 * pairs, 5, 4, 3)).astype(np.float32)
    labels = rng.integers(0, 7, 2 * pairs)
    if soft:
        labels = np.full((2 * pairs, 7), 0.1 / 7, np.float32) + 0.9 * np.eye(7)[labels]
    operations = [kind(alpha=alpha, probability=probability) for kind in kinds]
    received, mixed_labels = mixed(operations, images, tf.cast(labels, labels.dtype), classes=7)
    assert mixed_labels.dtype == tf.float32
    np.testing.assert_allclose(np.sum(mixed_labels, axis=1), 1, atol=1e-5)
    assert np.min(mixed_labels) >= -1e-6
    low = np.minimum(images, swap(images)) - 1e-3
    high = np.maximum(images, swap(images)) + 1e-3
    assert (low <= received).numpy().all()
    assert (received <= high).numpy().all()


def test_probability_zero_is_the_identity(images, labels):
    for kind in (op.MixUp, op.CutMix):
        received, soft = mixed([kind(probability=0.0)], images, labels)
        np.testing.assert_array_equal(received, images)
        np.testing.assert_array_equal(soft, np.eye(10)[labels])


def test_each_image_uses_one_of_several_operations_equally_often():
    images = np.where(np.arange(2000) % 2, 0.0, 200.0)[:, None, None, None] * np.ones((1, 8, 8, 3))
    received, _ = mixed([op.CutMix(), op.MixUp(), op.CutMix()], images, np.arange(2000) % 2)
    values = received.numpy()[..., 0].reshape(2000, -1)
    averaged = ((values > 1) & (values < 199)).all(axis=1)
    # MixUp's weight is within 1/200 of an end in a hundredth of its draws.
    assert abs(averaged.mean() - 0.99 / 3) < 5 * math.sqrt(2 / 9 / 2000)


def test_bfloat16_images_stay_bfloat16(images, labels, seed, positions):
    received, soft = mix(
        tf.cast(images, tf.bfloat16), labels, seed, positions, [op.MixUp()], num_classes=10
    )
    assert (received.dtype, soft.dtype) == (tf.bfloat16, tf.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"images": np.zeros((3, 4, 4, 3), np.float32), "positions": np.arange(3)},
            "groups of 2.*Received: 3",
        ),
        ({"images": np.zeros((4, 4, 4, 3), np.uint8)}, "images must be floating"),
        ({"labels": np.zeros((4, 3), np.float32)}, r"floating of shape \[4, 10\]. Received"),
        ({"labels": np.zeros((4, 10), np.int32)}, "labels must be integers of shape"),
        ({"labels": np.zeros(4, np.float32)}, "labels must be integers of shape"),
        ({"labels": np.zeros(5, np.int32)}, r"of shape \(5,\)"),
        ({"operations": [op.Flip()]}, "of kind mixing"),
        ({"positions": np.arange(3)}, "positions must have shape"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {
        "images": np.zeros((4, 4, 4, 3), np.float32),
        "labels": np.zeros(4, np.int32),
        "operations": [op.MixUp()],
        "positions": np.arange(4),
    } | change
    with pytest.raises(ConfigError, match=message):
        mix(
            arguments["images"],
            arguments["labels"],
            SEED,
            arguments["positions"],
            arguments["operations"],
            num_classes=10,
        )
