"""TrivialAugment and RandAugment: every operation equally often, and each what it says."""

import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fastcifar.augment import colour
from fastcifar.augment import operations as op
from fastcifar.augment.automatic import apply
from fastcifar.augment.randomness import uniform
from fastcifar.augment.resampling import resample

SEED = np.array([5, 1], np.int64)
COLOURS = 8


def numbers(operation, count):
    return uniform(SEED, np.arange(count), operation.columns)


def affine(map_):
    """Which affine operation each image got: 0 none, 1 shear, 2 translate, 3 rotate."""
    sheared = (map_.yx.numpy() != 0) != (map_.xy.numpy() != 0)  # which also shifts
    turned = (map_.yx.numpy() != 0) & (map_.xy.numpy() != 0)
    moved = ((map_.y0.numpy() != 0) | (map_.x0.numpy() != 0)) & ~sheared
    return sheared * 1 + moved * 2 + turned * 3


def test_each_of_the_fourteen_operations_is_equally_frequent():
    count = 8 * 700
    operation = op.TrivialAugment()
    # A picture that every colour operation changes, unless its strength is all but zero.
    picture = np.random.default_rng(0).integers(20, 201, (1, 18, 18, 3)).astype(np.float32)
    images = np.repeat(picture, count, axis=0)
    changed, map_ = apply(operation, tf.constant(images), numbers(operation, count))
    recoloured = np.any(changed.numpy() != images, axis=(1, 2, 3))
    kinds = affine(map_)
    assert not np.any(recoloured & (kinds > 0))  # one operation per image
    share = count / 14
    by_slot = recoloured.reshape(-1, COLOURS).sum(axis=0)
    # Posterise and solarise leave the picture alone at a strength below 1/12 and about 55/256.
    # Which colour operation a slot has is fixed; in slot 4 and 5 are these two.
    reach = np.array([1, 1, 1, 1, 11 / 12, 200 / 256, 1, 1])
    assert np.all(np.abs(by_slot - share * reach) < 4.5 * np.sqrt(share))
    affine_counts = np.bincount(kinds, minlength=4)[1:]
    expected = share * np.array([2, 2, 1])
    assert np.all(np.abs(affine_counts - expected) < 4.5 * np.sqrt(expected))


def test_signs_are_even_and_strengths_uniform(assert_uniform):
    operation = op.TrivialAugment()
    _, map_ = apply(operation, tf.zeros([8 * 1000, 4, 4, 3]), numbers(operation, 8000))
    turned = affine(map_) == 3
    degrees = np.degrees(np.arctan2(map_.yx.numpy(), map_.yy.numpy()))[turned]
    assert_uniform(degrees, -135, 135)
    moved = map_.x0.numpy()[(affine(map_) == 2) & (map_.x0.numpy() != 0)]
    assert_uniform(moved, -32, 32)  # whatever the side, which is 4


def test_strength_zero_changes_only_what_has_no_strength(images):
    operation = op.RandAugment(layers=1, magnitude=0)
    source = tf.cast(images, tf.float32)
    received, map_ = apply(operation, source, numbers(operation, 16))
    slots = np.arange(16) % COLOURS
    strengthless = np.isin(slots, [6, 7])  # autocontrast and equalise
    np.testing.assert_allclose(received[~strengthless], source[~strengthless], atol=1e-3)
    np.testing.assert_array_equal(map_.yy, np.ones(16))
    np.testing.assert_array_equal(affine(map_), np.zeros(16))


def test_colour_operations_equal_the_plain_ones(images):
    images = tf.cast(images, tf.float32)
    operation = op.RandAugment(layers=1, magnitude=15)
    # Column 0 below 8/14: every image gets the colour operation of its slot; positive sign.
    chosen = tf.constant(np.tile([0.0, 0.0, 0.9], (16, 1)), tf.float32)
    received, _ = apply(operation, images, chosen)
    ones = tf.ones([2])
    expected = [
        colour.brightness(images[0::8], 1.45 * ones),
        colour.contrast(images[1::8], 1.45 * ones),
        colour.saturation(images[2::8], 1.45 * ones),
        colour.sharpness(images[3::8], 1.45 * ones),
        colour.posterise(images[4::8], 6 * ones),
        colour.solarise(images[5::8], 128 * ones),
        colour.autocontrast(images[6::8]),
        colour.equalise(images[7::8]),
    ]
    for slot, plain in enumerate(expected):
        np.testing.assert_allclose(received[slot::8], plain, atol=1e-3, err_msg=str(slot))


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, (1, 1, 0, 0, 0, 0)),
        (1, (1, 1, 0.15 * 5, 0, 0.15, 0)),  # about the left edge of 10 columns
        (2, (1, 1, 0, 0.15 * 6, 0, 0.15)),  # about the upper edge of 12 rows
        (3, (1, 1, 12 * 150 / 662, 0, 0, 0)),
        (4, (1, 1, 0, 10 * 150 / 662, 0, 0)),
        (5, (math.cos(0.2618), math.cos(0.2618), 0, 0, math.sin(0.2618), -math.sin(0.2618))),
    ],
)
def test_affine_operations(images, index, expected):
    operation = op.RandAugment(layers=1, magnitude=15)
    pick = (COLOURS + index + 0.5) / 14
    chosen = tf.constant(np.tile([pick, 0.0, 0.9], (16, 1)), tf.float32)
    received, map_ = apply(operation, tf.cast(images, tf.float32), chosen)
    np.testing.assert_array_equal(received, images)
    values = np.stack([map_.yy, map_.xx, map_.y0, map_.x0, map_.yx, map_.xy], axis=1)
    np.testing.assert_allclose(values, np.tile(expected, (16, 1)), atol=1e-4)


@pytest.mark.parametrize("side", [32, 96])
def test_trivial_augment_moves_by_at_most_32_pixels_of_any_image(side):
    operation = op.TrivialAugment()
    _, map_ = apply(operation, tf.zeros([8 * 100, side, side, 3]), numbers(operation, 800))
    moved = affine(map_) == 2
    largest = max(np.abs(map_.y0.numpy()[moved]).max(), np.abs(map_.x0.numpy()[moved]).max())
    assert 30 < largest <= 32


@pytest.mark.parametrize(("index", "shear"), [(1, (0, 1)), (2, (1, 0))])
def test_a_shear_is_that_of_pillow_about_the_upper_left_corner(index, shear):
    """The papers' code is `image.transform(size, AFFINE, (1, level, 0, 0, 1, 0))`."""
    operation = op.TrivialAugment(shear=0.5)
    smooth = np.linspace(0, 200, 24)[:, None, None] + np.linspace(0, 55, 24)[None, :, None]
    image = np.repeat(smooth, 3, axis=2).astype(np.uint8)
    chosen = np.tile([(COLOURS + index + 0.5) / 14, 0.5, 0.9], (8, 1))
    images = np.repeat(image[None], 8, axis=0)
    _, map_ = apply(operation, tf.cast(images, tf.float32), tf.constant(chosen, tf.float32))
    received = resample(images, map_, (24, 24)).numpy()[0]
    x, y = (0.25 * share for share in shear)
    matrix = (1, x, 0, y, 1, 0)
    pillow = Image.fromarray(image).transform(
        (24, 24), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    expected = np.asarray(pillow, np.float32)
    inside = np.asarray(  # away from the border, which Pillow cuts and we fade
        Image.new("L", (24, 24), 255).transform((24, 24), Image.Transform.AFFINE, matrix)
    )
    inside = (inside > 0) & np.roll(inside > 0, 2, 0) & np.roll(inside > 0, 2, 1)
    inside = inside & np.roll(inside, -2, 0) & np.roll(inside, -2, 1)
    assert inside.sum() > 200
    np.testing.assert_allclose(received[inside], expected[inside], atol=1.5)


def test_layers_compose(images):
    operation = op.RandAugment(layers=2, magnitude=30)
    draws = np.tile([(COLOURS + 3.5) / 14, 0.0, 0.9, 0.5 / 14, 0.0, 0.1], (16, 1))
    received, map_ = apply(operation, tf.cast(images, tf.float32), tf.constant(draws, tf.float32))
    np.testing.assert_allclose(map_.y0, 12 * 150 / 331 * np.ones(16), rtol=1e-5)
    # The second layer's colour operation is three further on: slot 0 has sharpness.
    sharpened = colour.sharpness(tf.cast(images[0::8], tf.float32), tf.fill([2], 0.1))
    np.testing.assert_allclose(received[0::8], sharpened, atol=1e-3)
