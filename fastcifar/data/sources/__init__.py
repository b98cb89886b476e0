"""Where examples come from: one module for each source, each giving the same `Splits`.

`load` picks the source by name. A source is imported when it is asked for, so that the synthetic
one needs neither TensorFlow nor TensorFlow Datasets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastcifar.data.split import Splits
from fastcifar.errors import SourceError, nearest


def load(
    source: str,
    *,
    dataset: str = "cifar10",
    data_path: str | None = None,
    storage_size: int | None = None,
    seed: int = 0,
    skip_unreadable: bool = False,
    synthetic_count: int | None = None,
    synthetic_classes: int = 10,
    synthetic_size: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Splits:
    """Load the train and test splits (and validation, where the source has one) into memory.

    Sources print nothing; what the user should know stands in the result's `notes`.

    Args:
        source: one of `SOURCES`.
        dataset: for tfds: the set's name.
        data_path: for tfds: its data folder; for image_folder: the folder of images.
        storage_size: height and width in pixels to store images with; None lets the source choose.
        seed: of everything the source draws at random.
        skip_unreadable: leave unreadable files out instead of refusing them.
        synthetic_count: training images to draw; None for the source's default.
        synthetic_classes: classes to draw.
        synthetic_size: height and width in pixels to draw; None for `storage_size` or else the
            source's default.
        progress: called with (what, done, total) as work proceeds, from the calling thread.

    Returns:
        Splits of uint8 [N, S, S, 3] images.

    Raises:
        SourceError: if the source is unknown or cannot deliver.
    """
    if source not in SOURCES:
        raise SourceError(
            f"--source must be one of {', '.join(SOURCES)}. Received: {source!r}."
            f"{nearest(source, SOURCES)}"
        )
    return SOURCES[source](
        {
            "dataset": dataset,
            "data_path": data_path,
            "storage_size": storage_size,
            "seed": seed,
            "skip_unreadable": skip_unreadable,
            "synthetic_count": synthetic_count,
            "synthetic_classes": synthetic_classes,
            "synthetic_size": synthetic_size,
            "progress": progress,
        }
    )


def _tfds(options: Mapping[str, Any]) -> Splits:
    from fastcifar.data.sources.tfds import load_tfds

    names = ("dataset", "data_path", "storage_size", "seed", "skip_unreadable", "progress")
    return load_tfds(**{name: options[name] for name in names})


def _image_folder(options: Mapping[str, Any]) -> Splits:
    if options["data_path"] is None:
        raise SourceError("--source image_folder needs --data-path DIR. Received: no --data-path")
    from fastcifar.data.sources.image_folder import load_image_folder

    names = ("data_path", "storage_size", "seed", "skip_unreadable", "progress")
    return load_image_folder(**{name: options[name] for name in names})


def _synthetic(options: Mapping[str, Any]) -> Splits:
    from fastcifar.data.sources import synthetic

    count, size = options["synthetic_count"], options["synthetic_size"]
    if size is None:
        size = options["storage_size"]
    return synthetic.load_synthetic(
        count=synthetic.DEFAULT_COUNT if count is None else count,
        classes=options["synthetic_classes"],
        size=synthetic.DEFAULT_SIZE if size is None else size,
        seed=options["seed"],
        progress=options["progress"],
    )


# Name → how to load it.
SOURCES: Mapping[str, Callable[[Mapping[str, Any]], Splits]] = {
    "tfds": _tfds,
    "image_folder": _image_folder,
    "synthetic": _synthetic,
}
