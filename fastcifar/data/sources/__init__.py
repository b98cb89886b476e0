"""Where examples come from: one module for each source, each giving the same `Splits`.

`load` picks the source by name. A source is imported when it is asked for, so that the synthetic
one needs neither TensorFlow nor TensorFlow Datasets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fastcifar.data.sources.ingest import ReadOptions
from fastcifar.data.split import Splits
from fastcifar.errors import SourceError, nearest


def load(
    source: str,
    *,
    dataset: str = "cifar10",
    data_path: str | None = None,
    synthetic_count: int | None = None,
    synthetic_classes: int = 10,
    synthetic_size: int | None = None,
    **reading: Any,
) -> Splits:
    """Load the train and test splits (and validation, where the source has one).

    A set that fits the memory budget comes in memory, a larger one stays on disk. Sources print
    nothing; what the user should know stands in the result's `notes`.

    Args:
        source: one of `SOURCES`.
        dataset: for tfds, keras and kaggle: the set's name.
        data_path: for tfds: its data folder; for image_folder: the folder of images, a CSV or a
            prepared folder; for kaggle: the folder of the competition's files, None to download.
        synthetic_count: training images to draw; None for the source's default.
        synthetic_classes: classes to draw.
        synthetic_size: height and width in pixels to draw; None for `storage_size` or else the
            source's default.
        reading: fields of `fastcifar.data.sources.ingest.ReadOptions`: storage_size, non_square,
            seed, skip_unreadable, memory_budget, workers, progress.

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
    given = _Given(
        dataset,
        data_path,
        synthetic_count,
        synthetic_classes,
        synthetic_size,
        ReadOptions(**reading),
    )
    return SOURCES[source](given)


class _Given(NamedTuple):
    """The arguments of `load`."""

    dataset: str
    data_path: str | None
    synthetic_count: int | None
    synthetic_classes: int
    synthetic_size: int | None
    options: ReadOptions


def _tfds(given: _Given) -> Splits:
    from fastcifar.data.sources.tfds import load_tfds

    return load_tfds(dataset=given.dataset, data_path=given.data_path, options=given.options)


def _keras(given: _Given) -> Splits:
    if given.data_path is not None:
        raise SourceError(
            "--source keras takes no --data-path: its folder is $KERAS_HOME/datasets. "
            f"Received: {given.data_path!r}"
        )
    from fastcifar.data.sources.keras_datasets import load_keras

    return load_keras(given.dataset, given.options)


def _image_folder(given: _Given) -> Splits:
    if given.data_path is None:
        raise SourceError("--source image_folder needs --data-path DIR. Received: no --data-path")
    from fastcifar.data.sources.image_folder import load_image_folder

    return load_image_folder(given.data_path, given.options)


def _kaggle(given: _Given) -> Splits:
    from fastcifar.data.sources.kaggle import load_kaggle

    return load_kaggle(dataset=given.dataset, data_path=given.data_path, options=given.options)


def _synthetic(given: _Given) -> Splits:
    from fastcifar.data.sources import synthetic

    count = synthetic.DEFAULT_COUNT if given.synthetic_count is None else given.synthetic_count
    size = given.synthetic_size
    if size is None:
        size = given.options.storage_size or synthetic.DEFAULT_SIZE
    return synthetic.load_synthetic(
        count=count, classes=given.synthetic_classes, size=size, options=given.options
    )


# Name → how to load it.
SOURCES: Mapping[str, Callable[[_Given], Splits]] = {
    "tfds": _tfds,
    "image_folder": _image_folder,
    "keras": _keras,
    "kaggle": _kaggle,
    "synthetic": _synthetic,
}
