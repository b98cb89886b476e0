"""`limit` and `hold_out`: proportional, deterministic, and a partition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcifar.data.split import Split
from fastcifar.data.splitting import hold_out, hold_out_indices, limit, limit_indices
from fastcifar.errors import SourceError


def split_of(labels: list[int] | np.ndarray) -> Split:
    """A split whose images show their own position in their first two bytes."""
    labels = np.asarray(labels, dtype=np.int64)
    images = np.zeros((len(labels), 1, 1, 3), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.divmod(np.arange(len(labels)), 256)
    return Split(images, labels, tuple(f"class {k}" for k in range(int(labels.max(initial=0)) + 1)))


seeds = st.integers(0, 2**31)


@st.composite
def class_sizes(draw: st.DrawFn, smallest: int) -> np.ndarray:
    """Labels in random order; some labels may not occur at all."""
    sizes = draw(st.lists(st.just(0) | st.integers(smallest, 40), min_size=1, max_size=8))
    if not any(sizes):
        sizes[0] = smallest
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(draw(seeds)).permutation(labels)


@given(labels=class_sizes(smallest=1), seed=seeds, data=st.data())
def test_limit_keeps_every_class_and_no_more_than_there_is(
    labels: np.ndarray, seed: int, data: st.DataObject
) -> None:
    present = np.unique(labels)
    count = data.draw(st.integers(len(present), len(labels)))
    kept = limit_indices(labels, count, seed)
    assert len(kept) == count
    assert (np.diff(kept) > 0).all()  # ascending, so nothing twice
    assert set(labels[kept]) == set(present)
    np.testing.assert_array_equal(kept, limit_indices(labels, count, seed))


def proportional(sizes: np.ndarray, count: int, most: np.ndarray) -> np.ndarray:
    """Shares in proportion to sizes, clipped to [1, most], that add up to `count`: by bisection."""
    low, high = 0.0, float(count + 1)
    for _ in range(200):
        factor = (low + high) / 2
        shares = np.clip(factor * sizes, 1, most)
        low, high = (factor, high) if shares.sum() < count else (low, factor)
    return shares


@given(labels=class_sizes(smallest=1), seed=seeds, data=st.data())
def test_limit_keeps_every_class_in_its_share(
    labels: np.ndarray, seed: int, data: st.DataObject
) -> None:
    sizes = np.unique(labels, return_counts=True)[1]
    count = data.draw(st.integers(len(sizes), len(labels)))
    kept = np.unique(labels[limit_indices(labels, count, seed)], return_counts=True)[1]
    assert (np.abs(kept - proportional(sizes, count, sizes)) < 1 + 1e-6).all()


@given(labels=class_sizes(smallest=2), fraction=st.floats(0.001, 0.999))
def test_hold_out_takes_of_every_class_its_share(labels: np.ndarray, fraction: float) -> None:
    sizes = np.unique(labels, return_counts=True)[1]
    _, held_out = hold_out_indices(labels, fraction)
    taken = np.unique(labels[held_out], return_counts=True)[1]
    assert (np.abs(taken - proportional(sizes, len(held_out), sizes - 1)) < 1 + 1e-6).all()


@pytest.mark.parametrize(
    ("sizes", "count", "kept"),
    [
        ([1000, 10], 101, [100, 1]),  # a tenth of each
        ([1000, 10], 404, [400, 4]),
        ([1000, 10], 100, [99, 1]),
        ([1000, 10], 2, [1, 1]),
        ([98, 1, 1], 50, [48, 1, 1]),
        ([10_000, *[10] * 99], 2000, [1820, *[2] * 81, *[1] * 18]),
    ],
)
def test_a_limit_is_proportional_where_classes_are_not_equal(
    sizes: list[int], count: int, kept: list[int]
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    assert np.bincount(labels[limit_indices(labels, count, seed=0)]).tolist() == kept


@given(
    labels=class_sizes(smallest=2),
    fraction=st.floats(0.001, 0.999),
)
def test_hold_out_is_a_partition_with_every_class_on_both_sides(
    labels: np.ndarray, fraction: float
) -> None:
    remaining, held_out = hold_out_indices(labels, fraction)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([remaining, held_out])), np.arange(len(labels))
    )
    assert (np.diff(remaining) > 0).all()
    assert (np.diff(held_out) > 0).all()
    assert set(labels[remaining]) == set(labels[held_out]) == set(labels)
    classes = len(set(labels))
    wanted = int(fraction * len(labels) + 0.5)
    assert len(held_out) == min(max(wanted, classes), len(labels) - classes)


@given(per_class=st.integers(2, 30), classes=st.integers(1, 8), seed=seeds)
def test_equal_classes_stay_equal_up_to_one(per_class: int, classes: int, seed: int) -> None:
    labels = np.tile(np.arange(classes), per_class)
    for part in (*hold_out_indices(labels, 0.3), limit_indices(labels, classes + 1, seed)):
        assert np.ptp(np.bincount(labels[part])) <= 1


def test_cifar_sized_counts_are_exact() -> None:
    labels = np.repeat(np.arange(10), 5000)
    remaining, held_out = hold_out_indices(labels, 0.1)
    assert np.bincount(labels[held_out]).tolist() == [500] * 10
    assert np.bincount(labels[remaining]).tolist() == [4500] * 10
    assert np.bincount(labels[limit_indices(labels, 1000, seed=0)]).tolist() == [100] * 10


def test_equal_remainders_go_to_the_lower_labels() -> None:
    labels = np.repeat(np.arange(4), 10)
    assert np.bincount(labels[limit_indices(labels, 6, seed=5)]).tolist() == [2, 2, 1, 1]


def test_a_class_is_drawn_by_its_own_stream() -> None:
    """What other classes hold does not change which of a class's images are taken."""
    labels = np.repeat(np.arange(3), 20)
    more = np.concatenate([labels, np.full(20, 3)])
    _, few_held = hold_out_indices(labels, 0.2)
    _, more_held = hold_out_indices(more, 0.2)
    np.testing.assert_array_equal(few_held, more_held[more_held < 60])


def test_seeds_and_uses_give_different_draws() -> None:
    labels = np.repeat(np.arange(2), 200)
    assert not np.array_equal(limit_indices(labels, 40, 0), limit_indices(labels, 40, 1))
    _, held_out = hold_out_indices(labels, 0.1)
    assert not np.array_equal(held_out, limit_indices(labels, 40, 0))


def test_splits_carry_images_and_names() -> None:
    whole = split_of([0, 1] * 150)
    train, held_out = hold_out(whole, 0.1)
    remaining_rows, held_rows = hold_out_indices(whole.labels, 0.1)
    for part, rows in ((train, remaining_rows), (held_out, held_rows)):
        np.testing.assert_array_equal(
            part.images[:, 0, 0, :2] @ np.array([256, 1]).astype(np.int64), rows
        )
        np.testing.assert_array_equal(part.labels, whole.labels[rows])
        assert part.class_names == whole.class_names
    some = limit(whole, 10, seed=3)
    np.testing.assert_array_equal(some.labels, whole.labels[limit_indices(whole.labels, 10, 3)])


def test_a_limit_of_everything_copies_nothing() -> None:
    whole = split_of([0, 1, 0, 1])
    assert limit(whole, 4, seed=0) is whole


@pytest.mark.parametrize("count", [-1, 0, 1, 5])
def test_a_limit_out_of_range_is_refused(count: int) -> None:
    message = rf"--limit-train.* between 2, .* and 4.* Received: {count}"
    with pytest.raises(SourceError, match=message):
        limit(split_of([0, 1, 0, 1]), count, seed=0)


@pytest.mark.parametrize("fraction", [-0.1, 0.0, 1.0, 1.5, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(SourceError, match=f"between 0 and 1.* Received: {fraction}"):
        hold_out(split_of([0, 1, 0, 1]), fraction)


def test_a_class_of_one_cannot_be_held_out() -> None:
    with pytest.raises(SourceError, match=r"at least two of every class.*'class 1'"):
        hold_out(split_of([0, 0, 1, 0]), 0.5)
