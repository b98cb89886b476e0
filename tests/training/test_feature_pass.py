"""Which augmentation the views of an image show: drawn as in training, whatever its place."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fastcifar.augment import Policy, colour
from fastcifar.augment import operations as op
from fastcifar.augment.build import build
from fastcifar.data import storage
from fastcifar.data.split import Split
from fastcifar.training.feature_pass import FeaturePass
from tests.training.tiny import mirrored

pytestmark = pytest.mark.usefixtures("two_stages")

# Equalising needs more than 255 pixels to change anything.
IMAGES, SIDE, VIEWS = 21, 18, 448


def features(operation, *, replicas=1, views=VIEWS):
    """The pixels of every view, float32 [views, IMAGES, SIDE, SIDE, 3], and the images."""
    images = storage.empty_images((IMAGES, SIDE, SIDE, 3))
    images[:] = np.random.default_rng(0).integers(40, 200, images.shape)
    split = Split(images, np.zeros(IMAGES, np.int64), ("a", "b"))
    strategy = mirrored(replicas) if replicas > 1 else tf.distribute.get_strategy()
    with strategy.scope():
        inputs = keras.Input((SIDE, SIDE, 3))
        same = keras.layers.Conv2D(3, 1, use_bias=False, name="same")
        backbone = keras.Model(inputs, keras.layers.Flatten()(same(inputs)))
        same.kernel.assign(np.eye(3)[None, None])
    policy = Policy("one", (operation,))
    passes = FeaturePass(
        backbone, examples=IMAGES, multiple=policy.group_size, strategy=strategy, xla=False
    )
    blocks = passes(
        split,
        weights=[v.value for v in backbone.variables],
        transform=build(policy, image_size=(SIDE, SIDE), num_classes=2),
        groups=policy.group_size,
        seed=3,
        views=views,
    )
    return np.concatenate(list(blocks)).reshape(views, IMAGES, SIDE, SIDE, 3), images


@pytest.mark.parametrize("operation", [op.TrivialAugment(), op.RandAugment(layers=1)])
def test_every_image_gets_every_operation_as_often_as_in_training(operation):
    seen, images = features(operation)
    floats = tf.constant(images, tf.float32)
    counts = np.zeros((IMAGES, 3))
    for column, name in enumerate(("equalise", "autocontrast")):
        reference = getattr(colour, name)(floats).numpy()
        same = np.abs(seen - reference).max(axis=(2, 3, 4)) < 1e-3
        counts[:, column] = same.sum(axis=0)
    counts[:, 2] = VIEWS - counts.sum(axis=1)
    expected = VIEWS * np.array([1 / 14, 1 / 14, 12 / 14])
    chi_square = np.sum((counts - expected) ** 2 / expected, axis=1)
    # The points that chi-square exceeds once in a thousand: of one image's 2 degrees of freedom,
    # shared out over all images, and of all images' 42.
    assert np.max(chi_square) < 2 * np.log(1000 * IMAGES)
    assert np.sum(chi_square) < 76.08


def test_views_do_not_depend_on_the_layout():
    one, _ = features(op.TrivialAugment(), views=3)
    two, _ = features(op.TrivialAugment(), views=3, replicas=2)
    np.testing.assert_allclose(one, two, atol=1e-2)  # of 255: sums over other batches


def test_features_stay_in_the_order_of_the_images():
    seen, images = features(op.RandAugment(layers=1, magnitude=0), views=4)
    # What no view changes much is still the image itself.
    nearest = np.abs(seen[:, :, None] - images[None, None].astype(np.float32)).mean(axis=(3, 4, 5))
    assert np.mean(np.argmin(nearest, axis=2) == np.arange(IMAGES)) > 0.85
