"""Which folders are taken as splits: the names, wrappings and mishaps of real data sets."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from fastcifar.data.sources.listing import Listing, list_folders
from fastcifar.data.sources.split_folders import split_names
from fastcifar.errors import SourceError


def lay_out(root: Path, *paths: str) -> Path:
    """Make `paths` below `root`: a name with a suffix is an empty file, `a/{b,c}/1.png` are two."""
    for path in paths:
        before, brace, rest = path.partition("{")
        names, _, after = rest.partition("}")
        for name in names.split(",") if brace else [""]:
            each = root / (before + name + after)
            if each.suffix:
                each.parent.mkdir(parents=True, exist_ok=True)
                each.touch()
            else:
                each.mkdir(parents=True)
    return root


def taken(listing: Listing) -> dict[str, dict[str, list[str]]]:
    """Return the files of each class of each split."""
    return {
        split: {
            name: [
                stamp.path
                for stamp, label in zip(listed.files, listed.labels, strict=True)
                if label == index
            ]
            for index, name in enumerate(listing.class_names)
        }
        for split, listed in listing.splits.items()
    }


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (
            "train TRAIN Training training_set Training-Set trainset TrainSet train_data traindata "
            "train-images trainImages images_train seg_train trn train_set trainval train_val",
            "train",
        ),
        ("test Test TESTING test_set testing_set seg_test test-images testdata tst", "test"),
        (
            "val Valid validation VALIDATION_SET val_images validset eval evaluation Dev dev_set",
            "validation",
        ),
    ],
)
def test_the_names_of_a_split(names: str, split: str) -> None:
    each = [*names.split(), names.split()[0] + " set", f" {names.split()[0]} "]
    assert {name: split_names([name]).get(name) for name in each} == dict.fromkeys(each, split)


@pytest.mark.parametrize(
    "name",
    ["cat", "latest", "contest", "trainer", "strain", "value", "device", "detest", "2", "猫"],
)
def test_the_name_of_a_class(name: str) -> None:
    assert split_names([name]) == {}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("asl_alphabet_train asl_alphabet_test", {0: "train", 1: "test"}),
        ("train2017 val2017 annotations", {0: "train", 1: "validation"}),
        ("FlowersTrain FlowersValid", {0: "train", 1: "validation"}),
        ("steam_train bullet_train test_tube", {}),
        ("steam_train freight_train", {}),
    ],
)
def test_the_same_words_beside_two_of_them(names: str, expected: dict[int, str]) -> None:
    each = names.split()
    assert split_names(each) == {each[index]: split for index, split in expected.items()}


CAT_DOG = {"cat": 1, "dog": 1}


@pytest.mark.parametrize(
    ("paths", "splits"),
    [
        (["training_set/{cat,dog}/1.png", "test_set/{cat,dog}/1.png"], ["train", "test"]),
        (["Training/{cat,dog}/1.png", "Testing/{cat,dog}/1.png"], ["train", "test"]),
        (["TRAIN/{cat,dog}/1.png", "TEST/{cat,dog}/1.png"], ["train", "test"]),
        (["dataset/Train/{cat,dog}/1.png", "dataset/Test/{cat,dog}/1.png"], ["train", "test"]),
        (["a/b/train/{cat,dog}/1.png", "a/b/eval/{cat,dog}/1.png"], ["train", "validation"]),
        (["train/{cat,dog}/1.png", "dev/{cat,dog}/1.png"], ["train", "validation"]),
        (
            [
                "seg_train/seg_train/{cat,dog}/1.png",
                "seg_test/seg_test/{cat,dog}/1.png",
                "seg_pred/seg_pred/1.png",
            ],
            ["train", "test"],
        ),
        (["train/images/{cat,dog}/1.png", "test/{cat,dog}/1.png"], ["train", "test"]),
        (["images/{cat,dog}/1.png"], ["train"]),
        (["labelled/{cat,dog}/1.png", "unlabelled/1.png"], ["train"]),
        (["train/train/{cat,dog}/1.png", "train/test/{cat,dog}/1.png"], ["train", "test"]),
        (["a/b/c/{cat,dog}/1.png"], ["train"]),
        (["Images/{cat,dog}/1.png", "Annotation/{cat,dog}/1.xml"], ["train"]),
        (["set/{cat,dog}/1.png", "__MACOSX/set/{cat,dog}/1.png"], ["train"]),
        (["set/{cat,dog}/1.png", ".ipynb_checkpoints/1.png", "Thumbs.db"], ["train"]),
        (["train/{cat,dog}/images/1.png", "val/images/1.png", "test/images/1.png"], ["train"]),
        (["train/{cat,dog}/1.png", "test1/test1/1.png"], ["train"]),
        (["train/{cat,dog}/1.png", "test/test/1.png"], ["train"]),
        (["train/{cat,dog}/1.png", "test/1.png"], ["train"]),
        (["train/{cat,dog}/1.png", "test"], ["train"]),
    ],
)
def test_splits_are_found_where_people_put_them(
    tmp_path: Path, paths: list[str], splits: list[str]
) -> None:
    found = taken(list_folders(lay_out(tmp_path, *paths)))
    assert {
        split: {name: len(files) for name, files in classes.items()}
        for split, classes in found.items()
    } == dict.fromkeys(splits, CAT_DOG)


@pytest.mark.parametrize(
    ("paths", "notes"),
    [
        (
            ["training_set/{cat,dog}/1.png", "test_set/{cat,dog}/1.png"],
            ["splits: train from 'training_set', test from 'test_set'"],
        ),
        (["a/b/{cat,dog}/1.png"], ["the class folders are those in 'a/b'"]),
        (
            ["Images/{cat,dog}/1.png", "Annotation/1.xml"],
            [
                "folders ignored, without labelled images: 'Annotation'",
                "class folders are those in 'Images'",
            ],
        ),
        (
            ["train/{cat,dog}/1.png", "pred/1.png", "sub/{cat,dog}/2.png"],
            ["folders ignored beside 'train': 'pred', 'sub'"],
        ),
        (
            ["train/{cat,dog}/1.png", "test/1.png", "test/2.png", "val"],
            [
                "folder ignored: 'test', 2 images in no class folder, so without labels",
                "folder ignored: 'val', no images in it",
            ],
        ),
        (["a/{cat,dog}/1.png", "1.png"], ["1 file ignored, in no class folder: '1.png'"]),
    ],
)
def test_what_is_looked_through_or_left_out_is_said(
    tmp_path: Path, paths: list[str], notes: list[str]
) -> None:
    said = "\n".join(list_folders(lay_out(tmp_path, *paths)).notes)
    for note in notes:
        assert note in said


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["Train/{cat,dog}/1.png", "train/{cat,dog}/2.png"], "'Train', 'train' .* mean the same"),
        (
            ["train/{cat,dog}/1.png", "val/{cat,dog}/1.png", "valid/{cat,dog}/1.png"],
            "one folder must be the validation split. Received: 'val', 'valid'",
        ),
        (["train/{cat,dog}/1.png", "Test/1.png", "test/{cat,dog}/1.png"], "'Test', 'test'"),
        (["a/{cat,dog}/1.png", "b/{cat,dog}/1.png"], "'cat', 'dog' both in 'a' and in 'b'"),
        (["a/x/{cat,dog}/1.png", "b/y/{cat,dog}/1.png"], "both in 'a/x' and in 'b/y'"),
        (["a/{cat,dog}/1.png", "b/{Cat,Cow,Dog}/1.png"], "'cat', 'dog' both in 'a' and in 'b'"),
        (["a/{cat,dog}/1.png", "b/{cat}/1.png"], "'cat' both in 'a' and in 'b'"),
        (
            ["train/train/{cat,dog}/1.png", "train/val/{cat,dog}/1.png", "test/{cat,dog}/1.png"],
            "both in 'train' and in 'val'",
        ),
        (["{bus,car,train}/1.png"], "'train' beside 'bus', 'car'.* put all class folders into"),
        (["{cat,dog}/1.png", "test/1.png"], "'test' beside 'cat', 'dog'"),
        (["{cat,dog}/1.png", "test/{cat,dog}/1.png"], "'test' beside 'cat', 'dog'"),
        (["{train,test}/1.png"], "a folder for each class.* no folder in .*train'"),
        (["Train/{Cat,dog}/1.png", "Test/{cat,dog}/1.png"], r"'Cat' \(in 'Train'\) and 'cat'"),
        (["{Cat,cat}/1.png"], "'Cat' .*and 'cat' "),
        (["{cat,cat }/1.png"], "'cat' .*and 'cat ' "),
        (["{cat,cat\u00a0}/1.png"], r"'cat' .*and 'cat\\xa0' "),
        (["{1,01,2}/1.png"], "'01' .*and '1' "),
        (["{caf\u00e9,cafe\u0301}/1.png"], r"'cafe\\u0301' .*and 'café'"),
        (["a/{cat,dog}/1.png", "a/{cat,dog}/b/1.png"], "both in 'cat' and in 'dog'"),
    ],
)
def test_what_can_be_meant_in_two_ways_is_refused(
    tmp_path: Path, paths: list[str], message: str
) -> None:
    with pytest.raises(SourceError, match=message) as refused:
        list_folders(lay_out(tmp_path, *paths))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["train/{bus,car,train,test}/1.png"], ("bus", "car", "test", "train")),
        (["fruit/{apple,other}/1.png", "birds/{owl,other}/1.png"], None),
        (["{1.1,1.10}/1.png"], ("1.1", "1.10")),
        (["train/{a,b}/1.png", "val/{a,b}/1.png", "test/{a,b}/1.png"], ("a", "b")),
    ],
)
def test_what_is_meant_in_one_way_is_not(
    tmp_path: Path, paths: list[str], names: tuple[str, ...] | None
) -> None:
    listing = list_folders(lay_out(tmp_path, *paths))
    expected = names or ("birds/other", "birds/owl", "fruit/apple", "fruit/other")
    assert listing.class_names == expected
    assert listing.notes == ()


def test_numbers_stand_in_the_order_of_text_and_this_is_said(tmp_path: Path) -> None:
    """As in TFDS, Keras and torchvision."""
    paths = [f"{number}/1.png" for number in range(12)]
    listing = list_folders(lay_out(tmp_path, *paths))
    assert listing.class_names[:4] == ("0", "1", "10", "11")
    assert listing.notes == (
        "the classes are numbers but stand in the order of text, 0, 1, 10, 11, 2, …: label 2 is "
        "class '10'",
    )
    assert list_folders(lay_out(tmp_path / "few", "{0,1,2}/1.png")).notes == ()


def test_one_letter_composed_and_not_is_what_the_test_above_says() -> None:
    assert unicodedata.normalize("NFC", "cafe\u0301") == "caf\u00e9"


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["test/{cat,dog}/1.png"], {"test": CAT_DOG}),
        (["set/test/{cat,dog}/1.png", "set/val/cat/1.png"], None),
        (["train/{cat,dog}/1.png", "test/cat/1.png"], None),
        (["test/{cat,dog}/1.png", "pred/2.png"], {"test": CAT_DOG}),
        (["cat/1.png"], {"train": {"cat": 1}}),
        (["cat/1.png", "dog"], {"train": {"cat": 1}}),
    ],
)
def test_any_labelled_images_will_do_to_evaluate(
    tmp_path: Path, paths: list[str], expected: dict[str, dict[str, int]] | None
) -> None:
    listing = list_folders(lay_out(tmp_path, *paths), to_train=False)
    files = [stamp.path for split in listing.splits.values() for stamp in split.files]
    assert len(files) == sum(1 for _ in tmp_path.rglob("1.png"))
    if expected is not None:
        counted = {s: {n: len(f) for n, f in c.items()} for s, c in taken(listing).items()}
        assert counted == expected
