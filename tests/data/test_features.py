"""Features in the place of images: one view an epoch, in the order of the images."""

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.data import pipeline
from fastcifar.data.features import FeatureSplit, collect
from fastcifar.data.ordering import epoch_order
from fastcifar.data.split import Split
from fastcifar.data.storage import empty_images
from fastcifar.errors import ConfigError

VIEWS, EXAMPLES, WIDTH, SEED = 2, 10, 3, 5
DTYPES = ["float32", "float16", "float64", tf.bfloat16.as_numpy_dtype]


def values(dtype):
    """Whole numbers that tell view, image and feature: exact in every dtype."""
    view, image, feature = np.indices((VIEWS, EXAMPLES, WIDTH))
    return (view * 100 + image * 10 + feature).astype(dtype)


def some_features(dtype="float32"):
    rows = values(dtype).reshape(-1, WIDTH)
    together = collect(iter([rows[:7], rows[7:]]), (VIEWS, EXAMPLES, WIDTH), dtype)
    return FeatureSplit(together, np.arange(EXAMPLES), tuple("abcdefghij"))


def test_blocks_are_put_together_where_tensorflow_can_share_them():
    features = some_features()
    np.testing.assert_array_equal(features.values, values("float32"))
    assert features.values.ctypes.data % 64 == 0
    assert (len(features), features.views) == (EXAMPLES, VIEWS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mapped", [False, True])
def test_an_epoch_trains_on_its_view_in_the_order_of_the_images(tmp_path, dtype, mapped):
    features = some_features(dtype)
    if mapped:
        features.values.tofile(tmp_path / "values")
        on_disk = np.memmap(tmp_path / "values", dtype, "c", shape=features.values.shape)
        features = FeatureSplit(on_disk, features.labels, features.class_names)
    per_epoch = 2
    dataset = pipeline.train_batches(
        features, global_batch_size=4, replicas=2, seed=SEED, first_step=1, last_step=6
    )
    batches = list(dataset)
    assert len(batches) == 2 * 5
    for number, batch in enumerate(batches, start=2):
        epoch = number // 2 // per_epoch
        order = epoch_order(seed=SEED, epoch=epoch, examples=EXAMPLES)
        indices = order[batch.positions.numpy()]
        assert batch.images.dtype == tf.as_dtype(dtype)
        assert batch.images.shape == (2, WIDTH)
        expected = values(dtype)[epoch % VIEWS][indices]
        np.testing.assert_array_equal(batch.images.numpy(), expected)
        np.testing.assert_array_equal(batch.labels.numpy(), indices)
        np.testing.assert_array_equal(batch.indices.numpy(), indices)
        assert batch.epoch == epoch


def test_evaluation_sees_each_once():
    batches = list(pipeline.evaluation_batches(some_features(), global_batch_size=4, replicas=1))
    seen = np.concatenate([b.images.numpy()[b.weights.numpy() > 0] for b in batches])
    np.testing.assert_array_equal(seen, values("float32")[0])


def test_a_shuffle_buffer_is_refused():
    with pytest.raises(ConfigError, match="features need order permutation"):
        pipeline.train_batches(
            some_features(),
            global_batch_size=4,
            replicas=1,
            seed=SEED,
            first_step=0,
            last_step=1,
            order="shuffle_buffer",
        )


def test_batches_in_order_go_through_a_split_again_and_again():
    """Padding counts on in positions, so that groups of neighbours stay whole."""
    images = empty_images((EXAMPLES, 2, 2, 3))
    images[:] = np.arange(EXAMPLES)[:, None, None, None]
    split = Split(images, np.arange(EXAMPLES), tuple("abcdefghij"))
    batches = list(
        pipeline.batches_in_order(
            split,
            global_batch_size=8,
            replicas=2,
            epochs=2,
            host_transform=lambda batch: batch._replace(labels=batch.labels + 1),
        )
    )
    assert [int(batch.epoch) for batch in batches] == [0] * 4 + [1] * 4
    for batch, start in zip(batches, [0, 4, 8, 12] * 2, strict=True):
        places = np.arange(start, start + 4)
        np.testing.assert_array_equal(batch.positions, places)
        seen = np.minimum(places, EXAMPLES - 1)
        np.testing.assert_array_equal(batch.images[:, 0, 0, 0], seen)
        np.testing.assert_array_equal(batch.labels, seen + 1)
        np.testing.assert_array_equal(batch.indices, places)
