"""A small batch of images, labels and keys that the augmentation tests share."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture
def images() -> np.ndarray:
    """uint8 [16, 12, 10, 3]: not square, so that rows and columns cannot be confused."""
    return np.random.default_rng(0).integers(0, 256, (16, 12, 10, 3), dtype=np.uint8)


@pytest.fixture
def labels() -> np.ndarray:
    """int32 [16]."""
    return (np.arange(16) % 10).astype(np.int32)


@pytest.fixture
def seed() -> tf.Tensor:
    """Run seed 7, epoch 3."""
    return tf.constant([7, 3], tf.int64)


@pytest.fixture
def positions() -> tf.Tensor:
    """The second global batch of 16."""
    return tf.range(16, 32, dtype=tf.int64)


@pytest.fixture
def assert_distributed() -> Callable[..., None]:
    """Fail unless a sample follows a distribution function, given values and cdf.

    Kolmogorov-Smirnov at the 0.1 % point; seeds are fixed, so a test passes always or never.
    """

    def check(values: np.ndarray, cdf: Callable[[np.ndarray], np.ndarray]) -> None:
        values = np.sort(np.ravel(values).astype(np.float64))
        n = len(values)
        expected = cdf(values)
        above = np.max(np.arange(1, n + 1) / n - expected)
        below = np.max(expected - np.arange(n) / n)
        assert max(above, below) < 1.95 / math.sqrt(n)

    return check


@pytest.fixture
def assert_uniform(assert_distributed: Callable[..., None]) -> Callable[..., None]:
    """Fail unless a sample is uniform between low and high."""

    def check(values: np.ndarray, low: float = 0, high: float = 1) -> None:
        assert_distributed(values, lambda x: (x - low) / (high - low))

    return check
