"""CIFAR's official binary archives, carried here by hand, prepared by TFDS's own builders.

    cifar-10-binary.tar.gz     cifar-10-batches-bin/data_batch_1.bin … 5, test_batch.bin
    cifar-100-binary.tar.gz    cifar-100-binary/train.bin, test.bin

A record is one label byte (CIFAR-100: coarse, fine) and 3,072 bytes of a 32×32 image, channel by
channel. TFDS prepares from a file that lies in its download folder under the name it would have
given to the download, and does not check that file again; so it is checked here, before TFDS sees
it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcifar.data.sources.ingest import Progress
from fastcifar.errors import SourceError
from fastcifar.paths import local_path

_PIXEL_BYTES = 3 * 32 * 32
_READ_BYTES = 1 << 22
# The official archives unpack to 185 MB; what unpacks to more than this is something else.
_MOST_BYTES = 2 << 30


@dataclass(frozen=True)
class _Layout:
    """What an archive must hold.

    Attributes:
        records: its files of images.
        label_classes: for each label byte of a record, how many classes there are.
        names: its files of class names, with as many names as classes.
    """

    records: tuple[str, ...]
    label_classes: tuple[int, ...]
    names: Mapping[str, int]


_LAYOUTS = {
    "cifar10": _Layout(
        records=tuple(
            f"cifar-10-batches-bin/{name}.bin"
            for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")
        ),
        label_classes=(10,),
        names={"cifar-10-batches-bin/batches.meta.txt": 10},
    ),
    "cifar100": _Layout(
        records=("cifar-100-binary/train.bin", "cifar-100-binary/test.bin"),
        label_classes=(20, 100),
        names={
            "cifar-100-binary/coarse_label_names.txt": 20,
            "cifar-100-binary/fine_label_names.txt": 100,
        },
    ),
}
DATASETS = tuple(_LAYOUTS)


def check_archive(
    path: Path,
    dataset: str,
    *,
    sha256: str,
    size: int,
    trust: bool,
    progress: Progress | None = None,
) -> None:
    """Refuse a file that is not the official archive, or with `trust` one that is none at all.

    Args:
        path: the file.
        dataset: one of `DATASETS`.
        sha256, size: of the official archive, size in bytes.
        trust: accept another file of the same layout, such as a re-encoding. It is then read whole:
            its paths, its sizes and every label.
        progress: called with (what, bytes done, bytes in all).

    Raises:
        SourceError: naming the file and what is wrong with it.
    """
    try:
        found_size = path.stat().st_size
        if not path.is_file():
            raise SourceError(f"--archive must be a file. Received: {str(path)!r}")
        if found_size == size or trust:
            found = _sha256(path, found_size, progress)
            if found == sha256:
                return
        if trust:
            _check_content(path, _LAYOUTS[dataset])
            return
    except OSError as error:
        raise SourceError(
            f"--archive cannot be read: {str(path)!r}: {error.strerror or error}"
        ) from error
    rule, received = (
        (f"hold {size} bytes", str(found_size))
        if found_size != size
        else (f"have the sha256 {sha256}", found)
    )
    raise SourceError(
        f"--archive must be the official archive of {dataset}, so it must {rule}. "
        f"Received: {received}, in {str(path)!r}. Fetch it again; --trust-archive accepts a "
        "re-encoding of the same layout"
    )


def prepare_archive(
    dataset: str,
    archive: str,
    *,
    data_path: str | None = None,
    trust: bool = False,
    progress: Progress | None = None,
) -> list[str]:
    """Prepare a TFDS set from its archive, without a network; return notes on what was done.

    Nothing but the prepared set stays in the data folder.

    Args:
        dataset: one of `DATASETS`.
        archive: the archive; `~` is understood.
        data_path: the TFDS data folder; None for TFDS's own choice.
        trust: see `check_archive`.
        progress: called with (what, done, total).

    Raises:
        SourceError: if the archive is refused, or TFDS cannot prepare from it.
    """
    from fastcifar.data.sources.tfds import find_builder, prepare_builder

    if dataset not in DATASETS:
        raise SourceError(
            f"--archive is for --dataset {' or '.join(DATASETS)}. Received: {dataset!r}"
        )
    path = Path(local_path("archive", str(archive))).absolute()
    builder = find_builder(dataset, data_path)
    ((url, info),) = builder.url_infos.items()
    check_archive(
        path, dataset, sha256=info.checksum, size=int(info.size), trust=trust, progress=progress
    )
    root = Path(builder.data_dir_root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".downloads-", dir=root) as downloads:
            _pose_as_download(path, Path(downloads), dataset, url, info)
            quiet = progress is None
            done = prepare_builder(builder, dataset, quiet=quiet, download_dir=downloads)
    except OSError as error:
        raise SourceError(
            f"{str(root)!r} cannot be written: {error.strerror or error}. Choose another "
            "--data-path"
        ) from error
    folder = str(builder.data_path)
    return [f"prepared from {str(path)!r} in {folder!r}" if done else f"already in {folder!r}"]


def _pose_as_download(path: Path, downloads: Path, dataset: str, url: str, info: Any) -> None:
    """Put the archive where TFDS looks before it downloads, with the record it keeps of one."""
    from tensorflow_datasets.core.download import resource

    name = resource.get_dl_fname(url, info.checksum)
    (downloads / name).symlink_to(path)
    record = {
        "dataset_names": [dataset],
        "original_fname": url.rsplit("/", 1)[-1],
        "urls": [url],
    }
    (downloads / f"{name}.INFO").write_text(json.dumps(record))


def _sha256(path: Path, size: int, progress: Progress | None) -> str:
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
            done += len(part)
            if progress:
                progress("checking the archive", done, size)
    return digest.hexdigest()


def _check_content(path: Path, layout: _Layout) -> None:
    """Read the archive to its end."""
    wanted = {*layout.records, *layout.names}
    total = 0
    with _tar_errors(path), tarfile.open(path, "r:gz") as archive:
        for member in archive:
            name = os.path.normpath(member.name)
            inside = not os.path.isabs(name) and name.split(os.sep)[0] != os.pardir
            if not inside or not (member.isfile() or member.isdir()):
                what = "a path that leaves it" if not inside else "a link or a device"
                raise SourceError(
                    f"--archive must hold files and folders alone. Received: {member.name!r} in "
                    f"{str(path)!r}, {what}"
                )
            total += member.size
            if total > _MOST_BYTES:
                raise SourceError(
                    f"--archive must unpack to at most {_MOST_BYTES} bytes. "
                    f"Received: more in {str(path)!r}"
                )
            if name not in wanted:
                continue
            file = archive.extractfile(member)
            assert file is not None  # only links and devices have none
            content = file.read()
            if name in layout.records:
                _check_records(content, name, layout.label_classes, path)
            else:
                _check_names(content, name, layout.names[name], path)
            wanted.remove(name)
    if wanted:
        raise SourceError(
            f"--archive must hold {sorted(wanted)[0]!r}. Received: {str(path)!r} without it"
        )


def _check_records(content: bytes, name: str, classes: tuple[int, ...], path: Path) -> None:
    record = len(classes) + _PIXEL_BYTES
    if not content or len(content) % record:
        raise SourceError(
            f"{name!r} in --archive must hold whole records of {record} bytes. "
            f"Received: {len(content)} bytes in {str(path)!r}"
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, record)
    for column, count in enumerate(classes):
        highest = int(rows[:, column].max())
        if highest >= count:
            raise SourceError(
                f"{name!r} in --archive must hold labels from 0 to {count - 1}. "
                f"Received: {highest} in record {int(rows[:, column].argmax())} in {str(path)!r}"
            )


def _check_names(content: bytes, name: str, classes: int, path: Path) -> None:
    try:
        found = len([line for line in content.decode("utf-8").split("\n") if line])
    except UnicodeDecodeError:
        found = 0
    if found != classes:
        raise SourceError(
            f"{name!r} in --archive must hold the names of {classes} classes, one a line. "
            f"Received: {found} in {str(path)!r}"
        )


@contextlib.contextmanager
def _tar_errors(path: Path) -> Iterator[None]:
    """Turn what tarfile, gzip and zlib raise on damaged bytes into one line."""
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise SourceError(
            f"--archive must be a whole .tar.gz file. Received: {str(path)!r}, which is truncated, "
            f"damaged or something else ({' '.join(str(error).split())})"
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise SourceError(  # gzip.BadGzipFile
            f"--archive must be a whole .tar.gz file. Received: {str(path)!r} ({error})"
        ) from error
