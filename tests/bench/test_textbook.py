"""The textbook's input delivers what this project's does, image by image."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.augment import policies
from fastcifar.bench import numbered, textbook
from fastcifar.bench.subject import Subject
from fastcifar.errors import ConfigError
from tests.bench.subjects import BATCH, CONFIG, prepared

COUNT, SIZE = 67, 16


def opened(**data):
    """Batches of numbered images, and the subject they are for."""
    host = {"augment_on": "host", "resize_on": "host", "transfer": "float32", **data}
    config = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, **host))
    config, parts = prepared(config, augment="flip-crop", image_size=SIZE)
    split = numbered.numbered_split(COUNT, SIZE)
    splits = dataclasses.replace(parts.splits, train=split, test=split, validation=None)
    parts = dataclasses.replace(parts, splits=splits, steps_per_epoch=COUNT // BATCH)
    subject = Subject.of(config, parts)
    return textbook.open_batches(subject.config, parts, subject.phase, 0)


@pytest.mark.usefixtures("tiny_network")
@pytest.mark.parametrize(
    "data", [{"cache": "none", "prefetch": 0}, {"cache": "memory", "parallel_map": 2}]
)
def test_no_image_comes_twice_in_an_epoch(data):
    batches = ((b.images.numpy(), b.labels.numpy()) for b in opened(**data))
    whole = COUNT // BATCH * BATCH
    assert numbered.check_order(batches, count=COUNT, per_epoch=whole) == "ok"


@pytest.mark.usefixtures("tiny_network")
def test_batches_are_those_that_a_step_takes():
    batches = iter(opened(cache="none"))
    first = next(batches)
    assert first.images.shape == (BATCH, SIZE, SIZE, 3)
    assert first.images.dtype == tf.float32
    assert first.labels.dtype == tf.int32
    np.testing.assert_array_equal(first.positions, np.arange(BATCH))
    for _ in range(COUNT // BATCH):
        last = next(batches)
    assert int(last.epoch) == 1
    np.testing.assert_array_equal(last.positions, np.arange(BATCH))


@pytest.mark.usefixtures("tiny_network")
@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        ({"augment_on": "device", "resize_on": "device", "transfer": "uint8"}, tf.uint8),
        ({"augment_on": "device", "resize_on": "device"}, tf.float32),
        ({"augment_on": "device"}, tf.float32),
    ],
)
def test_what_the_device_does_is_not_done_twice(data, dtype):
    """Unaugmented images come as they are: each with its own number in its noise too."""
    first = next(iter(opened(cache="memory", **data)))
    split = numbered.numbered_split(COUNT, SIZE)
    images = first.images.numpy()
    np.testing.assert_array_equal(images, split.images[numbered.numbers_of(images)])
    assert first.images.dtype == dtype


def test_images_are_enlarged_last():
    image = np.full((8, 8, 3), 7, np.uint8)
    found = textbook.per_image(policies.get("none"), 16)(tf.constant(image))
    np.testing.assert_array_equal(found, np.full((16, 16, 3), 7, np.float32))


def test_a_policy_without_a_textbooks_way_is_refused():
    with pytest.raises(ConfigError, match=r"known for augment none, flip, .* Received: trivial"):
        textbook.per_image(policies.get("trivial"), 32)
