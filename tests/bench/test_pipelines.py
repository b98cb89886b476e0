"""Pipelines are compared only where each delivers every image once."""

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.bench import numbered, pipelines
from fastcifar.bench.pipelines import Candidate, PipelinesPlan, candidates, measure_pipelines
from tests.bench.subjects import Rows

COUNT, SIZE, BATCH = 1100, 4, 64
WHOLE = COUNT // BATCH * BATCH


@pytest.fixture(scope="module")
def split():
    return numbered.numbered_split(COUNT, SIZE)


def test_images_carry_their_numbers(split):
    np.testing.assert_array_equal(numbered.numbers_of(split.images), np.arange(COUNT))
    as_floats = split.images.astype(np.float32)
    np.testing.assert_array_equal(numbered.numbers_of(as_floats), np.arange(COUNT))


def batches(split, *epochs, size=BATCH):
    """Batches of the images at the positions of `epochs`, straddling their borders."""
    order = np.concatenate(epochs)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield split.images[chosen], split.labels[chosen]


def faults(split):
    rng = np.random.default_rng(0)
    one, other = rng.permutation(COUNT), rng.permutation(COUNT)
    twice = other.copy()
    twice[7] = twice[3]
    yield "ok", batches(split, one, other)
    yield "came twice in epoch 2", batches(split, one, twice)
    yield "epoch 2 has the order of the one before", batches(split, one, one)
    yield "epoch 1 has the order of the one before", batches(split, np.arange(COUNT), other)
    yield "ended after 1100 of 2200", batches(split, one)
    yield "the label of another", ((i, np.roll(k, 1)) for i, k in batches(split, one, other))


@pytest.mark.parametrize("case", range(6))
def test_the_check_tells_what_is_wrong(split, case):
    said, given = list(faults(split))[case]
    assert said in numbered.check_order(given, count=COUNT, per_epoch=COUNT)


@pytest.mark.parametrize("case", range(4))
def test_every_candidate_delivers_each_image_once(split, case):
    candidate = candidates(split, BATCH)[case]
    assert candidate.per_epoch == (WHOLE if case < 2 else COUNT)
    given = ((i.numpy(), k.numpy()) for i, k, *_ in candidate.dataset)
    checked = numbered.check_order(given, count=COUNT, per_epoch=candidate.per_epoch, epochs=3)
    assert checked == "ok"


def test_rows_and_ratios(short_pieces):
    rows = Rows()
    measure_pipelines(PipelinesPlan(COUNT, SIZE, BATCH, seconds=0.1), rows)
    assert list(rows) == [
        "permutation",
        "shuffle_buffer",
        "cache_shuffle_repeat_batch",
        "shuffled_indices",
    ]
    for name, row in rows.items():
        assert row.check == "ok"
        assert row.images_per_s.n == 2
        assert list(row.ratios) == ([] if name == pipelines.TEXTBOOK else [pipelines.TEXTBOOK])


def test_a_pipeline_that_repeats_images_shows_no_number(short_pieces, monkeypatch):
    def with_replacement(split, global_batch_size):
        images = tf.constant(split.images), tf.constant(split.labels)
        drawn = tf.data.Dataset.random(seed=1).map(lambda r: r % len(split))
        dataset = drawn.batch(global_batch_size).map(
            lambda i: tuple(tf.gather(x, i) for x in images)
        )
        return [*candidates(split, global_batch_size)[:1], Candidate("bad", dataset, len(split))]

    monkeypatch.setattr(pipelines, "candidates", with_replacement)
    rows = Rows()
    measure_pipelines(PipelinesPlan(COUNT, SIZE, BATCH, seconds=0.1), rows)
    assert "images came twice in epoch 1" in rows["bad"].check
    assert rows["bad"].images_per_s is None
    assert rows["permutation"].images_per_s is not None
