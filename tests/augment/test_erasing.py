"""Cutout and random erasing."""

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.augment import operations as op
from fastcifar.augment.erasing import cover, erase, rectangle
from fastcifar.augment.randomness import uniform
from fastcifar.augment.resampling import resample
from fastcifar.augment.transforms import compose_all, transform
from fastcifar.errors import ConfigError

SEED = np.array([5, 1], np.int64)
BLACK = (0.0, 0.0, 0.0)


def covered(operation, count, size):
    white = np.full((count, *size, 3), 255, np.uint8)
    return erase(white, SEED, np.arange(count), [operation]).numpy()[..., 0] == 0


def test_cutout_covers_a_clipped_square_centred_anywhere():
    holes = covered(op.Cutout(0.25, fill=BLACK), 3000, (16, 24))
    rows, columns = holes.any(axis=2), holes.any(axis=1)
    np.testing.assert_array_equal(holes, rows[:, :, None] & columns[:, None, :])
    tall, wide = rows.sum(axis=1), columns.sum(axis=1)
    assert (tall.min(), tall.max(), wide.min(), wide.max()) == (2, 4, 2, 4)
    # Every row is a centre equally often: chi-square over the 16 rows, 15 degrees of freedom.
    numbers = uniform(SEED, np.arange(3000), 3)
    top = rectangle(op.Cutout(0.25), numbers, (16, 24))[0].numpy() + 2
    counts = np.bincount(top.astype(int), minlength=16)
    assert len(counts) == 16
    assert ((counts - 187.5) ** 2 / 187.5).sum() < 37.7


def test_cutout_equals_numpy():
    images = np.random.default_rng(0).integers(1, 256, (20, 9, 11, 3), dtype=np.uint8)
    operation = op.Cutout(0.4, probability=0.5, fill=(1, 2, 3))
    received = erase(images, SEED, np.arange(20), [operation])
    expected = images.copy()
    for image, (applies, y, x) in zip(
        expected, uniform(SEED, np.arange(20), 3).numpy(), strict=True
    ):
        if applies < 0.5:
            top, left = int(y * 9) - 2, int(x * 11) - 2
            image[max(top, 0) : top + 4, max(left, 0) : left + 4] = (1, 2, 3)
    np.testing.assert_array_equal(received, expected)
    assert received.dtype == tf.uint8


def test_random_erasing_draws_area_aspect_and_probability():
    operation = op.RandomErasing(area=(0.1, 0.2), aspect=(0.5, 2), probability=0.4, fill=BLACK)
    holes = covered(operation, 2000, (40, 40))
    share = holes.any(axis=(1, 2)).mean()
    assert abs(share - 0.4) < 5 * np.sqrt(0.24 / 2000)
    holes = holes[holes.any(axis=(1, 2))]
    tall, wide = holes.any(axis=2).sum(axis=1), holes.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(holes.sum(axis=(1, 2)), tall * wide)  # whole, never clipped
    area = tall * wide / 1600
    assert 0.085 < area.min() < 0.11
    assert 0.19 < area.max() < 0.215
    assert 0.45 < (wide / tall).min() < 0.55
    assert 1.8 < (wide / tall).max() < 2.2


@pytest.mark.parametrize("operation", [op.Cutout(0.0), op.Cutout(probability=0.0)])
def test_nothing_to_cover_is_the_identity(operation, images):
    received = erase(images, SEED, np.arange(16), [operation])
    np.testing.assert_array_equal(received, images)


def test_a_rectangle_of_the_whole_image_covers_it(images):
    operation = op.RandomErasing(area=(1, 1), aspect=(1.2, 1.2), probability=1.0, fill=(9, 8, 7))
    received = erase(images[:, :10], SEED, np.arange(16), [operation])
    assert (received.numpy()[:, 1:-1] == (9, 8, 7)).all()


@pytest.mark.parametrize("turned", [False, True])
def test_covering_the_source_shows_the_rectangle_on_the_canvas(turned):
    # A white image: after the map, exactly the drawn rectangle is black, wherever there is source.
    images = np.full((40, 16, 16, 3), 255, np.uint8)
    operations = [op.Flip(), op.PadCrop(3)]
    numbers = uniform(SEED, np.arange(40), 4)
    maps = [
        transform(operations[0], numbers[:, :1], images=images, seed=SEED),
        transform(operations[1], numbers[:, 1:3], images=images, seed=SEED),
    ]
    if turned:
        quarter = op.Rotate((90, 90))
        maps.append(transform(quarter, numbers[:, 3:4], images=images, seed=SEED))
    map_ = compose_all(maps)
    drawn = rectangle(op.Cutout(0.5), uniform(SEED, np.arange(40), 3, stream=1), (16, 16))
    seen = resample(cover(images, drawn, BLACK, map_), map_, (16, 16), border="edge").numpy()
    within = resample(images, map_, (16, 16), border="zero").numpy()[..., 0] > 254
    on_canvas = cover(np.full_like(images, 255), drawn, BLACK).numpy()[..., 0]
    np.testing.assert_allclose(seen[..., 0][within], on_canvas[within], atol=0.1)


def test_bad_arguments(images, seed, positions):
    with pytest.raises(ConfigError, match="of kind erasing"):
        erase(images, seed, positions, [op.Flip()])
