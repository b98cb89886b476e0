"""The order of an epoch: a permutation, a pure function of its key."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcifar.data.ordering import epoch_order, permute, steps_per_epoch, within_groups


@settings(max_examples=25)
@given(st.integers(1, 500), st.integers(0, 2**31 - 1), st.integers(0, 1000))
def test_every_index_exactly_once(examples, seed, epoch):
    order = epoch_order(seed=seed, epoch=epoch, examples=examples)
    np.testing.assert_array_equal(np.sort(order), np.arange(examples))


def test_order_depends_on_seed_and_epoch():
    orders = [epoch_order(seed=s, epoch=e, examples=1000) for s, e in ((0, 0), (0, 1), (1, 0))]
    for i, one in enumerate(orders):
        for other in orders[i + 1 :]:
            # Two independent permutations agree in one place on average.
            assert (one == other).sum() < 10


def test_any_slice_of_positions_gives_that_slice_of_the_order():
    order = epoch_order(seed=3, epoch=2, examples=100)
    positions = tf.constant([7, 99, 0], tf.int64)
    np.testing.assert_array_equal(
        permute(positions, seed=3, epoch=2, examples=100), order[[7, 99, 0]]
    )


def test_groups_are_shuffled_within_and_go_on_behind_the_last_example():
    keys = {"group": 8, "seed": 3, "examples": 21}
    positions = tf.range(32, dtype=tf.int64)
    first, second = (within_groups(positions, epoch=epoch, **keys).numpy() for epoch in (0, 1))
    for order in (first, second):
        np.testing.assert_array_equal(
            np.sort(order.reshape(-1, 8)), positions.numpy().reshape(-1, 8)
        )
    assert (first[:24] == second[:24]).sum() < 12
    np.testing.assert_array_equal(within_groups(positions[8:16], epoch=0, **keys), first[8:16])


def chi_square(values, examples):
    counts = np.bincount(values * 10 // examples, minlength=10)
    expected = counts.sum() / 10
    return ((counts - expected) ** 2 / expected).sum()


@pytest.mark.parametrize("examples", [1_000, 50_000])
def test_order_is_a_good_shuffle(examples):
    """Where neighbouring positions land, and how far apart, over seeds that differ in few bits."""

    @tf.function
    def first(epoch):
        positions = tf.range(10, dtype=tf.int64)
        return permute(positions, seed=5, epoch=epoch, examples=examples)

    found = np.stack([first(tf.constant(epoch, tf.int64)) for epoch in range(2000)])
    limit = 33.7  # 9 degrees of freedom, p = 1e-4
    assert chi_square(found.ravel(), examples) < limit
    apart = (found[:, 1:] - found[:, :-1]) % examples
    assert chi_square(apart.ravel(), examples) < limit


@pytest.mark.parametrize(("examples", "batch", "steps"), [(10, 5, 2), (11, 5, 2), (4, 5, 0)])
def test_steps_per_epoch(examples, batch, steps):
    assert steps_per_epoch(examples, batch) == steps
