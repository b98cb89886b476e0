"""The stages before training: reading files, decoding them, placing them in the cache.

They are paid once a run (with cache `none`, decoding from memory is part of every step, and of the
stage `order`). A sample of the files, on one core, tells what they cost; it is read once before, so
files come from the system's page cache, as they do in a second run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fastcifar.bench.measure import Contender
from fastcifar.bench.stage_names import CACHE, DECODE, INGEST, READ
from fastcifar.config import DataConfig
from fastcifar.data.sources.decoding import UnreadableImage, decode, measure
from fastcifar.data.storage import empty_images
from fastcifar.paths import local_path

_SAMPLE = 1000


def contenders(data: DataConfig, image_size: int) -> list[Contender]:
    """The growing prefixes read, + decode, + cache over a sample of the source's files.

    Args:
        data: the source.
        image_size: height and width in pixels at which images are kept.
    """
    if data.source != "image_folder":
        drawn = data.source == "synthetic"
        why = "its images are drawn, not read" if drawn else "its source reads and decodes in one"
        return [
            Contender(name, lambda: 0.0, check=lambda: f"not applicable: {why}") for name in INGEST
        ]
    paths = _sample(Path(local_path("data-path", str(data.data_path))))
    kept = empty_images((len(paths), image_size, image_size, 3))

    def prefix(work: Callable[[int, bytes], object]) -> Callable[[], float]:
        def run() -> float:
            for row, path in enumerate(paths):
                work(row, path.read_bytes())
            return float(len(paths))

        return run

    def pixels(encoded: bytes) -> np.ndarray:
        return decode(encoded, image_size)[0]

    def store(row: int, encoded: bytes) -> None:
        kept[row] = pixels(encoded)

    works: dict[str, Callable[[int, bytes], object]] = {
        READ: lambda row, encoded: None,
        DECODE: lambda row, encoded: pixels(encoded),
        CACHE: store,
    }
    return [Contender(name, prefix(work)) for name, work in works.items()]


def _sample(root: Path) -> list[Path]:
    """Images of the folder, evenly spaced over all of them."""
    paths = sorted(path for path in root.rglob("[!.]*") if path.is_file())
    step = max(1, len(paths) // _SAMPLE)
    return [path for path in paths[::step][:_SAMPLE] if _is_readable(path)]


def _is_readable(path: Path) -> bool:
    try:
        measure(path.read_bytes())
    except UnreadableImage:
        return False
    return True
