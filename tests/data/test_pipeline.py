"""The pipeline: order, epochs, replicas, resume, and the same images from every cache."""

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.data import pipeline, storage
from fastcifar.data.ordering import epoch_order
from fastcifar.data.pipeline import Batch
from fastcifar.data.split import Split

EXAMPLES, BATCH, SEED = 22, 4, 9
PER_EPOCH = EXAMPLES // BATCH


@pytest.fixture(scope="module")
def split():
    """Images that tell their own index."""
    images = storage.empty_images((EXAMPLES, 8, 8, 3))
    images[:] = np.arange(EXAMPLES, dtype=np.uint8)[:, None, None, None]
    return Split(images, np.arange(EXAMPLES) % 3, ("a", "b", "c"))


def batches(split, first=0, last=2 * PER_EPOCH, **arguments):
    arguments = {"replicas": 1, "global_batch_size": BATCH, "seed": SEED, **arguments}
    dataset = pipeline.train_batches(split, first_step=first, last_step=last, **arguments)
    return list(dataset.as_numpy_iterator())


def indices(batch):
    images = batch.images
    return images if images.ndim == 1 else images[:, 0, 0, 0].astype(np.int64)


@pytest.mark.parametrize("cache", ["memory", "device", "disk", "none"])
def test_every_cache_delivers_the_order(split, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTCIFAR_CACHE", str(tmp_path))
    for step, batch in enumerate(batches(split, cache=cache)):
        epoch, within = divmod(step, PER_EPOCH)
        positions = within * BATCH + np.arange(BATCH)
        order = epoch_order(seed=SEED, epoch=epoch, examples=EXAMPLES)
        np.testing.assert_array_equal(batch.positions, positions)
        np.testing.assert_array_equal(indices(batch), order[positions])
        np.testing.assert_array_equal(batch.labels, split.labels[order[positions]])
        assert batch.epoch == epoch
        assert batch.labels.dtype == np.int64
        assert batch.positions.dtype == batch.indices.dtype == np.int64
        np.testing.assert_array_equal(batch.indices, order[positions])


@pytest.mark.parametrize("order", ["permutation", "shuffle_buffer"])
def test_no_image_twice_in_an_epoch(split, order):
    all_batches = batches(split, last=4 * PER_EPOCH, order=order)
    found = [indices(batch) for batch in all_batches]
    np.testing.assert_array_equal([batch.indices for batch in all_batches], found)
    left_out = []
    for epoch in range(4):
        seen = np.concatenate(found[epoch * PER_EPOCH : (epoch + 1) * PER_EPOCH])
        assert len(set(seen)) == PER_EPOCH * BATCH
        left_out.append(frozenset(range(EXAMPLES)) - set(seen))
    assert len(set(left_out)) > 1


@pytest.mark.parametrize("order", ["permutation", "shuffle_buffer"])
def test_a_global_seed_of_the_process_changes_no_order(split, order):
    before = [indices(batch) for batch in batches(split, order=order)]
    for seed in (0, 5):
        tf.random.set_seed(seed)
        np.testing.assert_array_equal([indices(b) for b in batches(split, order=order)], before)


@pytest.mark.parametrize("order", ["permutation", "shuffle_buffer"])
@pytest.mark.parametrize("starts", [(1,), (5, 10), (3, 7, 8, 13)], ids=str)
def test_no_image_twice_in_an_epoch_of_several_starts(split, order, starts):
    """Whatever opens the input again: a phase, another image size, a resumed run."""
    ends = (*starts, 4 * PER_EPOCH)
    found = [
        indices(batch)
        for first, last in zip((0, *starts), ends, strict=True)
        for batch in batches(split, first=first, last=last, order=order)
    ]
    epochs = [np.concatenate(found[k : k + PER_EPOCH]) for k in range(0, len(found), PER_EPOCH)]
    assert [len(set(epoch)) for epoch in epochs] == [PER_EPOCH * BATCH] * 4
    assert len({epoch.tobytes() for epoch in epochs}) == 4


def test_every_image_once_where_the_batch_divides(split):
    found = np.concatenate([indices(b) for b in batches(split, last=2, global_batch_size=11)])
    np.testing.assert_array_equal(np.sort(found), np.arange(EXAMPLES))


@pytest.mark.parametrize(
    "way", [{"cache": "memory"}, {"cache": "device"}, {"order": "shuffle_buffer"}], ids=str
)
@pytest.mark.parametrize("replicas", [1, 2])
def test_starting_late_is_continuing(split, way, replicas):
    """As a phase, another image size and a resumed run do."""
    way = {**way, "replicas": replicas}
    whole, rest = batches(split, **way), batches(split, first=7, **way)
    assert len(rest) == len(whole) - 7 * replicas
    whole = whole[7 * (replicas - 1) :]
    assert len(rest) == len(whole) - 7
    for one, other in zip(whole[7:], rest, strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("order", ["permutation", "shuffle_buffer"])
def test_replicas_take_successive_slices_of_the_same_global_batch(split, order):
    whole = batches(split, order=order)
    halves = batches(split, order=order, replicas=2)
    assert len(halves) == 2 * len(whole)
    for step, batch in enumerate(whole):
        pair = halves[2 * step : 2 * step + 2]
        for name in ("images", "labels", "positions", "indices"):
            joined = np.concatenate([getattr(half, name) for half in pair])
            np.testing.assert_array_equal(joined, getattr(batch, name))
        assert pair[0].epoch == pair[1].epoch == batch.epoch


@pytest.mark.parametrize("order", ["permutation", "shuffle_buffer"])
@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_deliver_disjoint_parts_of_the_same_global_batches(split, order, hosts):
    replicas, here = 4, 4 // hosts
    together = batches(split, replicas=replicas, order=order)
    for host in range(hosts):
        hosted = range(host * here, (host + 1) * here)
        mine = batches(split, replicas=replicas, hosted=hosted, order=order)
        expected = [b for i, b in enumerate(together) if i % replicas in hosted]
        assert len(mine) == len(expected) == 2 * PER_EPOCH * here
        for received, wanted in zip(mine, expected, strict=True):
            for one, other in zip(received, wanted, strict=True):
                np.testing.assert_array_equal(one, other)


def test_hosts_evaluate_every_example_exactly_once(split):
    found = []
    for host in range(2):
        dataset = pipeline.evaluation_batches(
            split, global_batch_size=8, replicas=4, hosted=range(2 * host, 2 * host + 2)
        )
        for batch in dataset.as_numpy_iterator():
            found.extend(indices(batch)[batch.weights > 0])
    assert sorted(found) == list(range(EXAMPLES))


def test_host_transform_and_float32_transfer(split):
    def double(batch: Batch) -> Batch:
        assert batch.images.dtype == tf.float32
        return batch._replace(images=batch.images * 2)

    (batch,) = batches(split, last=1, transfer="float32", host_transform=double)
    assert batch.images.dtype == np.float32
    order = epoch_order(seed=SEED, epoch=0, examples=EXAMPLES)
    np.testing.assert_array_equal(batch.images[:, 0, 0, 0], 2.0 * order[:BATCH])


def test_shapes_are_static(split):
    for order in ("permutation", "shuffle_buffer"):
        dataset = pipeline.train_batches(
            split, global_batch_size=4, replicas=2, seed=0, first_step=0, last_step=3, order=order
        )
        assert dataset.element_spec.images.shape == (2, 8, 8, 3)
        assert dataset.element_spec.labels.shape == (2,)


@pytest.mark.parametrize(("batch_size", "replicas"), [(4, 1), (4, 2), (22, 1), (64, 2)])
def test_evaluation_holds_every_example_exactly_once(split, batch_size, replicas):
    dataset = pipeline.evaluation_batches(split, global_batch_size=batch_size, replicas=replicas)
    found, weights = [], []
    for batch in dataset.as_numpy_iterator():
        assert batch.images.shape == (batch_size // replicas, 8, 8, 3)
        found.append(batch.images[:, 0, 0, 0])
        weights.append(batch.weights)
    found, weights = np.concatenate(found), np.concatenate(weights)
    np.testing.assert_array_equal(found[weights == 1], np.arange(EXAMPLES))
    assert weights.sum() == EXAMPLES


def test_the_permutation_pipeline_holds_no_second_copy():
    import psutil

    images = storage.empty_images((80_000, 32, 32, 3))
    images[:] = 1
    split = Split(images, np.zeros(len(images), np.int64), ("a", "b"))
    before = psutil.Process().memory_info().rss
    for _ in pipeline.train_batches(
        split, global_batch_size=512, replicas=1, seed=0, first_step=0, last_step=50
    ):
        pass
    assert psutil.Process().memory_info().rss - before < images.nbytes / 2


@pytest.mark.parametrize("shape", [(8, 8, 3), (6, 6, 3), (2, 3, 3), (5, 5, 3)])
@pytest.mark.parametrize("graph", [False, True])
def test_images_on_the_device_are_gathered_as_words_of_the_same_bytes(shape, graph):
    images = np.random.default_rng(0).integers(0, 256, (7, *shape)).astype(np.uint8)
    indices = [3, 0, 6, 3]
    gather = tf.function(pipeline.gather_bytes) if graph else pipeline.gather_bytes
    found = gather(tf.constant(images), tf.constant(indices, tf.int64))
    assert found.dtype == tf.uint8
    np.testing.assert_array_equal(found, images[indices])
