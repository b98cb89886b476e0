"""Augmentation that runs on the device, inside the compiled step.

Pure functions of (images, seed, positions, indices), compiled by XLA and equally usable eagerly, in
a graph and in tf.data. Every draw is keyed by the image's global position; an alternating flip by
the image's index, its place in the split:

- `geometry.warp`, `photometric.recolour`, `erasing.erase`, `mixing.mix` apply `operations`;
- `build.build` turns a policy, a named composition of operations, into one function;
- `preprocess` (resize and normalise) is deterministic; `test_time` averages over views;
- `grid` draws pictures of a policy.

    >>> from fastcifar.augment import get
    >>> from fastcifar.augment.build import build
    >>> augment = build(get("standard+mixup"), image_size=(32, 32), num_classes=10)
    >>> images, labels = augment(  # doctest: +SKIP
    ...     images, labels, (seed, epoch), positions, indices
    ... )

Policies and operations are plain data: importing this package does not import TensorFlow. Its
modules are imported when they are first used.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from fastcifar.augment.policies import POLICIES, Policy, combine, get

__all__ = ["POLICIES", "Policy", "combine", "get"]

_MODULES = (
    "build",
    "erasing",
    "geometry",
    "grid",
    "mixing",
    "operations",
    "photometric",
    "preprocess",
    "randomness",
    "test_time",
)


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
