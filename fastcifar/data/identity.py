"""What a run trains on, in a form that can be kept and compared: class names and digests of images.

An identity is a JSON value:

    {"class_names": ["cat", "dog"],
     "splits": {"train": {"images": 90, "shape": [32, 32, 3], "pixels": …, "labels": …,
                          "members": …}, "test": {…}}}

`pixels` and `labels` are digests of the images and labels in their order, `members` of the images
in any order. They follow from what is trained on alone: a set in memory, the same set on disk and
a copy of it elsewhere have the same identity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcifar.data.split import Examples, Splits

Identity = dict[str, Any]


def identify(splits: Splits) -> Identity:
    """Return the identity of what a run trains, validates and tests on."""
    return {
        "class_names": list(splits.class_names),
        "splits": {
            name: _of_split(split)
            for name, split in (
                ("train", splits.train),
                ("validation", splits.validation),
                ("test", splits.test),
            )
            if split is not None
        },
    }


def _of_split(split: Examples) -> dict[str, Any]:
    digests = split.digests
    return {
        "images": len(split),
        "shape": list(split.image_shape),
        "pixels": _digest(digests),
        "labels": _digest(split.labels.astype(np.int64)),
        "members": _digest(np.sort(digests)),
    }


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()[:32]


def other_classes(before: Sequence[str], now: Sequence[str]) -> str | None:
    """Say in what class names differ, or None if in nothing.

    >>> other_classes(["cat", "dog"], ["dog", "puma"])
    "class 0 was 'cat' and is 'dog', and 1 more differs"
    """
    if list(before) == list(now):
        return None
    if len(before) != len(now):
        gone = [repr(name) for name in before if name not in now]
        new = [repr(name) for name in now if name not in before]
        named = [f"without {_some(gone)}" if gone else "", f"with {_some(new)}" if new else ""]
        return f"{len(now)} classes in place of {len(before)}, {' and '.join(filter(None, named))}"
    moved = [i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a != b]
    first, more = moved[0], len(moved) - 1
    rest = f", and {more} more differ{'s' if more == 1 else ''}" if more else ""
    return f"class {first} was {before[first]!r} and is {now[first]!r}{rest}"


def other_images(before: Identity, now: Identity, names: Sequence[str] | None = None) -> list[str]:
    """Say in what the images of two identities differ, a phrase for each split that does.

    Args:
        before, now: what is compared.
        names: of the splits that count; None for all.
    """
    old, new = before["splits"], now["splits"]
    found = []
    for name in dict.fromkeys([*old, *new]):
        if names is not None and name not in names:
            continue
        difference = _of_splits(old.get(name), new.get(name))
        if difference is not None:
            found.append(f"{name}: {difference}")
    return found


def _of_splits(old: dict[str, Any] | None, new: dict[str, Any] | None) -> str | None:
    if old is None or new is None:
        counts = [0 if split is None else split["images"] for split in (old, new)]
        return f"{counts[0]:,} images before, {counts[1]:,} now"
    if old["images"] != new["images"]:
        return f"{old['images']:,} images before, {new['images']:,} now"
    if old["shape"] != new["shape"]:
        sizes = ["×".join(map(str, split["shape"][:2])) for split in (old, new)]
        return f"images of {sizes[0]} before, of {sizes[1]} now"
    if old["members"] != new["members"]:
        return f"{old['images']:,} images, the content of some is another"
    if old["pixels"] != new["pixels"]:
        return "the same images in another order"
    if old["labels"] != new["labels"]:
        return "the same images with other labels"
    return None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
