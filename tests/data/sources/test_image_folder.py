"""Folders of images, as people have them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastcifar.data.sources import load
from fastcifar.data.sources.image_folder import load_image_folder
from fastcifar.data.sources.ingest import ReadOptions
from fastcifar.errors import SourceError

# The position of a class's image in its shade, so that order and labels can be read off the pixels.
SHADE = 10


def write(path: Path, shade: int, size: tuple[int, int] = (4, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(path)


def fill(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 3) -> None:
    for name in classes:
        for position in range(count):
            write(folder / name / f"{position}.png", shade=position * SHADE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill(tmp_path / "set/train")
    fill(tmp_path / "set/test", count=2)
    return tmp_path / "set"


def shades(images: np.ndarray) -> list[int]:
    assert (images == images[:, :1, :1, :1]).all()
    return images[:, 0, 0, 0].tolist()


def test_examples_come_in_order_of_paths(folder: Path) -> None:
    splits = load_image_folder(str(folder))
    assert splits.class_names == ("cat", "dog")
    assert splits.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert shades(splits.train.images) == [0, 10, 20, 0, 10, 20]
    assert shades(splits.test.images) == [0, 10, 0, 10]
    assert splits.train.images.shape == (6, 4, 4, 3)
    assert splits.train.images.flags.c_contiguous
    assert splits.validation is None
    assert splits.notes == ()


def test_real_images_are_pillows_pixels_and_the_same_each_time(real_images_dir: Path) -> None:
    first, second = (load_image_folder(str(real_images_dir)) for _ in range(2))
    assert len(first.class_names) == 10
    for name in ("train", "test"):
        split, again = getattr(first, name), getattr(second, name)
        files = sorted((real_images_dir / name).glob("*/*.jpg"))
        expected = np.stack([np.asarray(Image.open(file)) for file in files])
        np.testing.assert_array_equal(split.images, expected)
        assert [first.class_names[label] for label in split.labels] == [
            f.parent.name for f in files
        ]
        assert split.images.tobytes() == again.images.tobytes()
    assert first.notes == ()


def test_labels_are_those_of_tfds_image_folder(real_images_dir: Path) -> None:
    import tensorflow_datasets as tfds

    builder = tfds.ImageFolder(str(real_images_dir))
    splits = load_image_folder(str(real_images_dir))
    assert tuple(builder.info.features["label"].names) == splits.class_names
    for name in ("train", "test"):
        split = getattr(splits, name)
        examples = tfds.as_numpy(builder.as_dataset(split=name, shuffle_files=False))
        files = {e["image/filename"].decode(): int(e["label"]) for e in examples}
        assert [files[path] for path in sorted(files)] == split.labels.tolist()


def test_processes_change_nothing(real_images_dir: Path) -> None:
    alone, shared = (
        load_image_folder(str(real_images_dir / "test"), ReadOptions(workers=workers))
        for workers in (1, 2)
    )
    assert alone.train.images.tobytes() == shared.train.images.tobytes()
    assert alone.train.labels.tobytes() == shared.train.labels.tobytes()


def test_without_test_folder_a_tenth_of_each_class_is_held_out(tmp_path: Path) -> None:
    fill(tmp_path / "lone", count=20)
    fill(tmp_path / "split/train", count=20)
    lone, split = (
        load_image_folder(str(tmp_path / n), ReadOptions(seed=1)) for n in ("lone", "split")
    )
    assert np.bincount(lone.test.labels).tolist() == [2, 2]
    assert np.bincount(lone.train.labels).tolist() == [18, 18]
    both = shades(lone.train.images[:18]) + shades(lone.test.images[:2])
    assert sorted(both) == [SHADE * position for position in range(20)]
    assert "10% of train" in lone.notes[-1]
    assert lone.train.images.tobytes() == split.train.images.tobytes()
    other = load_image_folder(str(tmp_path / "lone"), ReadOptions(seed=2))
    assert lone.test.images.tobytes() == other.test.images.tobytes()


@pytest.mark.parametrize("name", ["val", "Validation", "valid"])
def test_a_validation_folder_is_used(folder: Path, name: str) -> None:
    fill(folder / name, count=1)
    splits = load_image_folder(str(folder))
    assert splits.validation is not None
    assert len(splits.validation) == 2
    shutil.rmtree(folder / "test")
    splits = load_image_folder(str(folder))
    assert splits.validation is None
    assert len(splits.test) == 2
    assert splits.notes == ("there is no test split: the validation split serves as test",)


def test_any_name_works(tmp_path: Path) -> None:
    names = ("a cat", "line\nbreak", "Ünïcödé 猫", "wild*[card]", "quote'd")
    for shade, name in enumerate(names):
        for file in ("ä b.PNG", "new\nline.png", "[0-9]*.png"):
            write(tmp_path / name / file, shade)
    splits = load_image_folder(str(tmp_path))
    assert splits.class_names == tuple(sorted(names))
    assert len(splits.train) + len(splits.test) == 15
    for part in (splits.train, splits.test):
        drawn = [names[shade] for shade in shades(part.images)]
        assert drawn == [splits.class_names[label] for label in part.labels]


def test_what_is_hidden_or_no_image_does_not_count(folder: Path) -> None:
    fill(folder / "train/.checkpoints", classes=("cat",))
    fill(folder / "extra")
    write(folder / "train/cat/.hidden.png", 99)
    (folder / "train/cat/notes.txt").write_text("about cats")
    (folder / "train/readme.txt").write_text("about animals")
    splits = load_image_folder(str(folder))
    assert shades(splits.train.images) == [0, 10, 20, 0, 10, 20]
    assert splits.notes == (
        "folders ignored beside 'train': 'extra'",
        "1 file ignored, not .jpg, .jpeg, .png, .bmp, .gif, .webp, .tif, .tiff: "
        "'train/cat/notes.txt'",
    )


def test_a_stray_size_does_not_change_the_storage_size(folder: Path) -> None:
    write(folder / "train/cat/0.png", 0, size=(1, 1))
    write(folder / "train/dog/2.png", 20, size=(9, 5))
    splits = load_image_folder(str(folder))
    assert splits.train.image_shape == (4, 4, 3)
    assert shades(splits.train.images) == [0, 10, 20, 0, 10, 20]
    (note,) = splits.notes
    assert "2 of 10 images (1×1 to 5×9)" in note
    assert "4×4" in note
    assert "--storage-size" in note


def test_the_default_size_is_bounded_and_the_chosen_one_is_kept(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for position in range(2):
            write(tmp_path / name / f"{position}.png", 7, size=(300, 260))
    assert load_image_folder(str(tmp_path)).train.image_shape == (224, 224, 3)
    chosen = load_image_folder(str(tmp_path), ReadOptions(storage_size=17))
    assert chosen.train.image_shape == (17, 17, 3)
    assert "4 of 4 images (260×300)" in chosen.notes[0]


@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
def test_images_that_viewers_turn_are_counted_not_turned(folder: Path, form: str) -> None:
    image = Image.new("RGB", (4, 4), "black")
    image.paste("white", (0, 0, 4, 2))
    exif = Image.Exif()
    for name, orientation in (("plain", 1), ("turned", 6), ("mirrored", 2)):
        exif[0x0112] = orientation
        image.save(folder / f"train/cat/{name}.{form}", exif=exif)
    splits = load_image_folder(str(folder))
    assert splits.notes[0].startswith("2 of 13 images are shown turned or mirrored by viewers")
    added = splits.train.images[3:6].astype(int)
    assert np.abs(added - np.asarray(image)).max() < 30  # JPEG and WebP round


def test_progress_counts_every_file(folder: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    load_image_folder(str(folder), ReadOptions(progress=lambda *report: seen.append(report)))
    assert seen == [("decoding train", 6, 6), ("decoding test", 4, 4)]


def spoil_many(folder: Path) -> None:
    for position in range(12):
        (folder / f"train/cat/bad{position:02}.jpg").write_bytes(b"")


def test_unreadable_files_are_listed_and_refused_or_skipped(folder: Path) -> None:
    (folder / "train/cat/empty.jpg").write_bytes(b"")
    (folder / "train/dog/page.jpeg").write_text("<html>")
    whole = (folder / "test/dog/1.png").read_bytes()
    (folder / "test/dog/1.png").write_bytes(whole[: len(whole) - 30])
    (folder / "train/dog/link.png").symlink_to(folder / "nowhere.png")
    (folder / "train/dog/folder.png").mkdir()
    faults = (
        "5 unreadable images",
        "'train/cat/empty.jpg' (an empty file)",
        "'train/dog/page.jpeg' (not an image)",
        "'train/dog/link.png' (a broken link)",
        "'train/dog/folder.png' (not a file)",
        "'test/dog/1.png' (truncated or damaged)",
    )
    with pytest.raises(SourceError) as refused:
        load_image_folder(str(folder))
    splits = load_image_folder(str(folder), ReadOptions(skip_unreadable=True))
    for fault in faults:
        assert fault in str(refused.value)
        assert fault in splits.notes[-1]
    assert "--skip-unreadable" in str(refused.value)
    assert shades(splits.train.images) == [0, 10, 20, 0, 10, 20]
    assert splits.test.labels.tolist() == [0, 0, 1]


def test_ten_unreadable_files_are_named_and_the_rest_counted(folder: Path) -> None:
    spoil_many(folder)
    with pytest.raises(SourceError) as refused:
        load_image_folder(str(folder))
    message = str(refused.value)
    assert message.startswith("12 unreadable images: ")
    assert "bad09.jpg" in message
    assert "bad10.jpg" not in message
    assert " and 2 more" in message


@pytest.mark.parametrize("opens", [True, False])
def test_an_unreadable_class_cannot_be_skipped(folder: Path, opens: bool) -> None:
    for file in (folder / "train/cat").iterdir():
        file.unlink()
        file.write_bytes(b"") if opens else file.mkdir()
    with pytest.raises(SourceError, match=r"at least one readable image.* none of class 'cat'"):
        load_image_folder(str(folder), ReadOptions(skip_unreadable=True))


def absent(folder: Path) -> None:
    shutil.rmtree(folder)


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")


def no_classes(folder: Path) -> None:
    shutil.rmtree(folder / "train")
    write(folder / "train/0.png", 0)


def no_train(folder: Path) -> None:
    shutil.rmtree(folder / "train")


def one_class(folder: Path) -> None:
    shutil.rmtree(folder / "train/dog")


def empty_class(folder: Path) -> None:
    shutil.rmtree(folder / "train/dog")
    (folder / "train/dog").mkdir()


def only_other_files(folder: Path) -> None:
    empty_class(folder)
    (folder / "train/dog/a.svg").write_text("<svg/>")


def empty_test_class(folder: Path) -> None:
    shutil.rmtree(folder / "test/cat")
    (folder / "test/cat").mkdir()


def missing_test_class(folder: Path) -> None:
    shutil.rmtree(folder / "test/cat")


def extra_test_class(folder: Path) -> None:
    fill(folder / "test", classes=("cow",))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (absent, "--data-path must name a folder .*set', which does not exist"),
        (a_file, "--data-path must name a folder .*set', which is a file"),
        (no_classes, "a folder for each class.* no folder in .*train'"),
        (no_train, "must have a train folder"),
        (one_class, "at least two classes.* Received: 'cat' alone"),
        (empty_class, r"every class folder .*\.jpg.* none in 'dog' of train"),
        (only_other_files, r"every class folder .*\.jpg.* none in 'dog' of train"),
        (empty_test_class, "every class folder .* none in 'cat' of test"),
        (missing_test_class, "same class folders. Received: 'cat' in train but not in test"),
        (extra_test_class, "same class folders. Received: 'cow' in test but not in train"),
    ],
)
def test_a_layout_that_cannot_be_meant_is_one_line(
    folder: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(folder)
    with pytest.raises(SourceError, match=message) as refused:
        load_image_folder(str(folder))
    assert "\n" not in str(refused.value)


def test_a_storage_size_below_one_is_refused(folder: Path) -> None:
    for size in (0, -5):
        with pytest.raises(SourceError, match=f"--storage-size .* Received: {size}"):
            load_image_folder(str(folder), ReadOptions(storage_size=size))


def test_the_folder_must_be_named() -> None:
    with pytest.raises(SourceError, match="image_folder needs --data-path"):
        load("image_folder")
