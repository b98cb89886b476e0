"""The counter-based random numbers: their bits, their distribution, what they depend on."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcifar.augment.operations import Flip, PadCrop
from fastcifar.augment.randomness import between, bits, draw, normal, uniform
from fastcifar.errors import ConfigError

SEED = np.array([7, 3], np.int64)
MASK = (1 << 64) - 1


def reference_bits(seed, positions, count, stream=0):
    """SplitMix64 as published, in Python's integers."""

    def finalise(z):
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    increment = 0x9E3779B97F4A7C15
    first, second = (finalise((s + (i + 1) * increment) & MASK) for i, s in enumerate(seed))
    key = first + 3 * second
    rows = [finalise((key + p * increment) & MASK) for p in positions]
    columns = [stream * 2**32 + 1 + c for c in range(count)]
    return np.array(
        [[finalise((row + c * increment) & MASK) for c in columns] for row in rows], np.uint64
    )


def test_finaliser_is_splitmix64():
    # The published test vector of SplitMix64 seeded with 1234567.
    from fastcifar.augment import randomness

    state = np.uint64(1234567) + np.arange(1, 4, dtype=np.uint64) * randomness._INCREMENT
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert randomness._finalise(tf.constant(state)).numpy().tolist() == expected


@settings(max_examples=25)
@given(
    seed=st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 10_000)),
    start=st.integers(0, 2**40),
    stream=st.integers(0, 2**31 - 1),
)
def test_bits_equal_the_reference(seed, start, stream):
    positions = np.arange(start, start + 3)
    received = bits(np.array(seed, np.int64), positions, 4, stream=stream).numpy()
    np.testing.assert_array_equal(received, reference_bits(seed, positions.tolist(), 4, stream))


def test_eager_graph_data_and_compiled_give_the_same_bits():
    positions = tf.range(64, dtype=tf.int64)
    eager = bits(SEED, positions, 5, stream=2)
    function = lambda p: bits(SEED, p, 5, stream=2)  # noqa: E731
    np.testing.assert_array_equal(tf.function(function)(positions), eager)
    np.testing.assert_array_equal(tf.function(function, jit_compile=True)(positions), eager)
    data = tf.data.Dataset.range(64).batch(16).map(function)
    np.testing.assert_array_equal(np.concatenate(list(data.as_numpy_iterator())), eager)


def test_numbers_belong_to_positions_not_to_batches():
    whole = uniform(SEED, np.arange(100), 3).numpy()
    order = np.random.default_rng(0).permutation(100)
    np.testing.assert_array_equal(uniform(SEED, order, 3), whole[order])
    np.testing.assert_array_equal(uniform(SEED, np.arange(40, 60), 3), whole[40:60])
    np.testing.assert_array_equal(uniform(SEED, np.arange(100), 2), whole[:, :2])


@pytest.mark.parametrize(
    "other",
    [
        {"seed": [8, 3]},
        {"seed": [7, 4]},
        {"seed": [3, 7]},
        {"positions": np.arange(1, 2001)},
        {"stream": 1},
    ],
)
def test_every_part_of_the_key_matters(other):
    key = {"seed": SEED, "positions": np.arange(2000), "stream": 0}
    first = uniform(key["seed"], key["positions"], 1, stream=key["stream"]).numpy()[:, 0]
    key |= other
    second = uniform(key["seed"], key["positions"], 1, stream=key["stream"]).numpy()[:, 0]
    # 5 standard deviations of the correlation of 2,000 independent pairs.
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(2000)


def test_uniform_is_uniform_in_columns_and_along_positions(assert_uniform):
    numbers = uniform(SEED, np.arange(20_000), 6).numpy()
    assert numbers.dtype == np.float32
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for column in numbers.T:
        assert_uniform(column)
    correlations = np.corrcoef(numbers.T) - np.eye(6)
    assert np.abs(correlations).max() < 5 / math.sqrt(20_000)
    neighbours = np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]
    assert abs(neighbours) < 5 / math.sqrt(20_000)


def test_pairs_of_columns_fill_the_square():
    numbers = uniform(SEED, np.arange(25_600), 2).numpy()
    cells = np.bincount((numbers * 16).astype(int) @ [16, 1], minlength=256)
    chi_square = ((cells - 100) ** 2 / 100).sum()
    # 255 degrees of freedom: mean 255, standard deviation 22.6; 5 of them.
    assert abs(chi_square - 255) < 5 * math.sqrt(2 * 255)


def test_every_bit_is_fair():
    raw = bits(SEED, np.arange(4096), 1).numpy()[:, 0]
    ones = ((raw[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)).mean(axis=0)
    assert np.abs(ones - 0.5).max() < 5 * 0.5 / math.sqrt(4096)


def test_normal_is_normal(assert_distributed):
    numbers = normal(SEED, np.arange(64), (9, 7, 3), stream=1).numpy()
    assert numbers.shape == (64, 9, 7, 3)

    def cdf(x):
        return 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    assert_distributed(numbers, cdf)
    assert np.isfinite(numbers).all()
    assert not np.array_equal(numbers[0], numbers[1])
    assert abs(np.corrcoef(numbers[..., 0].ravel(), numbers[..., 1].ravel())[0, 1]) < 0.08


def test_draw_gives_each_operation_its_own_columns():
    drawn = draw([Flip(), PadCrop()], SEED, np.arange(4))
    numbers = uniform(SEED, np.arange(4), 3).numpy()
    assert [operation for operation, _ in drawn] == [Flip(), PadCrop()]
    np.testing.assert_array_equal(drawn[0][1], numbers[:, :1])
    np.testing.assert_array_equal(drawn[1][1], numbers[:, 1:])


def test_between_maps_ends_to_ends():
    np.testing.assert_allclose(between(tf.constant([0.0, 0.5]), (-3, 5)), [-3, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count must lie in"),
        ({"stream": -1}, "stream must lie in"),
        ({"seed": np.arange(3)}, r"seed must have shape \[2\]"),
        ({"positions": np.zeros((2, 2), np.int64)}, r"positions must have shape \[B\]"),
    ],
)
def test_bad_arguments(arguments, message):
    given_ = {"seed": SEED, "positions": np.arange(2), "count": 1, "stream": 0} | arguments
    with pytest.raises(ConfigError, match=message):
        bits(given_["seed"], given_["positions"], given_["count"], stream=given_["stream"])
