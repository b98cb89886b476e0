"""The maps that operations draw: their distribution, their composition, their inverse."""

import math

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.augment import operations as op
from fastcifar.augment.randomness import uniform
from fastcifar.augment.transforms import Transform, compose_all, transform

SEED = np.array([11, 2], np.int64)
COUNT = 4000


def drawn(operation, count=COUNT, size=(40, 20)):
    images = tf.zeros([count, *size, 3], tf.uint8)
    numbers = uniform(SEED, np.arange(count), max(operation.columns, 1))
    return transform(operation, numbers, images=images, seed=SEED)


def matrix(map_):
    """The map as [B, 3, 3] matrices on (y, x, 1)."""
    zero = np.zeros_like(map_.yy)
    yx, xy = (zero if v is None else v.numpy() for v in (map_.yx, map_.xy))
    rows = [[map_.yy, yx, map_.y0], [xy, map_.xx, map_.x0], [zero, zero, zero + 1]]
    return np.moveaxis(np.array(rows, np.float64), 2, 0)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("axis", ["horizontal", "vertical"])
def test_flip(axis, probability):
    map_ = drawn(op.Flip(axis, probability))
    flipped, still = (map_.yy, map_.xx) if axis == "vertical" else (map_.xx, map_.yy)
    share = np.mean(flipped.numpy() == -1)
    assert abs(share - probability) <= 5 * math.sqrt(probability * (1 - probability) / COUNT)
    assert set(np.unique(flipped)) <= {-1.0, 1.0}
    assert np.all(still == 1)
    assert map_.whole


def test_pad_crop_shifts_are_whole_and_equally_likely():
    map_ = drawn(op.PadCrop(3))
    assert map_.whole
    assert map_.excess == (3, 3)
    cells = np.zeros((7, 7))
    np.add.at(cells, (map_.y0.numpy().astype(int) + 3, map_.x0.numpy().astype(int) + 3), 1)
    assert cells.sum() == COUNT
    expected = COUNT / 49
    chi_square = ((cells - expected) ** 2 / expected).sum()
    assert abs(chi_square - 48) < 5 * math.sqrt(2 * 48)


def test_translate(assert_uniform):
    map_ = drawn(op.Translate(height=(-0.25, 0.5), width=(0, 0.1)))
    assert_uniform(-map_.y0.numpy() / 40, -0.25, 0.5)  # the picture moves, not the window
    assert_uniform(-map_.x0.numpy() / 20, 0, 0.1)
    np.testing.assert_allclose(map_.excess, (20, 2))


def test_zoom(assert_uniform):
    map_ = drawn(op.Zoom((0.5, 2)))
    assert_uniform(1 / map_.yy.numpy(), 0.5, 2)
    np.testing.assert_array_equal(map_.yy, map_.xx)
    assert (map_.magnification, map_.excess) == (2, (20, 10))


def test_rotate(assert_uniform):
    map_ = drawn(op.Rotate((-90, 30)))
    assert_uniform(np.degrees(np.arctan2(map_.yx, map_.yy)), -90, 30)
    np.testing.assert_allclose(np.linalg.det(matrix(map_)), 1, atol=1e-6)


def test_shear(assert_uniform):
    map_ = drawn(op.Shear(x=(-0.5, 0.5), y=(0, 0.1)))
    assert_uniform(map_.xy.numpy(), -0.5, 0.5)
    assert_uniform(map_.yx.numpy(), 0, 0.1)


def torchvision_window(size, area, aspect, numbers):
    """(top, left, height, width) as `RandomResizedCrop.get_params` finds them, from our numbers."""
    height, width = size
    ratios = np.log(aspect)
    for try_area, try_ratio in zip(numbers[:10], numbers[10:20], strict=True):
        target = height * width * (area[0] + try_area * (area[1] - area[0]))
        ratio = math.exp(ratios[0] + try_ratio * (ratios[1] - ratios[0]))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(numbers[20] * (height - h + 1)), int(numbers[21] * (width - w + 1)), h, w
    h, w = height, width
    if width / height < aspect[0]:
        h = round(width / aspect[0])
    elif width / height > aspect[1]:
        w = round(height * aspect[1])
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(
    ("size", "area", "aspect"),
    [
        ((32, 32), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((24, 40), (0.25, 1.0), (3 / 4, 4 / 3)),
        ((60, 12), (0.8, 1.0), (3 / 4, 4 / 3)),  # nothing fits: the central fallback
        ((12, 60), (0.8, 1.0), (3 / 4, 4 / 3)),
        ((30, 30), (0.99, 1.0), (1.2, 1.3)),
    ],
)
def test_random_resized_crop_takes_the_windows_of_torchvision(size, area, aspect):
    operation = op.RandomResizedCrop(area, aspect)
    map_ = drawn(operation, size=size)
    numbers = uniform(SEED, np.arange(len(map_.yy)), operation.columns).numpy()
    expected = np.array([torchvision_window(size, area, aspect, row) for row in numbers])
    height, width = map_.yy.numpy() * size[0], map_.xx.numpy() * size[1]
    top = map_.y0.numpy() + (size[0] - height) / 2
    left = map_.x0.numpy() + (size[1] - width) / 2
    received = np.stack([top, left, height, width], axis=1)
    # A window whose side falls on half a pixel may be rounded the other way in float32.
    same = np.abs(received - expected).max(axis=1) < 1e-3
    assert same.mean() > 0.998


def test_alternating_flip_shows_both_orientations_in_any_two_epochs():
    signs = [orientation(np.arange(400), epoch) for epoch in range(4)]
    np.testing.assert_array_equal(signs[0], -signs[1])
    np.testing.assert_array_equal(signs[0], signs[2])
    np.testing.assert_array_equal(signs[1], signs[3])
    assert abs(np.mean(signs[0])) < 5 / math.sqrt(400)


def orientation(indices, epoch, seed=5):
    numbers, images = tf.zeros([len(indices), 1]), tf.zeros([len(indices), 8, 8, 3])
    key = tf.constant([seed, epoch], tf.int64)
    drawn = transform(op.AlternatingFlip(), numbers, images=images, seed=key, indices=indices)
    return drawn.xx.numpy()


def test_alternating_flip_follows_the_index_whatever_the_pixels_and_the_place():
    shuffled = np.random.default_rng(0).permutation(400)
    # All images are equal: by their pixels they would be mirrored together.
    np.testing.assert_array_equal(
        orientation(shuffled, 0), orientation(np.arange(400), 0)[shuffled]
    )
    other_seed = orientation(np.arange(400), 0, seed=6) == orientation(np.arange(400), 0)
    assert abs(np.mean(other_seed) - 0.5) < 2.5 / math.sqrt(400)
    # Neighbouring indices are independent of each other: four pairs of signs, equally often.
    signs = orientation(np.arange(4000), 0) > 0
    pairs = np.bincount(2 * signs[::2] + signs[1::2], minlength=4)
    assert np.sum((pairs - 500) ** 2 / 500) < 16.27  # chi-square, 3 degrees, 0.1 %


def test_composition_multiplies_matrices():
    operations = [op.Flip(), op.Rotate(), op.PadCrop(), op.Zoom(), op.Shear(), op.Translate()]
    maps = [drawn(operation, count=9) for operation in operations]
    product = np.eye(3)
    for map_ in maps:
        product = product @ matrix(map_)
    np.testing.assert_allclose(matrix(compose_all(maps)), product, atol=1e-5)
    axis_parallel = [maps[0], maps[2], maps[3], maps[5]]
    combined = compose_all(axis_parallel)
    assert combined.separable
    expected = np.linalg.multi_dot([np.eye(3), np.eye(3)])
    for map_ in axis_parallel:
        expected = expected @ matrix(map_)
    np.testing.assert_allclose(matrix(combined), expected, atol=1e-5)


def test_the_excess_of_a_composition_bounds_what_it_reaches():
    operations = [op.Zoom((0.5, 1)), op.Translate((-0.3, 0.3), (-0.3, 0.3)), op.PadCrop(4)]
    map_ = compose_all([drawn(operation, size=(20, 20)) for operation in operations])
    for scale, offset in ((map_.yy, map_.y0), (map_.xx, map_.x0)):
        assert np.max(np.abs(scale) * 10 + np.abs(offset)) <= 10 + map_.excess[0] + 1e-4


@pytest.mark.parametrize("tilted", [False, True])
def test_inverse(tilted):
    operations = [op.Flip(), op.Zoom(), op.PadCrop()] + [op.Rotate(), op.Shear()] * tilted
    map_ = compose_all([drawn(operation, count=9) for operation in operations])
    product = matrix(map_.inverse()) @ matrix(map_)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=1e-5)


def test_other_operations_are_refused():
    with pytest.raises(TypeError, match="not a geometric operation"):
        transform(op.MixUp(), tf.zeros([1, 2]), images=tf.zeros([1, 4, 4, 3]), seed=SEED)


def test_a_map_is_separable_until_it_tilts():
    assert drawn(op.Zoom()).separable
    assert not drawn(op.Rotate()).separable
    assert Transform(tf.ones(1), tf.ones(1), tf.zeros(1), tf.zeros(1)).separable
