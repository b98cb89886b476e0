"""Which folders are classes and which files count; links and names of all kinds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fastcifar.data.sources.image_folder import load_image_folder
from fastcifar.data.sources.ingest import ReadOptions
from fastcifar.data.sources.listing import list_folders
from fastcifar.errors import SourceError


def write(path: Path, shade: int = 0, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (shade, shade, shade)).save(path, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            write(tmp_path / "set" / split / name / "0.png")
    return tmp_path / "set"


def paths(folder: Path, split: str = "train") -> list[str]:
    return [stamp.path for stamp in list_folders(folder).splits[split].files]


def test_classes_may_be_nested(tmp_path: Path) -> None:
    for name in ("animals/cat", "animals/dog", "plants/trees/oak", "cat"):
        write(tmp_path / name / "0.png")
    write(tmp_path / "cat/tabby/1.png")  # a folder of images may hold classes too
    listing = list_folders(tmp_path)
    names = ["animals/cat", "animals/dog", "cat", "cat/tabby", "plants/trees/oak"]
    assert list(listing.class_names) == names
    assert listing.splits["train"].labels.tolist() == [0, 1, 2, 3, 4]
    assert paths(tmp_path)[3] == "cat/tabby/1.png"


def test_stamps_tell_size_and_time(folder: Path) -> None:
    (first, *_) = list_folders(folder).splits["train"].files
    status = (folder / "train/cat/0.png").stat()
    times = (status.st_mtime_ns, status.st_ctime_ns)
    assert first == ("train/cat/0.png", status.st_size, *times)


@pytest.mark.parametrize("name", ["a.BMP", "a.gif", "a.webp", "a.tif", "a.TIFF", "a.jpeg"])
def test_every_format_is_listed_and_read(tmp_path: Path, name: str) -> None:
    write(tmp_path / "cat" / name, 100)
    for number in range(10):
        write(tmp_path / "cat" / f"{number}.png", 100)
        write(tmp_path / "dog" / f"{number}.png", 200)
    splits = load_image_folder(str(tmp_path))
    images = splits.train.in_memory().images[splits.train.labels == 0]
    assert len(splits.train) + len(splits.test) == 21
    assert abs(images.astype(int) - 100).max() <= 1


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (40, 250, 90)]
    for name in ("cat/a.gif", "dog/a.webp", "dog/a.tiff"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        extra = {"lossless": True} if name.endswith("webp") else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **extra)
    shutil.copytree(tmp_path / "cat", tmp_path / "cow")
    shutil.copy(tmp_path / "cow/a.gif", tmp_path / "cow/b.gif")
    shutil.copy(tmp_path / "cow/a.gif", tmp_path / "cat/b.gif")
    splits = load_image_folder(str(tmp_path), ReadOptions(seed=1)).in_memory()
    for split in (splits.train, splits.test):
        assert (split.in_memory().images == (40, 0, 0)).all()


def test_images_outside_of_classes_are_noted(folder: Path) -> None:
    write(folder / "train/stray.png")
    write(folder / "stray.png")
    assert list_folders(folder).notes == ("1 file ignored, in no class folder: 'train/stray.png'",)


def test_a_link_inside_the_folder_works(folder: Path) -> None:
    (folder / "train/cat/again.png").symlink_to("../dog/0.png")
    (folder / "train/tom").symlink_to("cat", target_is_directory=True)
    (folder / "test/tom").symlink_to("cat", target_is_directory=True)
    assert paths(folder)[1] == "train/cat/again.png"
    assert list_folders(folder).class_names == ("cat", "dog", "tom")
    (folder.parent / "other").symlink_to(folder, target_is_directory=True)
    assert paths(folder.parent / "other") == paths(folder)  # the folder itself may be one


def file_out(folder: Path) -> None:
    write(folder.parent / "secret.png")
    (folder / "train/cat/0.png").unlink()
    (folder / "train/cat/0.png").symlink_to(folder.parent / "secret.png")


def class_out(folder: Path) -> None:
    shutil.move(folder / "train/dog", folder.parent / "dog")
    (folder / "train/dog").symlink_to(folder.parent / "dog")


def split_out(folder: Path) -> None:
    shutil.move(folder / "test", folder.parent / "test")
    (folder / "test").symlink_to(folder.parent / "test")


@pytest.mark.parametrize(
    ("spoil", "name"),
    [(file_out, "train/cat/0.png"), (class_out, "train/dog"), (split_out, "test")],
)
def test_a_link_that_leads_out_is_refused(
    folder: Path, spoil: Callable[[Path], None], name: str
) -> None:
    spoil(folder)
    with pytest.raises(SourceError, match=f"must not lead out of it. Received: '{name}'"):
        list_folders(folder)


def test_links_in_a_circle_are_refused(folder: Path) -> None:
    (folder / "train/cat/up").symlink_to("..", target_is_directory=True)
    with pytest.raises(SourceError, match=r"must not lead in a circle\. Received: .*train/cat/up'"):
        list_folders(folder)


def test_what_is_no_file_is_not_opened(folder: Path) -> None:
    """Opening a pipe would wait for ever."""
    os.mkfifo(folder / "train/cat/pipe.png")
    with pytest.raises(SourceError, match=r"'train/cat/pipe\.png' \(not a file\)"):
        load_image_folder(str(folder))


def test_a_name_that_is_no_text_works_for_a_file_not_for_a_class(folder: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    write(folder / "train/cat" / odd)
    assert len(load_image_folder(str(folder)).train) == 3
    (folder / "train/cat").rename(folder / "train" / os.fsdecode(b"caf\xe9"))
    (folder / "test/cat").rename(folder / "test" / os.fsdecode(b"caf\xe9"))
    with pytest.raises(SourceError, match="must have UTF-8 names"):
        list_folders(folder)
