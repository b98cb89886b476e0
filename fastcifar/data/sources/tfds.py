"""Any image-classification set of TensorFlow Datasets, prepared already or downloaded now.

A prepared folder is used as it stands, and nothing then touches the network. A set that is not
prepared is downloaded and prepared by TFDS. Without a network TFDS would try again for minutes;
here its download hosts are asked once, with a short timeout, before it begins.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastcifar.data.prepared import Key
from fastcifar.data.sources.builder_reading import read_builder
from fastcifar.data.sources.decode_pool import Chunk
from fastcifar.data.sources.delivery import deliver
from fastcifar.data.sources.folder_tree import stamp
from fastcifar.data.sources.hosts import unreachable_hosts
from fastcifar.data.sources.ingest import EncodedSet, EncodedSplit, ReadOptions
from fastcifar.data.split import Splits
from fastcifar.errors import SourceError, nearest
from fastcifar.paths import local_path

_VALIDATION_SPLITS = ("validation", "valid", "val")


def load_tfds(
    *, dataset: str = "cifar10", data_path: str | None = None, options: ReadOptions | None = None
) -> Splits:
    """Read a TFDS data set; download and prepare it first where that is needed.

    Images are decoded and brought to one size as everywhere (`fastcifar.data.sources.decoding`,
    `ingest`). The set's "train" and "test" splits are used; where there is no "test", "validation"
    serves as test; without both, 10 % of each class of train are held out.

    Args:
        dataset: a TFDS name, with config and version where wanted ("name/config:1.0.0").
        data_path: the TFDS data folder, which holds `dataset`'s folder; or the folder of one
            prepared version itself. None for TFDS's own choice (the TFDS_DATA_DIR variable or
            ~/tensorflow_datasets).
        options: how to read it. Without a progress function TFDS's own bars, which show downloads,
            are off too.

    Returns:
        Splits of uint8 [N, size, size, 3] images, in the order of the prepared records.

    Raises:
        SourceError: if the name is unknown, the set is no image classification, has no train split,
            can be neither found nor downloaded, or is damaged.
    """
    options = options or ReadOptions()
    return deliver(encoded_set(dataset, data_path, options), options)


def encoded_set(dataset: str, data_path: str | None, options: ReadOptions) -> EncodedSet:
    """Find or prepare a TFDS set; see `load_tfds` for arguments and errors."""
    builder = find_builder(dataset, data_path)
    notes = prepare_builder(builder, dataset, quiet=options.progress is None)
    image_key, label_key, class_names = _supervised_keys(builder, dataset)
    splits = builder.info.splits
    if "train" not in splits:
        raise SourceError(
            f"{dataset} must have a train split. Received: {', '.join(splits) or 'none'}"
        )
    chosen = {"train": "train"}
    if "test" in splits:
        chosen["test"] = "test"
    validation = [name for name in _VALIDATION_SPLITS if name in splits]
    if validation:
        chosen["validation"] = validation[0]
    folder = Path(builder.data_path)
    return EncodedSet(
        splits={
            name: _encoded_split(builder, split, image_key, label_key)
            for name, split in chosen.items()
        },
        class_names=class_names,
        key=Key(
            origin=f"{dataset} in {os.path.realpath(folder)}",
            options={"storage_size": options.storage_size, "non_square": options.non_square},
            files=[stamp(folder, name) for name in sorted(os.listdir(folder))],
        ),
        notes=tuple(notes),
    )


def find_builder(dataset: str, data_path: str | None) -> Any:
    """Return the builder of a set, prepared or not; see `load_tfds` for arguments and errors."""
    import tensorflow_datasets as tfds

    path = _data_folder(data_path)
    try:
        if path is not None and (path / "dataset_info.json").is_file():
            builder = tfds.builder_from_directory(str(path))
            if builder.name == dataset.split("/")[0].split(":")[0]:
                return builder
            raise SourceError(
                f"--data-path names a prepared folder of {builder.name}, which is not --dataset "
                f"{dataset}. Received: {str(path)!r}"
            )
        return tfds.builder(dataset, data_dir=None if path is None else str(path))
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        raise SourceError(
            f"--dataset must be a name that TFDS knows. Received: {dataset!r}."
            f"{nearest(dataset, known)}"
        ) from error
    except SourceError:
        raise
    except Exception as error:  # from any builder's constructor, and TFDS's parser of names
        raise SourceError(f"TFDS cannot open {dataset!r}: {_one_line(error)}") from error


def _data_folder(data_path: str | None) -> Path | None:
    """The TFDS data folder that was asked for; None where TFDS's own choice stands."""
    if data_path is not None:
        return Path(local_path("data-path", str(data_path)))
    # TFDS would take an address elsewhere, which what comes after it does not.
    local_path("TFDS_DATA_DIR", os.environ.get("TFDS_DATA_DIR", ""))
    return None


def prepare_builder(
    builder: Any, dataset: str, *, quiet: bool, download_dir: str | None = None
) -> list[str]:
    """Download and prepare a set unless it is there; return a note if it was not.

    Args:
        builder: of `find_builder`.
        dataset: the name it was asked for by.
        quiet: without TFDS's progress bars, which a file or a pipe never gets.
        download_dir: where TFDS finds and keeps what it downloads; None for its own choice.

    Raises:
        SourceError: if that is not possible.
    """
    folder = Path(builder.data_path)
    if (folder / "dataset_info.json").is_file():
        return []
    if folder.exists():
        # TFDS would take the folder for a prepared one and fail later.
        raise SourceError(
            f"{str(folder)!r} is not a prepared TFDS folder (no dataset_info.json): remove it, or "
            "bring a prepared one and name it by --data-path"
        )
    instead = (
        f"bring a prepared {dataset} folder (--data-path DIR), or use --source image_folder "
        "--data-path DIR or --source synthetic"
    )
    others = sorted(info.parent.name for info in folder.parent.glob("*/dataset_info.json"))
    if others:
        instead = (
            f"there is version {', '.join(others)} (--dataset {builder.name}:VERSION); {instead}"
        )
    downloads = Path(download_dir or Path(builder.data_dir_root) / "downloads")
    unreachable = unreachable_hosts(_missing_urls(builder, downloads))
    if unreachable:
        raise SourceError(
            f"{dataset} is not prepared in {str(folder)!r} and its download host "
            f"({', '.join(unreachable)}) cannot be reached: {instead}"
        )
    import tensorflow_datasets as tfds

    quiet = quiet or not sys.stderr.isatty()
    try:
        if quiet:
            tfds.disable_progress_bar()
        # TFDS announces the download on stdout, which belongs to results.
        with contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare(download_dir=download_dir)
    except Exception as error:  # network, checksums, disk, missing packages, manual downloads
        raise SourceError(
            f"TFDS cannot prepare {dataset} in {str(folder)!r}: {_one_line(error)}; {instead}"
        ) from error
    finally:
        if quiet:
            tfds.enable_progress_bar()
    return [f"{dataset} was downloaded and prepared in {str(folder)!r}"]


def _missing_urls(builder: Any, downloads: Path) -> list[str]:
    """Return the URLs of the set's files that do not lie in TFDS's download folder yet."""
    from tensorflow_datasets.core.download import resource

    return [
        url
        for url, info in (builder.url_infos or {}).items()
        if not (downloads / resource.get_dl_fname(url, info.checksum)).exists()
    ]


def _supervised_keys(builder: Any, dataset: str) -> tuple[str, str, tuple[str, ...]]:
    """Return the names of the image and label features, and the classes' names."""
    import tensorflow_datasets as tfds

    keys, features = builder.info.supervised_keys, builder.info.features
    if isinstance(keys, tuple) and len(keys) == 2 and all(isinstance(key, str) for key in keys):
        image, label = features[keys[0]], features[keys[1]]
        is_image = isinstance(image, tfds.features.Image) and not isinstance(
            image, tfds.features.LabeledImage
        )
        if is_image and image.np_dtype == np.uint8 and isinstance(label, tfds.features.ClassLabel):
            names = label.names or [str(number) for number in range(label.num_classes or 0)]
            return keys[0], keys[1], tuple(names)
    raise SourceError(
        "--dataset must be an image classification, with supervised keys (image, label) for uint8 "
        f"images and class labels. Received: {dataset} with keys {keys}"
    )


def _encoded_split(builder: Any, split: str, image_key: str, label_key: str) -> EncodedSplit:
    import tensorflow_datasets as tfds

    def chunks() -> Iterator[Chunk]:
        decoders = tfds.decode.PartialDecoding(
            {image_key: True, label_key: True}, decoders={image_key: tfds.decode.SkipDecoding()}
        )
        for batch in read_builder(builder, split, (image_key, label_key), decoders):
            yield batch[label_key].astype(np.int64), list(batch[image_key])

    info = builder.info.splits[split]
    return EncodedSplit(info.num_examples, chunks, f"{split}[{{}}]".format, info.num_bytes)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
