"""Stratified subsets of a split: `limit` keeps some examples, `hold_out` sets some aside.

Both are proportional: every class keeps its share of the whole, rounded up or down, and at least
one example (`hold_out`: one on each side). They do not make classes equal that are not.

1. Each class has a quota in proportion to its examples. Where quotas lie below one example, or
   above what a class can give, these classes get that bound, and the others share the rest.
2. Quotas become whole by largest remainder: each class gets the whole part, and the examples still
   missing go one each to the classes with the largest fractional parts, the lower label first where
   they are equal. Quotas are fractions of integers, so nothing depends on floating-point rounding.
3. Which examples of a class are taken depends on the seed and the class alone. What is held out is
   the same for every seed of a run: were it not, a run that starts from the weights of another
   would be tested on images that these have been trained on, and accuracies over several seeds
   would be of different images.

Indices are returned in ascending order: the subset lies in memory as the whole did, and a gather
over it reads forwards.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from fastcifar.data.split import Examples
from fastcifar.errors import SourceError

# Keys of the random streams, so that the two draws are independent of each other under one seed.
_LIMIT, _HOLD_OUT = 1, 2

FIXED_SEED = 0  # of what must not depend on the seed of a run: hold-outs, limits of test images


def limit(split: Examples, count: int, seed: int) -> Examples:
    """Return a stratified subset of `count` examples (`split` itself if it has just as many).

    Args:
        split: N examples.
        count: how many to keep, from the number of classes present to N.
        seed: non-negative; the same seed keeps the same examples.

    Raises:
        SourceError: if `count` is out of range.
    """
    if count == len(split):
        return split
    return split.take(limit_indices(split.labels, count, seed))


def hold_out(split: Examples, fraction: float) -> tuple[Examples, Examples]:
    """Split `split` in two, stratified: (what remains, what is held out), always the same way.

    Args:
        split: N examples.
        fraction: share to hold out, inside (0, 1). Held out are `fraction * N` examples, rounded
            half up, but at least one of every class, and one of every class remains.

    Raises:
        SourceError: if `fraction` is out of range or a class has a single example.
    """
    remaining, held_out = hold_out_indices(split.labels, fraction, class_names=split.class_names)
    return split.take(remaining), split.take(held_out)


def limit_indices(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the indices (int64 [count], ascending) of the examples that `limit` keeps.

    Args:
        labels: int [N].
        count: how many to keep, from the number of classes present to N.
        seed: non-negative.

    Raises:
        SourceError: if `count` is out of range.
    """
    members = _members(labels)
    if not len(members) <= count <= len(labels):
        raise SourceError(
            f"a limit (--limit-train, --limit-test) must lie between {len(members)}, one image of "
            f"each class, and {len(labels)}, the images there are. Received: {count}"
        )
    sizes = {label: len(where) for label, where in members.items()}
    return _draw(members, _apportion(sizes, count, most=sizes), (seed, _LIMIT))


def hold_out_indices(
    labels: np.ndarray, fraction: float, *, class_names: tuple[str, ...] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices (int64, ascending) that `hold_out` leaves and those that it holds out.

    Args:
        labels: int [N].
        fraction: share to hold out, inside (0, 1).
        class_names: what error messages call the labels; their numbers without it.

    Raises:
        SourceError: if `fraction` is out of range or a class has a single example.
    """
    if not 0.0 < fraction < 1.0:
        raise SourceError(
            "the fraction to hold out must lie between 0 and 1, both excluded. "
            f"Received: {fraction}"
        )
    members = _members(labels)
    for label, where in members.items():
        if len(where) < 2:
            name = class_names[label] if class_names else label
            raise SourceError(
                "holding out examples needs at least two of every class, one for each side. "
                f"Received: one of class {str(name)!r}"
            )
    classes, total = len(members), len(labels)
    held_out_count = min(max(int(fraction * total + 0.5), classes), total - classes)
    sizes = {label: len(where) for label, where in members.items()}
    most = {label: size - 1 for label, size in sizes.items()}
    counts = _apportion(sizes, held_out_count, most=most)
    held_out = _draw(members, counts, (FIXED_SEED, _HOLD_OUT))
    remaining = np.ones(total, dtype=bool)
    remaining[held_out] = False
    return np.flatnonzero(remaining), held_out


def _members(labels: np.ndarray) -> dict[int, np.ndarray]:
    """Return the ascending indices of every label that occurs, by ascending label."""
    present, starts = np.unique(np.sort(labels), return_index=True)
    by_label = np.split(np.argsort(labels, kind="stable"), starts[1:])
    return {int(label): where for label, where in zip(present, by_label, strict=False)}


def _apportion(sizes: dict[int, int], seats: int, *, most: dict[int, int]) -> dict[int, int]:
    """Share `seats` among the keys in proportion to their sizes: 1 to `most` each."""
    given: dict[int, int] = {}
    free, left = dict(sizes), seats
    while free:
        total = sum(free.values())
        quotas = {key: Fraction(size * left, total) for key, size in free.items()}
        below = {key: 1 for key, quota in quotas.items() if quota < 1}
        above = {key: most[key] for key, quota in quotas.items() if quota > most[key]}
        if not below and not above:
            given |= _largest_remainder(quotas)
            break
        # Those at one bound change the quotas of all others: first the bound that moves more.
        short = sum(1 - quotas[key] for key in below)
        over = sum(quotas[key] - most[key] for key in above)
        fixed = below if short > over else above if over > short else below | above
        given |= fixed
        left -= sum(fixed.values())
        free = {key: size for key, size in free.items() if key not in fixed}
    return given


def _largest_remainder(quotas: dict[int, Fraction]) -> dict[int, int]:
    """Round quotas, which add up to a whole number, to whole numbers of the same sum."""
    shares = {key: int(quota) for key, quota in quotas.items()}
    missing = int(sum(quotas.values())) - sum(shares.values())
    # `sorted` is stable and the keys ascend: of equal remainders the lower label comes first.
    for key in sorted(quotas, key=lambda key: shares[key] - quotas[key])[:missing]:
        shares[key] += 1
    return shares


def _draw(
    members: dict[int, np.ndarray], counts: dict[int, int], key: tuple[int, int]
) -> np.ndarray:
    """Draw `counts[label]` of each class's members, with a random stream for each class."""
    drawn = [
        np.random.default_rng((*key, label)).permutation(where)[: counts[label]]
        for label, where in members.items()
    ]
    return np.sort(np.concatenate(drawn)) if drawn else np.empty(0, dtype=np.int64)
