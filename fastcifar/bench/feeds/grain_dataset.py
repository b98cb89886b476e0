"""Grain's `MapDataset` over arrays in memory, read by its own threads."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from fastcifar.bench.feeds.candidate import POLICY, PREFETCH, SEED, Candidate, augmented
from fastcifar.data.split import Split

NAME = "grain"


class _Source:
    """What Grain reads from: one image at a time."""

    def __init__(self, split: Split):
        self._images, self._labels = split.images, split.labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.integer]:
        return self._images[index], self._labels[index]


def candidates(split: Split, global_batch_size: int) -> list[Candidate]:
    """With and without augmentation.

    Raises:
        ImportError: if Grain is not installed.
    """
    # By name: it is optional, and has no types where it is absent.
    grain: Any = importlib.import_module("grain")
    height, width, _ = split.image_shape
    pad = POLICY.operations[1].padding  # type: ignore[attr-defined]

    def flip_crop(element: Any, rng: np.random.Generator) -> Any:
        image, label = element
        if rng.random() < 0.5:
            image = image[:, ::-1]
        padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
        top, left = rng.integers(0, 2 * pad + 1, 2)
        return padded[top : top + height, left : left + width].astype(np.float32), label

    def make(with_augmentation: bool) -> Any:
        dataset = grain.MapDataset.source(_Source(split)).seed(SEED).shuffle().repeat()
        if with_augmentation:
            dataset = dataset.random_map(flip_crop)
        # Its default of 500 finished batches would be filled while others are timed.
        threads = grain.ReadOptions(num_threads=PREFETCH, prefetch_buffer_size=PREFETCH)
        return dataset.batch(global_batch_size).to_iter_dataset(threads)

    def made(name: str, with_augmentation: bool) -> Candidate:
        return Candidate(
            name,
            lambda: make(with_augmentation),
            len(split),
            global_batch_size,
            in_graph=False,
        )

    return [made(NAME, False), made(augmented(NAME), True)]
