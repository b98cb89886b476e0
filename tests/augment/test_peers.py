"""Agreement with the layers of Keras and KerasCV where they define the same thing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fastcifar.augment import operations as op
from fastcifar.augment.geometry import warp
from fastcifar.augment.photometric import recolour

KEY = np.array([7, 3], np.int64), np.arange(4)


@pytest.fixture
def photos() -> np.ndarray:
    """uint8 [4, 32, 32, 3]."""
    rng = np.random.default_rng(0)
    exposure = np.linspace(0.2, 0.9, 4)[:, None, None, None]
    return (rng.integers(0, 256, (4, 32, 32, 3)) * exposure).astype(np.uint8)


@pytest.mark.parametrize("degrees", [-30.0, 10.0, 90.0])
def test_rotation(photos, degrees):
    turns = degrees / 360
    layer = keras.layers.RandomRotation((turns, turns), fill_mode="constant")
    expected = layer(photos.astype("float32"), training=True)
    received = warp(photos, *KEY, [op.Rotate((degrees, degrees))])
    np.testing.assert_allclose(received, expected, atol=0.05)


@pytest.mark.parametrize(("fill_mode", "border"), [("constant", "zero"), ("nearest", "edge")])
def test_translation(photos, fill_mode, border):
    layer = keras.layers.RandomTranslation((0.2, 0.2), (-0.1, -0.1), fill_mode=fill_mode)
    expected = layer(photos.astype("float32"), training=True)
    received = warp(photos, *KEY, [op.Translate((0.2, 0.2), (-0.1, -0.1), border)])
    inside = np.s_[:, 7:, :28]  # ours does not blend the first row with what lies beyond it
    np.testing.assert_allclose(received.numpy()[inside], expected.numpy()[inside], atol=0.05)


def test_zooming_in(photos):
    # Keras gives the share by which the window grows: -0.2 shows 80 %.
    layer = keras.layers.RandomZoom((-0.2, -0.2), fill_mode="constant")
    expected = layer(photos.astype("float32"), training=True)
    received = warp(photos, *KEY, [op.Zoom((1.25, 1.25))])
    np.testing.assert_allclose(received[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=0.05)


def test_flip(photos):
    mirrored = warp(photos, *KEY, [op.Flip(probability=1.0)])
    np.testing.assert_array_equal(mirrored, tf.image.flip_left_right(photos))


@pytest.mark.parametrize(
    ("layer", "operation", "atol"),
    [
        # Not Equalization: KerasCV leaves out the count of the rarest value when it shares out
        # the pixels, where Pillow leaves out that of the largest.
        ("AutoContrast", op.Autocontrast(1.0), 1),
        ("Grayscale", op.Greyscale(1.0), 0.51),
        ("Posterization", op.Posterise((3, 3)), 0),
        ("Solarization", op.Solarise((100, 100)), 0),
    ],
)
def test_colours_equal_keras_cv(photos, layer, operation, atol):
    keras_cv = pytest.importorskip("keras_cv")
    arguments = {
        "AutoContrast": {"value_range": (0, 255)},
        "Grayscale": {"output_channels": 3},
        "Posterization": {"value_range": (0, 255), "bits": 3},
        "Solarization": {"value_range": (0, 255), "threshold_factor": (100, 100)},
    }[layer]
    expected = getattr(keras_cv.layers, layer)(**arguments)(photos.astype("float32"))
    received = recolour(photos, *KEY, [operation])
    np.testing.assert_allclose(received, expected, atol=atol)
