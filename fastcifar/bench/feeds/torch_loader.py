"""torch's `DataLoader` over a `TensorDataset`: item by item, and with a batch sampler.

In the process that asks, without workers: those hand each batch over between processes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastcifar.bench.feeds.candidate import POLICY, SEED, Candidate, augmented
from fastcifar.data.split import Split

ITEMS, BATCHES = "torch_dataloader", "torch_batch_sampler"


def candidates(split: Split, global_batch_size: int) -> list[Candidate]:
    """Both forms, with and without augmentation.

    Raises:
        ImportError: if torch is not installed.
    """
    # By name: it is optional, and has no types where it is absent.
    torch: Any = importlib.import_module("torch")
    data: Any = importlib.import_module("torch.utils.data")
    images = torch.from_numpy(np.array(split.images))
    labels = torch.from_numpy(split.labels.astype(np.int64))
    dataset = data.TensorDataset(images, labels)
    height, width, _ = split.image_shape
    pad = POLICY.operations[1].padding  # type: ignore[attr-defined]

    def flip_crop(image: Any) -> Any:
        if torch.rand(()) < 0.5:
            image = image.flip(1)
        padded = torch.nn.functional.pad(image, (0, 0, pad, pad, pad, pad))
        top, left = torch.randint(2 * pad + 1, (2,)).tolist()
        return padded[top : top + height, left : left + width].to(torch.float32)

    def flip_crop_batch(batch: Any) -> Any:
        # One gather for the batch: rows and columns of each image, the flip in the columns.
        count = len(batch)
        padded = torch.nn.functional.pad(batch, (0, 0, pad, pad, pad, pad))
        top, left = torch.randint(2 * pad + 1, (2, count, 1))
        rows = top + torch.arange(height)
        columns = torch.arange(width).expand(count, -1)
        columns = torch.where(torch.rand(count, 1) < 0.5, width - 1 - columns, columns) + left
        which = torch.arange(count)[:, None, None]
        return padded[which, rows[:, :, None], columns[:, None, :]].to(torch.float32)

    class Augmented(data.Dataset):
        """`flip_crop` of each item."""

        def __len__(self) -> int:
            return len(dataset)

        def __getitem__(self, index: int) -> Any:
            image, label = dataset[index]
            return flip_crop(image), label

    def by_items(source: Any) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(SEED)
        loader = data.DataLoader(
            source, global_batch_size, shuffle=True, drop_last=True, generator=generator
        )
        while True:
            yield from loader

    def by_batches(transform: Any = None) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(SEED)
        order = data.RandomSampler(dataset, generator=generator)
        sampler = data.BatchSampler(order, global_batch_size, drop_last=True)
        loader = data.DataLoader(dataset, sampler=sampler, batch_size=None)
        while True:
            for found, labels in loader:
                yield (found if transform is None else transform(found)), labels

    whole = len(split) // global_batch_size * global_batch_size

    def made(name: str, make: Any) -> Candidate:
        return Candidate(name, make, whole, global_batch_size, in_graph=False)

    return [
        made(ITEMS, lambda: by_items(dataset)),
        made(BATCHES, lambda: by_batches()),
        made(augmented(ITEMS), lambda: by_items(Augmented())),
        made(augmented(BATCHES), lambda: by_batches(flip_crop_batch)),
    ]
