"""Resampling against NumPy, against tf.image.resize, and the forms against each other."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcifar.augment.resampling import resample, resize
from fastcifar.augment.transforms import Transform
from fastcifar.errors import ConfigError

PAD_MODES = {"zero": "constant", "reflect": "reflect", "edge": "edge"}


def make(yy=1.0, xx=1.0, y0=0.0, x0=0.0, yx=None, xy=None, count=16, **bounds):
    values = [yy, xx, y0, x0] + ([] if yx is None else [yx, xy])
    return Transform(*(tf.fill([count], np.float32(v)) for v in values), **bounds)


def reference(images, size, border, yy=1.0, xx=1.0, y0=0.0, x0=0.0, yx=0.0, xy=0.0, window=True):
    """Bilinear resampling without shrinking, one pixel at a time, in float64."""
    count, h, w, _ = images.shape
    margin = 3 * max(h, w)
    if border == "reflect":  # np.pad reflects repeatedly only along axes longer than 1
        padded = np.pad(images, [(0, 0), (margin,) * 2, (margin,) * 2, (0, 0)], "reflect")
    else:
        padded = np.pad(images, [(0, 0), (margin,) * 2, (margin,) * 2, (0, 0)], PAD_MODES[border])
    padded = padded.astype(np.float64)
    cy, cx = (h - 1) / 2, (w - 1) / 2
    out = np.zeros((count, *size, 3))
    for i in range(size[0]):
        for j in range(size[1]):
            y, x = (i + 0.5) * h / size[0] - 0.5, (j + 0.5) * w / size[1] - 0.5
            if yx or xy:
                y, x = np.clip(y, 0, h - 1), np.clip(x, 0, w - 1)
            sy = yy * (y - cy) + yx * (x - cx) + y0 + cy
            sx = xy * (y - cy) + xx * (x - cx) + x0 + cx
            if not (yx or xy) and window:  # crop first, resize then
                sy = np.clip(
                    sy,
                    np.ceil(y0 + cy - abs(yy) * h / 2 - 1e-6),
                    np.floor(y0 + cy + abs(yy) * h / 2 + 1e-6),
                )
                sx = np.clip(
                    sx,
                    np.ceil(x0 + cx - abs(xx) * w / 2 - 1e-6),
                    np.floor(x0 + cx + abs(xx) * w / 2 + 1e-6),
                )
            fy, fx = int(np.floor(sy)), int(np.floor(sx))
            ty, tx = sy - fy, sx - fx
            taps = padded[:, fy + margin : fy + margin + 2, fx + margin : fx + margin + 2]
            rows = taps[:, 0] * (1 - ty) + taps[:, 1] * ty
            out[:, i, j] = rows[:, 0] * (1 - tx) + rows[:, 1] * tx
    return out


@pytest.mark.parametrize("size", [(12, 10), (24, 30), (7, 5), (30, 6), (1, 1), (13, 10)])
def test_resize_is_tf_image_resize(images, size):
    ours = resize(images, size, method="bilinear", dtype=tf.float32)
    theirs = tf.image.resize(tf.cast(images, tf.float32), size, antialias=True)
    np.testing.assert_allclose(ours / 255, theirs / 255, atol=1e-4)
    ours = resize(images, size, method="nearest", dtype=tf.float32)
    np.testing.assert_array_equal(ours, tf.image.resize(images, size, method="nearest"))


@pytest.mark.parametrize("form", ["matmul", "gather"])
@pytest.mark.parametrize("border", ["zero", "reflect", "edge"])
@pytest.mark.parametrize("size", [(12, 10), (30, 20)])
def test_crop_is_a_window_of_the_padded_image(images, form, border, size):
    map_ = make(y0=3, x0=-2, whole=True, excess=(4, 4))
    received = resample(images, map_, size, border=border, form=form)
    padded = np.pad(images, [(0, 0), (4, 4), (4, 4), (0, 0)], PAD_MODES[border])
    window = padded[:, 7:19, 2:12].astype(np.float32)
    # Cropping first and resizing then, in two steps.
    np.testing.assert_allclose(received, tf.image.resize(window, size), atol=1e-3)
    if size == (12, 10):
        np.testing.assert_array_equal(received, window)


@pytest.mark.parametrize("form", ["matmul", "gather"])
@pytest.mark.parametrize("size", [(12, 10), (25, 31)])
@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_flips_of_whole_maps_are_exact(images, form, size, method):
    for yy, xx, axis in ((1, -1, 2), (-1, 1, 1)):
        map_ = make(yy=yy, xx=xx, whole=True)
        received = resample(images, map_, size, form=form, method=method)
        expected = resize(np.flip(images, axis), size, method=method, dtype=tf.float32)
        np.testing.assert_allclose(received, expected, atol=1e-3)


@pytest.mark.parametrize("border", ["zero", "reflect", "edge"])
@pytest.mark.parametrize("size", [(12, 10), (15, 22)])
@pytest.mark.parametrize(
    "map_",
    [
        {"yy": 0.7, "xx": -0.6, "y0": 1.3, "x0": -0.4},
        {"y0": 5.25, "x0": -4.5},
        {"yy": 0.9, "xx": 0.5, "y0": -9, "x0": 8},
    ],
)
def test_axis_parallel_maps_equal_numpy_in_both_forms(images, border, size, map_):
    expected = reference(images, size, border, **map_)
    for form in ("matmul", "gather"):
        received = resample(images, make(**map_, excess=(9, 9)), size, border=border, form=form)
        np.testing.assert_allclose(received, expected, atol=2e-3, err_msg=form)


@pytest.mark.parametrize("border", ["zero", "reflect", "edge"])
@pytest.mark.parametrize("size", [(12, 10), (15, 22)])
def test_tilted_maps_equal_numpy(images, border, size):
    map_ = {"yy": 0.9, "xx": 0.8, "y0": 1.5, "x0": -2.2, "yx": 0.5, "xy": -0.6}
    received = resample(images, make(**map_), size, border=border)
    np.testing.assert_allclose(received, reference(images, size, border, **map_), atol=2e-3)


@pytest.mark.parametrize("form", ["matmul", "gather"])
def test_nearest_looks_at_the_nearest_pixel(images, form):
    received = resample(
        images, make(yy=0.5, xx=0.5, y0=1, x0=1), (12, 10), method="nearest", form=form
    )
    rows = np.floor(0.5 * (np.arange(12) - 5.5) + 1 + 5.5 + 0.5).astype(int)
    columns = np.floor(0.5 * (np.arange(10) - 4.5) + 1 + 4.5 + 0.5).astype(int)
    np.testing.assert_array_equal(received, images[:, rows][:, :, columns])


def test_zooming_out_is_antialiased():
    # Stripes of one pixel: without a wider filter every second output pixel would be black.
    stripes = np.zeros((1, 16, 16, 3), np.uint8)
    stripes[:, :, ::2] = 200
    half = make(yy=2, xx=2, count=1, magnification=2.0, excess=(8, 8))
    middle = resample(stripes, half, (16, 16), border="edge").numpy()[0, 8, 6:10, 0]
    np.testing.assert_allclose(middle, 100, atol=1)


def test_shrinking_whole_maps_equals_two_steps(images):
    map_ = make(y0=2, x0=1, xx=-1, whole=True, excess=(4, 4))
    moved = resample(images, map_, (12, 10), form="gather")
    expected = tf.image.resize(moved, (6, 5), antialias=True)
    for form in ("matmul", "gather"):
        received = resample(images, map_, (6, 5), form=form)
        np.testing.assert_allclose(received, expected, atol=1e-3, err_msg=form)


def test_a_tilted_map_shrinks_with_the_antialiased_resize_first(images):
    turned = make(yy=0.0, xx=0.0, yx=1.0, xy=-1.0)  # a quarter turn
    square = images[:, :10]
    received = resample(square, turned, (5, 5))
    expected = np.rot90(tf.image.resize(square, (5, 5), antialias=True), axes=(1, 2))
    np.testing.assert_allclose(received, expected, atol=1e-3)


def test_a_tilted_map_moves_as_far_on_the_smaller_image(images):
    wide = images[:, :, :5].repeat(4, axis=2)  # 12 by 20, shrunk to 6 by 5
    small = tf.image.resize(wide, (6, 5), antialias=True)
    tilt = {"yx": 0.5, "xy": 0.0}
    received = resample(wide, make(y0=2, x0=-4, **tilt), (6, 5))
    expected = resample(small, make(y0=1, x0=-1, yx=1.0, xy=0.0), (6, 5))
    np.testing.assert_allclose(received, expected, atol=1e-3)


@settings(max_examples=20)
@given(
    h=st.integers(1, 9),
    w=st.integers(1, 9),
    form=st.sampled_from(["matmul", "gather", "auto"]),
    border=st.sampled_from(["zero", "reflect", "edge"]),
    signs=st.tuples(st.sampled_from([-1.0, 1.0]), st.sampled_from([-1.0, 1.0])),
    data=st.integers(0, 2**31),
)
def test_flipping_twice_is_the_identity(h, w, form, border, signs, data):
    images = np.random.default_rng(data).integers(0, 256, (2, h, w, 3), dtype=np.uint8)
    map_ = make(*signs, whole=True, count=2)
    once = resample(images, map_, (h, w), form=form, border=border)
    twice = resample(once, map_, (h, w), form=form, border=border)
    np.testing.assert_array_equal(twice, images)


@settings(max_examples=20)
@given(
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    border=st.sampled_from(["zero", "reflect", "edge"]),
    method=st.sampled_from(["bilinear", "nearest"]),
    tilted=st.booleans(),
)
def test_the_identity_map_is_the_resize(size, border, method, tilted):
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3), dtype=np.uint8)
    map_ = make(count=2, **({"yx": 0.0, "xy": 0.0} if tilted else {}))
    received = resample(images, map_, size, border=border, method=method)
    expected = resize(images, size, method=method, dtype=tf.float32)
    # A tilted map shrinks one side before it enlarges the other, as resize does in one go.
    np.testing.assert_allclose(received, expected, atol=1e-3)


@settings(max_examples=15)
@given(
    scale=st.floats(0.2, 1.0),
    shift=st.floats(-6, 6),
    border=st.sampled_from(["zero", "reflect", "edge"]),
    size=st.sampled_from([(8, 8), (11, 17)]),
)
def test_forms_agree(scale, shift, border, size):
    images = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    map_ = make(scale, -scale, shift, -shift / 2, count=2, excess=(7, 7))
    matmul, gather = (
        resample(images, map_, size, border=border, form=form) for form in ("matmul", "gather")
    )
    np.testing.assert_allclose(matmul, gather, atol=5e-3)


def test_bfloat16_is_exact_where_pixels_only_move(images):
    map_ = make(xx=-1, y0=2, whole=True, excess=(4, 4))
    exact = resample(images, map_, (12, 10), form="gather")
    for form in ("matmul", "gather"):
        received = resample(images, map_, (12, 10), form=form, dtype=tf.bfloat16)
        assert received.dtype == tf.bfloat16
        np.testing.assert_array_equal(tf.cast(received, tf.float32), exact)


def test_forms_that_cannot_follow_a_map_are_refused(images):
    with pytest.raises(ConfigError, match="cannot rotate or shear"):
        resample(images, make(yx=0.1, xy=0.1), (12, 10), form="matmul")
    with pytest.raises(ConfigError, match="cannot shrink without aliasing"):
        resample(images, make(y0=0.5), (6, 5), form="gather")
    with pytest.raises(ConfigError, match="cannot shrink without aliasing"):
        resample(images, make(yy=1.2, magnification=1.2), (12, 10), form="gather")
