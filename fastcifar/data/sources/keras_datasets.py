"""The image sets of `keras.datasets`, from Keras' own cache or downloaded into it.

Keras verifies the checksum of the archive at every use. Sets that it does not verify
(fashion_mnist) are not offered.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastcifar.data.prepared import Key
from fastcifar.data.sources.decode_pool import Chunk
from fastcifar.data.sources.delivery import deliver
from fastcifar.data.sources.hosts import unreachable_hosts
from fastcifar.data.sources.ingest import CHUNK, EncodedSet, EncodedSplit, ReadOptions
from fastcifar.data.split import Splits
from fastcifar.errors import SourceError, nearest
from fastcifar.paths import keras_home

_CIFAR10_NAMES = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""


@dataclass(frozen=True)
class _Set:
    class_names: tuple[str, ...]
    file: str  # what Keras calls the archive in its cache
    url: str  # only its host is used here, to ask whether it answers


_CIFAR_URL, _MNIST_URL = "https://www.cs.toronto.edu/", "https://storage.googleapis.com/"
_SETS = {
    "cifar10": _Set(
        tuple(_CIFAR10_NAMES.split()), "cifar-10-batches-py-target_archive", _CIFAR_URL
    ),
    "cifar100": _Set(tuple(_CIFAR100_NAMES.split()), "cifar-100-python-target_archive", _CIFAR_URL),
    "mnist": _Set(tuple("0123456789"), "mnist.npz", _MNIST_URL),
}


def load_keras(dataset: str = "cifar10", options: ReadOptions | None = None) -> Splits:
    """Read a set of `keras.datasets`; Keras downloads it first where that is needed.

    Args:
        dataset: cifar10, cifar100 or mnist (grey: it becomes RGB).
        options: how to read it.

    Returns:
        Splits of uint8 [N, size, size, 3] images, in Keras' order.

    Raises:
        SourceError: if there is no such set, or if it can be neither found nor downloaded, or is
            damaged.
    """
    options = options or ReadOptions()
    if dataset not in _SETS:
        raise SourceError(
            f"--dataset must be one of {', '.join(_SETS)} with --source keras. "
            f"Received: {dataset!r}.{nearest(dataset, _SETS)}"
        )
    splits = _load(dataset)
    data = EncodedSet(
        splits=dict(zip(("train", "test"), splits, strict=True)),
        class_names=_SETS[dataset].class_names,
        key=Key(
            origin=f"keras.datasets.{dataset}",
            options={"storage_size": options.storage_size, "non_square": options.non_square},
        ),
        verb="reading",
    )
    return deliver(data, options)


def _load(dataset: str) -> list[EncodedSplit]:
    import keras

    chosen = _SETS[dataset]
    folder = keras_home() / "datasets"
    unreachable = []
    if not (folder / chosen.file).exists():
        unreachable = unreachable_hosts([chosen.url])
    instead = (
        "bring its archive to Keras' cache, or use --source image_folder --data-path DIR or "
        "--source synthetic"
    )
    if unreachable:
        raise SourceError(
            f"{dataset} is not in Keras' cache {str(folder)!r} and its download host "
            f"({unreachable[0]}) cannot be reached: {instead}"
        )
    try:
        # Keras announces the download on stdout, which belongs to results.
        with contextlib.redirect_stdout(sys.stderr):
            parts = getattr(keras.datasets, dataset).load_data()
    except Exception as error:  # network, checksum, disk, and pickles that are none
        reason = " ".join(str(error).split())[:300]
        raise SourceError(
            f"Keras cannot load {dataset}: {type(error).__name__}: {reason}; {instead}"
        ) from error
    return [_encoded_split(images, labels.reshape(-1)) for images, labels in parts]


def _encoded_split(images: np.ndarray, labels: np.ndarray) -> EncodedSplit:
    labels = labels.astype(np.int64)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(labels), CHUNK):
            yield labels[start : start + CHUNK], list(images[start : start + CHUNK])

    return EncodedSplit(len(labels), chunks, str)
