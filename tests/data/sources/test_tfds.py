"""TFDS sets: prepared ones are read without the network, and without both there is one line."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcifar.data.sources import load
from fastcifar.data.sources.ingest import ReadOptions
from fastcifar.data.sources.tfds import load_tfds
from fastcifar.errors import SourceError


@pytest.fixture(autouse=True)
def network_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No test here has a network: every look-up and connection fails; the list says which came."""
    calls: list[str] = []

    def refuse(*arguments: Any, **_: Any) -> None:
        calls.append(repr(arguments))
        raise socket.gaierror("there is no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return calls


def prepare(
    data_dir: Path,
    name: str = "tiny",
    *,
    version: str = "1.0.0",
    splits: tuple[str, ...] = ("train", "test"),
    shapes: tuple[tuple[int, int, int], ...] = ((6, 6, 3),),
    classes: int = 3,
    supervised: bool = True,
) -> dict[str, np.ndarray]:
    """Prepare a small set with TFDS; return the images of each split, 15 a class in train."""
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(0)
    images = {
        split: [
            rng.integers(0, 256, shapes[k % len(shapes)], dtype=np.uint8)
            for k in range(classes * (15 if split == "train" else 4))
        ]
        for split in splits
    }
    shape = shapes[0] if len(shapes) == 1 else (None, None, shapes[0][2])

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)

        def _info(self) -> tfds.core.DatasetInfo:
            features = tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=shape, encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[f"kind {k}" for k in range(classes)]),
                }
            )
            keys = ("image", "label") if supervised else None
            return tfds.core.DatasetInfo(
                builder=self,
                features=features,
                supervised_keys=keys,
                disable_shuffling=True,  # so that the order is the one written
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
            for k, image in enumerate(images[split]):
                yield k, {"id": "x" * k, "image": image, "label": k % classes}

    Tiny.name = name
    tfds.disable_progress_bar()
    Tiny(data_dir=str(data_dir)).download_and_prepare()
    return images


def test_a_prepared_set_is_read_as_it_is(tmp_path: Path, network_calls: list[str]) -> None:
    images = prepare(tmp_path)
    seen: list[tuple[str, int, int]] = []
    options = ReadOptions(progress=lambda *report: seen.append(report))
    splits = load_tfds(dataset="tiny", data_path=str(tmp_path), options=options)
    np.testing.assert_array_equal(splits.train.images, images["train"])
    np.testing.assert_array_equal(splits.test.images, images["test"])
    assert splits.train.labels.tolist() == [0, 1, 2] * 15
    assert splits.class_names == ("kind 0", "kind 1", "kind 2")
    assert splits.notes == ()
    assert seen == [("decoding train", 45, 45), ("decoding test", 12, 12)]
    assert network_calls == []


def test_cifar10_prepared_elsewhere_needs_no_network(
    tmp_path: Path, network_calls: list[str]
) -> None:
    images = prepare(tmp_path, "cifar10", version="3.0.2", shapes=((32, 32, 3),), classes=10)
    splits = load("tfds", data_path=str(tmp_path))
    np.testing.assert_array_equal(splits.train.images, images["train"])
    assert network_calls == []


def test_the_folder_of_a_version_may_be_named_itself(tmp_path: Path) -> None:
    images = prepare(tmp_path)
    folder = str(tmp_path / "tiny/1.0.0")
    splits = load_tfds(dataset="tiny", data_path=folder)
    np.testing.assert_array_equal(splits.train.images, images["train"])
    with pytest.raises(SourceError, match="folder of tiny, which is not --dataset cifar10"):
        load_tfds(dataset="cifar10", data_path=folder)


def test_grey_images_become_rgb(tmp_path: Path) -> None:
    images = prepare(tmp_path, shapes=((6, 6, 1),))
    splits = load_tfds(dataset="tiny", data_path=str(tmp_path))
    np.testing.assert_array_equal(splits.train.images, np.repeat(images["train"], 3, axis=-1))


def test_sizes_that_vary_are_resized_once(tmp_path: Path) -> None:
    prepare(tmp_path, shapes=((6, 6, 3), (8, 6, 3), (12, 20, 3)))
    splits = load_tfds(dataset="tiny", data_path=str(tmp_path))
    assert splits.train.image_shape == splits.test.image_shape == (6, 6, 3)
    assert "38 of 57 images (6×6 to 12×20)" in splits.notes[0]


def test_validation_serves_as_test_where_there_is_none(tmp_path: Path) -> None:
    images = prepare(tmp_path, splits=("train", "validation"))
    splits = load_tfds(dataset="tiny", data_path=str(tmp_path))
    np.testing.assert_array_equal(splits.test.images, images["validation"])
    assert splits.validation is None
    assert splits.notes == ("there is no test split: the validation split serves as test",)


def test_all_three_splits_are_used(tmp_path: Path) -> None:
    images = prepare(tmp_path, splits=("train", "validation", "test"))
    splits = load_tfds(dataset="tiny", data_path=str(tmp_path))
    assert splits.validation is not None
    np.testing.assert_array_equal(splits.validation.images, images["validation"])
    np.testing.assert_array_equal(splits.test.images, images["test"])


def test_train_alone_gives_a_tenth_to_test(tmp_path: Path) -> None:
    prepare(tmp_path, splits=("train",))
    splits = load_tfds(dataset="tiny", data_path=str(tmp_path), options=ReadOptions(seed=4))
    assert (len(splits.train), len(splits.test)) == (40, 5)
    assert "10% of train, and of each class, are held out" in splits.notes[0]


def test_without_a_network_one_line_says_what_to_do(
    tmp_path: Path, network_calls: list[str]
) -> None:
    with pytest.raises(SourceError) as refused:
        load_tfds(dataset="cifar10", data_path=str(tmp_path))
    message = str(refused.value)
    for part in (
        "cifar10 is not prepared",
        "www.cs.toronto.edu",
        "cannot be reached",
        "--source image_folder --data-path DIR",
        "--source synthetic",
        "prepared cifar10 folder (--data-path DIR)",
    ):
        assert part in message
    assert "\n" not in message
    assert 1 <= len(network_calls) <= 3  # TFDS itself would try for minutes
    assert not any(tmp_path.iterdir())


def test_another_version_is_named(tmp_path: Path) -> None:
    images = prepare(tmp_path, "cifar10", version="3.0.1", shapes=((32, 32, 3),), classes=10)
    with pytest.raises(SourceError, match=r"there is version 3\.0\.1 \(--dataset cifar10:VERSION"):
        load_tfds(dataset="cifar10", data_path=str(tmp_path))
    splits = load_tfds(dataset="cifar10:3.0.1", data_path=str(tmp_path))
    np.testing.assert_array_equal(splits.train.images, images["train"])


def test_files_in_the_download_folder_are_given_to_tfds(tmp_path: Path) -> None:
    """With its archive at hand a set needs no network, so no host is asked (here: TFDS fails)."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import resource

    ((url, info),) = tfds.builder_cls("cifar10").url_infos.items()
    archive = tmp_path / "downloads" / resource.get_dl_fname(url, info.checksum)
    archive.parent.mkdir()
    archive.write_bytes(b"not an archive")
    archive.with_name(f"{archive.name}.INFO").write_text(
        f'{{"dataset_names": ["cifar10"], "original_fname": "a.tar.gz", "urls": ["{url}"]}}'
    )
    with pytest.raises(SourceError, match=r"TFDS cannot prepare cifar10.*--source synthetic"):
        load_tfds(dataset="cifar10", data_path=str(tmp_path))


def test_an_unfinished_folder_is_not_taken_for_a_prepared_one(tmp_path: Path) -> None:
    (tmp_path / "cifar10/3.0.2").mkdir(parents=True)
    with pytest.raises(SourceError, match=r"not a prepared TFDS folder \(no dataset_info.json\)"):
        load_tfds(dataset="cifar10", data_path=str(tmp_path))


def test_damaged_records_are_one_line(tmp_path: Path) -> None:
    prepare(tmp_path)
    (record,) = (tmp_path / "tiny/1.0.0").glob("*train*record*")
    record.write_bytes(record.read_bytes()[:-100])
    with pytest.raises(SourceError, match="train split of tiny cannot be read") as refused:
        load_tfds(dataset="tiny", data_path=str(tmp_path))
    assert "\n" not in str(refused.value)


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"'cifar1o'\. Did you mean 'cifar10'\?"):
        load_tfds(dataset="cifar1o", data_path=str(tmp_path))


@pytest.mark.parametrize("name", ["not a name!", "", "cifar10/no_such_config"])
def test_a_name_of_wrong_form_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError) as refused:
        load_tfds(dataset=name, data_path=str(tmp_path))
    assert "\n" not in str(refused.value)


def test_a_set_that_is_no_image_classification_is_refused(tmp_path: Path) -> None:
    prepare(tmp_path, supervised=False)
    with pytest.raises(SourceError, match=r"must be an image classification.* tiny with keys None"):
        load_tfds(dataset="tiny", data_path=str(tmp_path))


def test_a_set_without_train_is_refused(tmp_path: Path) -> None:
    prepare(tmp_path, splits=("test",))
    with pytest.raises(SourceError, match=r"tiny must have a train split\. Received: test"):
        load_tfds(dataset="tiny", data_path=str(tmp_path))
