"""A CSV of files and labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fastcifar.data.sources.image_folder import load_image_folder
from fastcifar.errors import SourceError

GOOD = """file,label,split
b.png,dog,train
"sub/with, comma.png",cat,train
a.png,dog,train
c.png,cat,test
d.png,dog,test
"""
SHADES = {"a.png": 0, "b.png": 1, "c.png": 2, "d.png": 3, "sub/with, comma.png": 4, "ä b.png": 5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, shade in SHADES.items():
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (shade,) * 3).save(path)
    (tmp_path / "secret.png").write_bytes((tmp_path / "set/a.png").read_bytes())
    return tmp_path / "set"


def load(folder: Path, text: str):
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return load_image_folder(str(folder / "labels.csv"))


def test_rows_give_files_labels_and_splits(folder: Path) -> None:
    splits = load(folder, GOOD)
    assert splits.class_names == ("cat", "dog")
    assert splits.train.images[:, 0, 0, 0].tolist() == [1, 4, 0]
    assert splits.train.labels.tolist() == [1, 0, 1]
    assert splits.test.images[:, 0, 0, 0].tolist() == [2, 3]
    assert splits.test.labels.tolist() == [0, 1]


def test_columns_come_in_any_order_and_split_may_be_left_out(folder: Path) -> None:
    rows = "".join(f"{label},{name}\n" for label, name in zip("xyxy", "abcd", strict=True))
    text = "\ufefflabel,file\r\n\r\n" + rows.replace("\n", ".png\r\n") + "x,ä b.png\r\n"
    splits = load(folder, text)
    assert len(splits.train) + len(splits.test) == 5
    assert splits.class_names == ("x", "y")
    assert "there is no test split" in splits.notes[0]


def test_a_class_list_decides_the_order_of_labels(folder: Path) -> None:
    (folder / "classes.txt").write_text("dog\ncat\n")
    assert load(folder, GOOD).train.labels.tolist() == [0, 1, 0]


def test_a_changed_label_is_a_changed_set(folder: Path) -> None:
    """Labels are not in the images' paths here, so the CSV counts among the files."""
    from fastcifar.data.sources.image_folder import encoded_set
    from fastcifar.data.sources.ingest import ReadOptions

    load(folder, GOOD)
    options = ReadOptions()
    before = encoded_set(folder / "labels.csv", options).key
    load(folder, GOOD.replace("a.png,dog", "a.png,cat"))
    assert encoded_set(folder / "labels.csv", options).key != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have a column file and a column label.* Received: an empty file"),
        ("file,class\na.png,cat\n", "columns of labels.csv must be .* Received: 'class'"),
        ("file,lable\na.png,cat\n", "Received: 'lable'. Did you mean 'label'"),
        ("file,split\na.png,train\n", "must have a column file and a column label.* file, split"),
        ("file,label,file\na.png,cat,a.png\n", "once each"),
        (GOOD + "x.png,cat,train\n", r"line 7: a file must be there. Received: 'x\.png'"),
        (
            GOOD + "x.png,cat,train\ny.png,cat,train\n",
            r"line 7: .* 'x\.png', which is not, and 1 more are missing",
        ),
        (GOOD + "a.png,dog,train\n", r"line 7: every file must be named once.* line 4 names too"),
        (GOOD + "sub/../a.png,dog,test\n", r"line 7: every file must be named once.*line 4"),
        (GOOD + "../secret.png,dog,test\n", r"line 7: a file must lie in the folder"),
        (GOOD + "/etc/x.png,dog,test\n", r"line 7: a file must lie in the folder"),
        (GOOD + "ä b.png,cow,test\n", "line 7: a label must be one of the classes of the training"),
        (GOOD + "ä b.png,dgo,test\n", "Received: 'dgo'. Did you mean 'dog'"),
        (GOOD + "ä b.png,dog,tset\n", "line 7: the split must be one of.* Did you mean 'test'"),
        (GOOD + "ä b.png,dog\n", "line 7: a row must have 3 values.* Received: 2"),
        (GOOD + "ä b.png,,test\n", "line 7: a row must have a file and a label"),
        (GOOD + "ä b.png,nan,test\n", "line 7: a label must be a class.*'nan' for 'ä b.png'"),
        (GOOD + "ä b.png,NaN,test\n", "line 7: a label must be a class.*'NaN' for 'ä b.png'"),
        (GOOD + "ä b.png,None,train\n", "line 7: a label must be a class.*'None' for"),
        (GOOD + "ä b.png,\u00a0,test\n", "line 7: a row must have a file and a label.*'ä b.png'"),
        (GOOD + "labels.csv,dog,test\n", r"line 7: a file must end in \.jpg"),
        (GOOD.replace("train", "test"), "must have training rows"),
        (GOOD.replace("dog", "cat"), "at least two classes. Received: cat"),
        (GOOD.replace("c.png,cat", "c.png,dog"), "none of class 'cat' in test"),
        ('file,label\n"a.png,cat\n', "must be CSV"),
    ],
)
def test_a_csv_that_cannot_be_meant_is_one_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as refused:
        load(folder, text)
    assert "\n" not in str(refused.value)


BLANKS = (" ", "\t", "\u00a0", "\ufeff", "\u3000")


@pytest.mark.parametrize("blank", BLANKS)
def test_blanks_around_a_value_do_not_count(folder: Path, blank: str) -> None:
    lines = [blank + line.replace(",", f"{blank},{blank}") + blank for line in GOOD.splitlines()]
    lines[2] = '"sub/with, comma.png",cat' + blank + ",train"
    splits, plain = load(folder, "\n".join(lines)), load(folder, GOOD)
    assert splits.class_names == plain.class_names == ("cat", "dog")
    assert splits.train.labels.tolist() == plain.train.labels.tolist()
    assert splits.test.labels.tolist() == plain.test.labels.tolist()


def test_splits_may_be_called_as_their_folders_are(folder: Path) -> None:
    splits = load(folder, GOOD.replace(",train", ",Training").replace(",test", ",TEST"))
    assert (len(splits.train), len(splits.test)) == (3, 2)


def test_a_missing_value_may_be_a_class_where_it_is_listed(folder: Path) -> None:
    (folder / "classes.txt").write_text("NA\ndog\n")
    assert load(folder, GOOD.replace("cat", "NA")).class_names == ("NA", "dog")


def test_numbers_stand_in_the_order_of_text_unless_they_are_listed(folder: Path) -> None:
    text = GOOD.replace("cat", "10").replace("dog", "9")
    assert load(folder, text).class_names == ("10", "9")
    assert load(folder, text).notes == (
        "the classes are numbers but stand in the order of text, 10, 9: label 0 is class '10'",
    )
    (folder / "classes.txt").write_text("9\n10\n")
    assert load(folder, text).class_names == ("9", "10")
    assert load(folder, text).notes == ()


@pytest.mark.parametrize(
    ("first", "second"),
    [("1", "1.0"), ("1", "01"), ("Cat", "cat"), ("caf\u00e9", "cafe\u0301"), ("a  b", "a b")],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_one_class_written_in_two_ways_is_asked_about(
    folder: Path, first: str, second: str, split: str
) -> None:
    text = GOOD.replace("cat", first) + f"ä b.png,{second},{split}\n"
    with pytest.raises(SourceError, match=r"line 3\).*line 7\): if they are one class, write it"):
        load(folder, text)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("dog\n", r"line 3: a label must be one of the classes that classes\.txt lists"),
        ("dog\nDog\ncat\n", r"'dog' \(in classes\.txt\) and 'Dog'"),
        ("dog\ncat\ndog\n", r"classes\.txt must name every class once. Received: 'dog' twice"),
        ("dog\ncat\ncow\n", "none of class 'cow' in train"),
    ],
)
def test_a_class_list_that_does_not_fit_is_one_line(
    folder: Path, classes: str, message: str
) -> None:
    (folder / "classes.txt").write_text(classes)
    with pytest.raises(SourceError, match=message):
        load(folder, GOOD)


def test_a_link_that_leads_out_is_refused(folder: Path) -> None:
    (folder / "a.png").unlink()
    (folder / "a.png").symlink_to(folder.parent / "secret.png")
    with pytest.raises(SourceError, match="line 4: a file must lie in the folder"):
        load(folder, GOOD)


def test_a_csv_that_is_not_there_or_no_text_is_one_line(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"--data-path must be readable.*none\.csv"):
        load_image_folder(str(folder / "none.csv"))
    (folder / "labels.csv").write_bytes(b"file,label\n\xff\xfe,cat\n")
    with pytest.raises(SourceError, match="must be UTF-8 text"):
        load_image_folder(str(folder / "labels.csv"))
