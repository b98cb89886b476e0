"""Pictures of policies."""

import numpy as np
import pytest

from fastcifar.augment.grid import draw_many, grid
from fastcifar.errors import ConfigError


def test_layout():
    originals = np.zeros((2, 4, 3, 3), np.uint8)
    draws = np.full((2, 5, 8, 6, 3), 100, np.uint8)
    draws[1, 4] = 50
    picture = grid(originals, draws, gap=1)
    # Originals are doubled; gaps of 1, and of 1 + 4 behind the originals.
    assert picture.shape == (1 + 2 * 9, 6 + 4 + 5 * 7 + 1, 3)
    assert (picture[1:9, 1:7] == 0).all()
    assert (picture[10:18, -7:-1] == 50).all()
    assert (picture == 0).all(axis=2).sum() == 2 * 8 * 6
    assert (picture == 100).all(axis=2).sum() == 9 * 8 * 6
    assert picture.dtype == np.uint8
    assert grid(originals, draws, gap=1, scale=3).shape == (19 * 3, 46 * 3, 3)


@pytest.mark.parametrize("policy", ["none", "standard", "trivial", "cutmix"])
def test_draws(policy, images):
    draws = draw_many(policy, images[:3], count=5, image_size=(24, 20))
    assert draws.shape == (3, 5, 24, 20, 3)
    assert draws.dtype == np.uint8
    again = draw_many(policy, images[:3], count=5, image_size=(24, 20))
    np.testing.assert_array_equal(draws, again)
    if policy != "none":
        other = draw_many(policy, images[:3], count=5, image_size=(24, 20), seed=1)
        assert not np.array_equal(draws, other)


def test_draws_of_no_policy_are_the_images(images):
    draws = draw_many("none", images, count=2, image_size=(12, 10))
    np.testing.assert_array_equal(draws, np.stack([images, images], axis=1))


def test_bad_arguments(images):
    with pytest.raises(ConfigError, match="Received: 16 images, 0 draws"):
        draw_many("none", images, count=0, image_size=(12, 10))
    with pytest.raises(ConfigError, match="Received: 0 images"):
        draw_many("none", images[:0], count=1, image_size=(12, 10))
    with pytest.raises(ConfigError, match="originals"):
        grid(images, images)
