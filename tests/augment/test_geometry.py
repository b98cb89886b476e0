"""`warp`: geometric operations on tensors."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcifar.augment import operations as op
from fastcifar.augment.geometry import warp
from fastcifar.errors import ConfigError

SEED = np.array([7, 3], np.int64)
STILL = [
    op.Flip(probability=0.0),
    op.PadCrop(0),
    op.RandomResizedCrop(area=(1, 1), aspect=(10 / 12, 10 / 12)),
    op.Translate((0, 0), (0, 0)),
    op.Zoom((1, 1)),
    op.Rotate((0, 0)),
    op.Shear((0, 0), (0, 0)),
]


@pytest.mark.parametrize("operation", STILL, ids=lambda o: type(o).__name__)
def test_zero_magnitude_is_the_identity(operation, images):
    received = warp(images, SEED, np.arange(16), [operation])
    np.testing.assert_allclose(received, images, atol=2e-3)


@settings(max_examples=15)
@given(
    padding=st.integers(0, 6),
    border=st.sampled_from(["zero", "reflect", "edge"]),
    seed=st.integers(0, 1000),
)
def test_pad_crop_shows_a_window_of_the_padded_image(padding, border, seed):
    images = np.random.default_rng(seed).integers(0, 256, (4, 7, 8, 3), dtype=np.uint8)
    mode = {"zero": "constant", "reflect": "reflect", "edge": "edge"}[border]
    margins = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    padded = np.pad(images, margins, mode)
    received = warp(images, np.array([seed, 0]), np.arange(4), [op.PadCrop(padding, border)])
    for image, source in zip(received.numpy(), padded, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(source, (7, 8, 3))
        assert (windows == image).all(axis=(3, 4, 5)).any()


def test_two_images_of_a_batch_differ(images):
    same = np.repeat(images[:1], 16, axis=0)
    received = warp(same, SEED, np.arange(16), [op.PadCrop(4)]).numpy()
    assert len(np.unique(received.reshape(16, -1), axis=0)) > 8


def test_a_quarter_turn_is_rot90(images):
    square = images[:, :10]
    received = warp(square, SEED, np.arange(16), [op.Rotate((90, 90))])
    np.testing.assert_allclose(received, np.rot90(square, axes=(1, 2)), atol=2e-3)


def test_order_matters_as_said(images):
    # Shift up by a third of the height, then mirror upside down: the gap ends on top.
    shift, mirror = op.Translate((-1 / 3, -1 / 3), (0, 0)), op.Flip("vertical", 1.0)
    received = warp(images, SEED, np.arange(16), [shift, mirror]).numpy()
    np.testing.assert_allclose(received[:, :4], 0, atol=1e-3)
    np.testing.assert_allclose(received[:, 4:], images[:, :3:-1], atol=1e-2)
    received = warp(images, SEED, np.arange(16), [mirror, shift]).numpy()
    np.testing.assert_allclose(received[:, -4:], 0, atol=1e-3)


def test_no_operations_is_the_resize_and_dtype_follows_the_input(images):
    received = warp(tf.cast(images, tf.float16), SEED, np.arange(16), [])
    assert received.dtype == tf.float16
    np.testing.assert_array_equal(received, images)
    assert warp(images, SEED, np.arange(16), [], dtype="bfloat16").dtype == tf.bfloat16


def test_streams_are_independent(images):
    first, second = (
        warp(images, SEED, np.arange(16), [op.PadCrop(4)], stream=stream) for stream in (0, 1)
    )
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("operations", "options", "message"),
    [
        ([op.Invert()], {}, "of kind geometric. Received: Invert"),
        ([op.Flip()], {"border": "wrap"}, "border must be one of zero, reflect, edge"),
        ([op.Flip()], {"form": "fast"}, "form must be one of"),
        ([op.Flip()], {"method": "cubic"}, "method must be one of"),
        ([op.Flip()], {"image_size": (-1, 3)}, "image_size"),
        ([op.PadCrop(), op.Zoom(border="edge")], {}, "one border. Received: edge, zero"),
    ],
)
def test_bad_arguments(operations, options, message, images):
    with pytest.raises(ConfigError, match=message):
        warp(images, SEED, np.arange(16), operations, **options)
