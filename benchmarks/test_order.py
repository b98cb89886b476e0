"""Order and batching: a set that fits any cache; `fastcifar bench pipelines` has the full size."""

import pytest

from fastcifar.bench import numbered, pipelines
from fastcifar.bench.feeds.candidate import augmented

COUNT, SIZE, BATCH = 2048, 16, 128

NAMES = [pipelines.OURS, pipelines.TEXTBOOK]
NAMES += [augmented(name) for name in NAMES]


@pytest.fixture(scope="module")
def candidates():
    split = numbered.numbered_split(COUNT, SIZE)
    return {c.name: c for c in pipelines.candidates(split, BATCH)}


@pytest.mark.parametrize("name", NAMES)
def test_one_epoch_of_batches(benchmark, candidates, name):
    import tensorflow as tf

    iterator = iter(candidates[name].make())
    consume = pipelines.consumer()
    benchmark(lambda: consume(iterator, tf.constant(COUNT // BATCH, tf.int64)).numpy())
