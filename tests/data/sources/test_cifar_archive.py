"""CIFAR's binary archives: the real ones by their checksum, others by all that they hold."""

from __future__ import annotations

import hashlib
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcifar.data.sources import cifar_archive
from fastcifar.data.sources.cifar_archive import check_archive, prepare_archive
from fastcifar.data.sources.tfds import load_tfds
from fastcifar.data.split import Split, Splits
from fastcifar.errors import SourceError
from tests.data.sources.archives import (
    Members,
    cifar10_members,
    cifar100_members,
    records,
    write_archive,
)

PREFIX = "cifar-10-batches-bin/"
CIFAR10_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise socket.gaierror("there is no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def some_splits(names: tuple[str, ...], train: int = 50, test: int = 20) -> Splits:
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        return Split(images, np.arange(count) % len(names), names)

    return Splits(split(train), split(test))


@pytest.fixture(scope="module")
def splits() -> Splits:
    return some_splits(CIFAR10_NAMES)


@pytest.fixture(scope="module")
def members(splits: Splits) -> Members:
    return cifar10_members(splits)


def rows(split: Split) -> set[tuple[int, bytes]]:
    return {
        (int(label), image.tobytes())
        for image, label in zip(split.images, split.labels, strict=True)
    }


def test_tfds_prepares_from_an_archive_without_a_network(tmp_path: Path, splits: Splits) -> None:
    archive = write_archive(tmp_path / "it.tar.gz", cifar10_members(splits))
    data = tmp_path / "data"
    (note,) = prepare_archive("cifar10", str(archive), data_path=str(data), trust=True)
    assert note.startswith("prepared from ")
    read = load_tfds(dataset="cifar10", data_path=str(data))
    assert read.class_names == CIFAR10_NAMES
    assert rows(read.train) == rows(splits.train)
    assert rows(read.test) == rows(splits.test)
    assert [path.name for path in data.iterdir()] == ["cifar10"]  # no download, nothing unpacked
    (note,) = prepare_archive("cifar10", str(archive), data_path=str(data), trust=True)
    assert note.startswith("already in ")


def test_cifar100_is_prepared_with_its_fine_labels(tmp_path: Path) -> None:
    splits = some_splits(tuple(f"class {k:02}" for k in range(100)), train=200, test=100)
    archive = write_archive(tmp_path / "it.tar.gz", cifar100_members(splits))
    prepare_archive("cifar100", str(archive), data_path=str(tmp_path), trust=True)
    read = load_tfds(dataset="cifar100", data_path=str(tmp_path))
    assert rows(read.train) == rows(splits.train)
    assert read.class_names == splits.class_names


def test_the_official_sum_needs_no_trust(tmp_path: Path) -> None:
    path = tmp_path / "it.tar.gz"
    path.write_bytes(b"the archive")
    digest = hashlib.sha256(b"the archive").hexdigest()
    seen: list[tuple[str, int, int]] = []
    check_archive(
        path, "cifar10", sha256=digest, size=11, trust=False, progress=lambda *r: seen.append(r)
    )
    assert seen == [("checking the archive", 11, 11)]


@pytest.mark.parametrize(
    ("size", "message"),
    [(12, "must hold 12 bytes. Received: 11, in"), (11, "must have the sha256 0{64}. Received: ")],
)
def test_another_sum_or_size_is_refused(tmp_path: Path, size: int, message: str) -> None:
    path = tmp_path / "it.tar.gz"
    path.write_bytes(b"the archive")
    with pytest.raises(SourceError, match=message) as refused:
        check_archive(path, "cifar10", sha256="0" * 64, size=size, trust=False)
    assert "--trust-archive" in str(refused.value)
    assert "\n" not in str(refused.value)


def half(path: Path, members: Members) -> None:
    write_archive(path, members)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_archive(path: Path, members: Members) -> None:
    path.write_text("<html>moved</html>")


def short_batch(path: Path, members: Members) -> None:
    name = f"{PREFIX}data_batch_3.bin"
    write_archive(path, members | {name: members[name][:-1]})


def empty_batch(path: Path, members: Members) -> None:
    write_archive(path, members | {f"{PREFIX}test_batch.bin": b""})


def label_ten(path: Path, members: Members) -> None:
    name = f"{PREFIX}data_batch_2.bin"
    content = bytearray(members[name])
    content[3 * 3073] = 10
    write_archive(path, members | {name: bytes(content)})


def no_test_batch(path: Path, members: Members) -> None:
    write_archive(path, {n: c for n, c in members.items() if not n.endswith("test_batch.bin")})


def nine_names(path: Path, members: Members) -> None:
    write_archive(path, members | {f"{PREFIX}batches.meta.txt": b"a\nb\nc\nd\ne\nf\ng\nh\ni\n"})


def path_upwards(path: Path, members: Members) -> None:
    write_archive(path, members | {f"{PREFIX}../../evil.bin": b"x"})


def absolute_path(path: Path, members: Members) -> None:
    write_archive(path, members | {"/tmp/evil.bin": b"x"})


def link(path: Path, members: Members) -> None:
    info = tarfile.TarInfo(f"{PREFIX}test_batch.bin")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    write_archive(path, members | {info.name: info})


def other_set(path: Path, members: Members) -> None:
    write_archive(path, {n.replace("cifar-10", "cifar-100"): c for n, c in members.items()})


def bomb(path: Path, members: Members) -> None:
    """A member that claims 3 GB, of which nothing is there."""
    info = tarfile.TarInfo(f"{PREFIX}zeros")
    info.size = 3 << 30
    write_archive(path, {info.name: info})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (half, r"a whole \.tar\.gz file.*truncated"),
        (no_archive, r"a whole \.tar\.gz file"),
        (short_batch, r"data_batch_3\.bin.* whole records of 3073 bytes. Received: 30729 bytes"),
        (empty_batch, r"test_batch\.bin.* whole records of 3073 bytes. Received: 0 bytes"),
        (label_ten, r"data_batch_2\.bin.* labels from 0 to 9. Received: 10 in record 3"),
        (no_test_batch, r"must hold 'cifar-10-batches-bin/test_batch\.bin'.* without it"),
        (nine_names, r"batches\.meta\.txt.* names of 10 classes.* Received: 9"),
        (path_upwards, r"Received: .*evil\.bin' in .* a path that leaves it"),
        (absolute_path, r"Received: '/tmp/evil\.bin' in .* a path that leaves it"),
        (link, r"Received: .*test_batch\.bin' in .* a link or a device"),
        (other_set, r"must hold 'cifar-10-batches-bin/.*' without it"),
        (bomb, r"unpack to at most 2147483648 bytes"),
    ],
)
def test_an_archive_that_cannot_be_is_one_line_and_leaves_nothing(
    tmp_path: Path, members: Members, spoil: Callable[[Path, Members], None], message: str
) -> None:
    archive, data = tmp_path / "it.tar.gz", tmp_path / "data"
    spoil(archive, members)
    with pytest.raises(SourceError, match=message) as refused:
        prepare_archive("cifar10", str(archive), data_path=str(data), trust=True)
    assert "\n" not in str(refused.value)
    assert not data.exists()


def test_coarse_labels_are_checked_too(tmp_path: Path) -> None:
    splits = some_splits(tuple(f"class {k:02}" for k in range(100)), train=100, test=100)
    members = cifar100_members(splits)
    spoilt = bytearray(records(splits.test, coarse=True))
    spoilt[0] = 20
    archive = write_archive(
        tmp_path / "it.tar.gz", members | {"cifar-100-binary/test.bin": bytes(spoilt)}
    )
    with pytest.raises(SourceError, match=r"labels from 0 to 19\. Received: 20 in record 0"):
        prepare_archive("cifar100", str(archive), data_path=str(tmp_path / "data"), trust=True)


def test_an_absent_archive_and_another_set_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot be read: .*none\.tar\.gz': No such file"):
        prepare_archive("cifar10", str(tmp_path / "none.tar.gz"), data_path=str(tmp_path))
    with pytest.raises(SourceError, match="--archive is for --dataset cifar10 or cifar100"):
        prepare_archive("mnist", "x", data_path=str(tmp_path))
    (tmp_path / "folder").mkdir()
    with pytest.raises(SourceError, match="--archive must be a file"):
        prepare_archive("cifar10", str(tmp_path / "folder"), data_path=str(tmp_path))


def test_an_interrupted_preparation_leaves_nothing(
    tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow_datasets as tfds

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    archive = write_archive(tmp_path / "it.tar.gz", cifar10_members(splits))
    data = tmp_path / "data"
    writer = tfds.core.writer.Writer
    monkeypatch.setattr(writer, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_archive("cifar10", str(archive), data_path=str(data), trust=True)
    monkeypatch.undo()
    assert not [path for path in data.rglob("*") if path.is_file()]
    prepare_archive("cifar10", str(archive), data_path=str(data), trust=True)
    assert len(load_tfds(dataset="cifar10", data_path=str(data)).train) == 50


def test_the_checksums_are_those_that_tfds_has_registered() -> None:
    import tensorflow_datasets as tfds

    for dataset in cifar_archive.DATASETS:
        ((url, info),) = tfds.builder_cls(dataset).url_infos.items()
        assert url.endswith("-binary.tar.gz")
        assert len(info.checksum) == 64
        assert info.size > 150_000_000
