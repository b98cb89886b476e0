"""Archives in the official binary format of CIFAR-10 and CIFAR-100, written from any images.

    python -m tests.data.sources.archives IMAGES OUT.tar.gz

writes CIFAR-10's from a folder of train|test/CLASS/*.jpg. Such an archive has the layout of the
official one, not its bytes: `fastcifar prepare tfds --archive OUT.tar.gz --trust-archive`.
"""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastcifar.data.sources.ingest import ReadOptions
from fastcifar.data.split import Split, Splits

Members = dict[str, bytes]


def cifar10_members(splits: Splits) -> Members:
    """The files of CIFAR-10's archive; training images go round over its five batches in turn."""
    train, test = splits.train.in_memory(), splits.test.in_memory()
    parts = np.array_split(np.arange(len(train)), 5)
    prefix = "cifar-10-batches-bin/"
    members = {f"{prefix}batches.meta.txt": "\n".join([*splits.class_names, ""]).encode()}
    for number, part in enumerate(parts, start=1):
        members[f"{prefix}data_batch_{number}.bin"] = records(train.take(part))
    members[f"{prefix}test_batch.bin"] = records(test)
    return members


def cifar100_members(splits: Splits) -> Members:
    """The files of CIFAR-100's archive; the coarse label of a class is its number modulo 20."""
    prefix = "cifar-100-binary/"
    coarse = "\n".join([*(f"group {k}" for k in range(20)), ""]).encode()
    return {
        f"{prefix}coarse_label_names.txt": coarse,
        f"{prefix}fine_label_names.txt": "\n".join([*splits.class_names, ""]).encode(),
        f"{prefix}train.bin": records(splits.train.in_memory(), coarse=True),
        f"{prefix}test.bin": records(splits.test.in_memory(), coarse=True),
    }


def records(split: Split, *, coarse: bool = False) -> bytes:
    """Label bytes and pixels, channel by channel, of each image."""
    pixels = split.images.transpose(0, 3, 1, 2).reshape(len(split), -1)
    labels = [split.labels[:, None]]
    if coarse:
        labels.insert(0, split.labels[:, None] % 20)
    return np.concatenate([*labels, pixels], axis=1).astype(np.uint8).tobytes()


def write_archive(path: Path, members: Mapping[str, bytes | tarfile.TarInfo]) -> Path:
    """Write a .tar.gz file; a member that is a `TarInfo` is written as it stands, without data."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


if __name__ == "__main__":
    from fastcifar.data.sources.image_folder import load_image_folder

    source, out = sys.argv[1:]
    write_archive(
        Path(out), cifar10_members(load_image_folder(source, ReadOptions(storage_size=32)))
    )
