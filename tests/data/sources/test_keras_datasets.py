"""Keras' sets, from its own cache."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcifar.data.records import RecordSplit
from fastcifar.data.sources import load
from fastcifar.data.sources.ingest import ReadOptions
from fastcifar.data.sources.keras_datasets import load_keras
from fastcifar.errors import SourceError

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise socket.gaierror("there is no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))


def stand_in(
    monkeypatch: pytest.MonkeyPatch, home: Path, name: str, file: str, shape: tuple[int, ...]
) -> list[np.ndarray]:
    """Let `keras.datasets` hold a few images, as if they lay in its cache."""
    import keras

    images = [RNG.integers(0, 256, (count, *shape), dtype=np.uint8) for count in (30, 10)]
    labels = [np.arange(len(part), dtype=np.uint8)[:, None] % 10 for part in images]
    parts = tuple(zip(images, labels, strict=True))
    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", lambda: parts)
    (home / "datasets").mkdir()
    (home / "datasets" / file).touch()
    return images


def test_cifar10(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = "cifar-10-batches-py-target_archive"
    train, test = stand_in(monkeypatch, tmp_path, "cifar10", file, (32, 32, 3))
    splits = load("keras")
    np.testing.assert_array_equal(splits.train.images, train)
    np.testing.assert_array_equal(splits.test.images, test)
    assert splits.train.labels.tolist() == [*range(10)] * 3
    assert splits.class_names[:3] == ("airplane", "automobile", "bird")
    assert splits.notes == ()
    large = load("keras", memory_budget=1000, storage_size=16)
    assert isinstance(large.train, RecordSplit)
    assert large.train.image_shape == (16, 16, 3)


def test_mnist_is_grey_and_becomes_rgb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    train, _ = stand_in(monkeypatch, tmp_path, "mnist", "mnist.npz", (28, 28))
    splits = load("keras", dataset="mnist")
    np.testing.assert_array_equal(splits.train.images, np.repeat(train[..., None], 3, axis=-1))


def test_cifar100_has_a_hundred_names() -> None:
    from fastcifar.data.sources.keras_datasets import _SETS

    names = _SETS["cifar100"].class_names
    assert len(set(names)) == 100
    assert list(names) == sorted(names)


def test_without_a_network_one_line_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as refused:
        load("keras")
    message = str(refused.value)
    for part in (str(tmp_path), "www.cs.toronto.edu", "cannot be reached", "--source synthetic"):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "cifar1o"}, "'cifar1o'. Did you mean 'cifar10'"),
        ({"dataset": "fashion_mnist"}, "must be one of cifar10, cifar100, mnist"),
        ({"data_path": "/data"}, "takes no --data-path"),
    ],
)
def test_what_keras_does_not_have_is_one_line(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        load("keras", **arguments)


def test_progress_and_the_seed_of_keras_sets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(monkeypatch, tmp_path, "mnist", "mnist.npz", (28, 28))
    seen: list[tuple[str, int, int]] = []
    load_keras("mnist", ReadOptions(progress=lambda *report: seen.append(report)))
    assert seen == [("reading train", 30, 30), ("reading test", 10, 10)]


def test_an_archive_of_another_sum_is_never_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Keras itself, with a forged archive in its cache: it must not be used."""
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/cifar-10-batches-py-target_archive").write_bytes(b"forged")
    with pytest.raises(SourceError, match=r"Keras cannot load cifar10: .*--source synthetic") as no:
        load("keras")
    assert "\n" not in str(no.value)
