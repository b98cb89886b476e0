"""`fastcifar prepare`: fetch, verify and lay out a data set once, for all runs that follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fastcifar.data.sources.ingest import EncodedSet, ReadOptions
from fastcifar.errors import SourceError
from fastcifar.paths import local_path
from fastcifar.wording import counted

# Told of a set before it is decoded: the names of the classes, and the images of each split.
Found = Callable[[Sequence[str], Mapping[str, int]], None]


def prepare(
    source: str,
    *,
    dataset: str = "cifar10",
    data_path: str | None = None,
    archive: str | None = None,
    trust_archive: bool = False,
    options: ReadOptions | None = None,
    found: Found | None = None,
) -> list[str]:
    """Prepare a data set; return what was done and where it is, one line each.

    - tfds: TFDS downloads and prepares the set, or prepares it from the archive given; then as
      image_folder.
    - image_folder: the images are decoded and laid out in the cache, where runs with the same
      folder and options find them.
    - kaggle: the competition's files are downloaded and unpacked, where needed; then the same.
    - keras: Keras downloads and verifies the set, which it reads faster than records.

    Whatever was prepared before, and still fits, is left as it is.

    Args:
        source: tfds, image_folder, kaggle or keras.
        dataset: for tfds, kaggle and keras: the set's name.
        data_path: for tfds: its data folder; for image_folder: the folder or CSV; for
            kaggle: the folder of the competition's files, None to download them.
        archive: for tfds: the official archive of cifar10 or cifar100 in binary format.
        trust_archive: accept an archive of another checksum; all that it holds is then checked.
        options: how to read the images.
        found: called before anything is decoded, with the names of the classes and the images of
            each split.

    Raises:
        SourceError: if the set cannot be had, or the disk refuses.
    """
    options = options or ReadOptions()
    if archive is not None and source != "tfds":
        raise SourceError(f"--archive is for prepare tfds. Received: prepare {source}")
    if trust_archive and archive is None:
        raise SourceError("--trust-archive needs the archive: add --archive FILE")
    if source == "tfds":
        return _prepare_tfds(dataset, data_path, archive, trust_archive, options, found)
    if source == "image_folder":
        if data_path is None:
            raise SourceError(
                "prepare image_folder needs --data-path DIR. Received: no --data-path"
            )
        from fastcifar.data.sources.decode_pool import start_ahead
        from fastcifar.data.sources.image_folder import encoded_set

        start_ahead()  # while the files are listed
        data = encoded_set(Path(local_path("data-path", data_path)), options)
        return _prepare(data, options, found)
    if source == "kaggle":
        from fastcifar.data.sources.kaggle import encoded_set as kaggle_set

        data = kaggle_set(dataset, data_path, options)
        return _prepare(data, options, found)
    if source == "keras":
        from fastcifar.data.sources.keras_datasets import load_keras

        splits = load_keras(dataset, options)
        count = len(splits.train) + len(splits.test)
        if found is not None:
            found(splits.class_names, {"train": len(splits.train), "test": len(splits.test)})
        return [f"{dataset} is in Keras' cache, verified: {counted(count, 'image')}"]
    raise SourceError(f"prepare takes tfds, image_folder, kaggle or keras. Received: {source!r}")


def _prepare_tfds(
    dataset: str,
    data_path: str | None,
    archive: str | None,
    trust: bool,
    options: ReadOptions,
    found: Found | None,
) -> list[str]:
    from fastcifar.data.sources.tfds import encoded_set

    done = []
    if archive is not None:
        from fastcifar.data.sources.cifar_archive import prepare_archive

        done = prepare_archive(
            dataset, archive, data_path=data_path, trust=trust, progress=options.progress
        )
    data = encoded_set(dataset, data_path, options)
    return [*done, *_prepare(data, options, found)]


def _prepare(data: EncodedSet, options: ReadOptions, found: Found | None) -> list[str]:
    from fastcifar.data import prepared
    from fastcifar.data.sources import delivery

    if found is not None:
        found(data.class_names, {name: split.count for name, split in data.splits.items()})
    done = delivery.prepare(data, options)
    return [*data.notes, *done, *delivery.notes_of(prepared.read(data.key.folder()))]
