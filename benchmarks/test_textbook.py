"""The textbook's input, the first rung of `fastcifar bench ladder`, against this project's."""

import dataclasses

import pytest

from fastcifar.bench import pipelines, textbook
from fastcifar.training.phase import open_batches, plan


@pytest.mark.parametrize("start", [textbook.open_batches, open_batches], ids=["image", "batch"])
def test_batches(benchmark, subject, start):
    import tensorflow as tf

    data = dataclasses.replace(subject.config.data, augment_on="host", resize_on="host")
    config = dataclasses.replace(subject.config, data=data)
    phase = plan(config, subject.prepared)[0]
    iterator = start(config, subject.prepared, phase, 0)
    consume = pipelines.consumer()
    benchmark(lambda: consume(iterator, tf.constant(4, tf.int64)).numpy())
