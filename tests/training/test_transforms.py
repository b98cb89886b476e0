"""Where augmentation and resizing happen does not change what the network sees."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.augment import policies
from fastcifar.augment.preprocess import preprocess
from fastcifar.config import DataConfig, ModelConfig, PhaseConfig
from fastcifar.data.pipeline import Batch
from fastcifar.errors import ConfigError
from fastcifar.training import transforms

DATA = DataConfig(source="synthetic")
SEED = 3


def batch():
    images = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3), np.uint8)
    return Batch(
        tf.constant(images),
        tf.range(8, dtype=tf.int32) % 3,
        tf.range(8, dtype=tf.int64),
        tf.constant(1, tf.int64),
        # Not the positions: nothing may take the one for the other.
        tf.constant([5, 21, 3, 8, 34, 1, 13, 2], tf.int64),
    )


def make(data=DATA, augment="flip-crop", size=16, **changes):
    phase = PhaseConfig(augment=augment, image_size=size)
    return transforms.make(
        data,
        ModelConfig(**changes),
        phase,
        train_size=size,
        stored_size=(12, 12),
        num_classes=3,
        seed=SEED,
        dtype="float32",
    )


def apply(made, given):
    """What the network receives: the host's share, then the device's."""
    if made.on_host is not None:
        given = made.on_host(given)
    key = tf.constant([SEED, 1], tf.int64)
    images, labels = given.images, given.labels
    if made.before_program is not None:
        images, labels = made.before_program(images, labels, key, given.positions, given.indices)
    return made.on_device(images, labels, key, given.positions, given.indices)


@pytest.mark.parametrize("size", [12, 24, 8])
@pytest.mark.parametrize("augment", [name for name, p in policies.POLICIES.items() if p.compiled])
def test_where_it_is_done_does_not_change_an_image(augment, size):
    """Augmenting and resizing on device or host: the same image for the same position."""
    expected = apply(make(augment=augment, size=size), batch())
    for augment_on in ("device", "host"):
        data = dataclasses.replace(DATA, augment_on=augment_on, resize_on="host")
        received = apply(make(data, augment=augment, size=size), batch())
        for mine, other in zip(received, expected, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-4)


def test_evaluation_sees_what_policy_none_sees():
    made = make(augment="none")
    np.testing.assert_allclose(
        made.for_evaluation(batch().images), apply(made, batch())[0], atol=1e-5
    )


def test_auto_normalises_by_the_statistics_of_cifar():
    expected = preprocess(batch().images, image_size=(16, 16), scheme="cifar")
    np.testing.assert_allclose(make().for_evaluation(batch().images), expected)
    unit = make(normalise="unit").for_evaluation(batch().images)
    assert 0 <= np.min(unit) <= np.max(unit) <= 1


def test_layers_that_do_not_compile_run_before_the_program():
    made = make(augment="keras-cv", size=12)
    assert made.before_program is not None
    images, _ = apply(made, batch())
    assert images.shape == (8, 12, 12, 3)
    assert make().before_program is None


def test_groups_that_do_not_fit_the_batch_are_refused():
    phases = (PhaseConfig(augment="trivial"),)
    transforms.check_policies(phases, 16)
    with pytest.raises(ConfigError, match="multiple of 8"):
        transforms.check_policies(phases, 12)
