"""The command `prepare`, from its flags to the runs that use what it made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastcifar.cli import main
from fastcifar.data.sources import load
from fastcifar.data.sources.ingest import ReadOptions
from fastcifar.data.sources.preparation import prepare
from fastcifar.data.split import Split, Splits
from fastcifar.errors import SourceError
from tests.data.sources.archives import cifar10_members, write_archive


def test_a_folder_is_prepared_and_then_used(
    real_images_dir: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["prepare", "image_folder", "--data-path", str(real_images_dir)]
    assert main([*arguments, "--storage-size", "16"]) == 0
    first = capsys.readouterr()
    assert first.out.startswith("classes     10: airplane, automobile, ")
    assert "\ntraining    400 images\ntest        200 images\n" in first.out
    assert f"\nprepared in '{cache}/prepared/" in first.out
    assert first.err == ""
    assert main([*arguments, "--storage-size=16"]) == 0
    assert "\nprepared already in " in capsys.readouterr().out
    splits = load("image_folder", data_path=str(real_images_dir), storage_size=16)
    assert type(splits.train).__name__ == "RecordSplit"
    assert splits.train.image_shape == (16, 16, 3)


def test_what_became_of_images_is_said(tmp_path: Path, cache: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4)).save(tmp_path / "set" / name)
    (tmp_path / "set/b/2.png").write_bytes(b"")
    options = ReadOptions(skip_unreadable=True)
    for _ in range(2):
        said = "\n".join(prepare("image_folder", data_path=str(tmp_path), options=options))
        assert "the class folders are those in 'set'" in said
        assert "3 of 3 images (4×6) were cropped" in said
        assert "1 unreadable image skipped: 'set/b/2.png' (an empty file)" in said


def test_an_archive_is_prepared_and_then_used(tmp_path: Path, cache: Path) -> None:
    rng = np.random.default_rng(0)
    names = tuple("abcdefghij")

    def split(count: int) -> Split:
        images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        return Split(images, np.arange(count) % 10, names)

    splits = Splits(split(50), split(20))
    archive = write_archive(tmp_path / "it.tar.gz", cifar10_members(splits))
    data = tmp_path / "data"
    notes = prepare("tfds", data_path=str(data), archive=str(archive), trust_archive=True)
    first, second = notes
    assert first.startswith(f"prepared from {str(archive)!r} in ")
    assert second.startswith("prepared in ")
    again = prepare("tfds", data_path=str(data))
    assert again[0].startswith("prepared already in ")
    read = load("tfds", data_path=str(data)).in_memory()
    assert {image.tobytes() for image in read.train.in_memory().images} == {
        image.tobytes() for image in splits.train.in_memory().images
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "prepare needs a source: tfds, image_folder, kaggle, keras"),
        (["image_foldr"], "Received: 'image_foldr'. Did you mean 'image_folder'?"),
        (["tfds", "keras"], "prepare takes one source. Received: 'tfds' and 'keras'"),
        (["image_folder"], "source image_folder needs its folder: add --data-path DIR"),
        (["image_folder", "--data-path", "/none"], "'/none', which does not exist"),
        (["image_folder", "--data-path", "x", "--archive", "x"], "--archive is for prepare tfds"),
        (["tfds", "--trust-archive"], "--trust-archive needs the archive: add --archive FILE"),
        (["tfds", "--archive", "/none.tar.gz"], "--archive cannot be read: '/none.tar.gz'"),
        (["image_folder", "--data-path", "x", "--workers", "0"], "--workers must be at least 1"),
        (["keras", "--dataset", "cifar"], "--dataset must be one of cifar10, cifar100, mnist"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_another_source_has_nothing_to_prepare() -> None:
    with pytest.raises(SourceError, match="prepare takes tfds, image_folder, kaggle or keras"):
        prepare("synthetic")
