"""train.7z: unpacked whole, into one folder, or refused with nothing left behind."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastcifar.data import sources
from fastcifar.data.sources import kaggle_archive
from fastcifar.data.sources.kaggle_archive import unpack
from fastcifar.errors import SourceError
from tests.data.sources.competition import COUNT, images, labels, write_7z

Files = list[dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


@pytest.fixture
def needs_py7zr() -> None:
    pytest.importorskip("py7zr")


def refused(folder: Path, match: str) -> None:
    """Unpacking fails in one line, and leaves the archive alone."""
    before = sorted(path.name for path in folder.parent.rglob("*"))
    with pytest.raises(SourceError, match=match) as error:
        unpack(folder / "train.7z", folder / "train", ".png")
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in folder.parent.rglob("*")) == before


@pytest.mark.usefixtures("needs_py7zr")
def test_it_is_unpacked_once(folder: Path) -> None:
    write_7z(folder / "train.7z", images())
    (folder / "trainLabels.csv").write_text(labels())
    reports = []
    splits = sources.load(
        "kaggle", data_path=str(folder), progress=lambda *report: reports.append(report)
    )
    assert len(splits.train) + len(splits.test) == COUNT
    assert splits.notes[0] == f"train.7z was unpacked into {str(folder / 'train')!r}"
    assert ("unpacking train.7z", COUNT, COUNT) in reports
    for name, content in images().items():
        assert (folder / name).read_bytes() == content
    assert sorted(path.name for path in folder.iterdir()) == [
        "train",
        "train.7z",
        "trainLabels.csv",
    ]
    (folder / "train.7z").unlink()
    again = sources.load("kaggle", data_path=str(folder))
    assert again.train.images.tobytes() == splits.train.images.tobytes()


def rename(name: str) -> Callable[[Files], None]:
    def edit(files: Files) -> None:
        files[1]["filename"] = name

    return edit


def make_link(files: Files) -> None:
    files[1]["attributes"] = 0x8000 | (stat.S_IFLNK | 0o777) << 16


def make_socket(files: Files) -> None:
    files[1]["attributes"] = 0x8000 | (stat.S_IFSOCK | 0o777) << 16


@pytest.mark.usefixtures("needs_py7zr")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (rename("../evil.png"), r"Received: '\.\./evil\.png' .* outside of train"),
        (rename("train/../../evil.png"), "outside of train"),
        (rename("/tmp/evil.png"), "outside of train"),
        (rename("train/sub/evil.png"), "outside of train"),
        (rename("train/..\\evil.png"), "outside of train"),
        (rename("evil.png"), "outside of train"),
        (rename("train/evil.sh"), r"'train/evil\.sh' .* which is no \.png"),
        (rename("train/.png"), r"which is no \.png"),
        (rename("train/1.png"), "which is there twice"),
        (make_link, r"'train/2\.png' .* which is no file"),
        (make_socket, "which is no file"),
    ],
)
def test_other_contents_are_refused_before_anything_is_unpacked(
    folder: Path, edit: Callable[[Files], None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import py7zr

    write_7z(folder / "train.7z", images(3), edit)
    monkeypatch.setattr(py7zr.SevenZipFile, "extractall", None)
    refused(folder, message)


@pytest.mark.usefixtures("needs_py7zr")
def test_a_bomb_is_refused_before_anything_is_unpacked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import py7zr

    write_7z(folder / "train.7z", {f"train/{k}.png": bytes(1 << 20) for k in range(3)})
    assert (folder / "train.7z").stat().st_size < 10_000
    monkeypatch.setattr(py7zr.SevenZipFile, "extractall", None)
    monkeypatch.setattr(kaggle_archive, "_MOST_BYTES", (3 << 20) - 1)
    refused(folder, r"at most 3145727 bytes .* Received: 3145728 bytes in 3 files")
    monkeypatch.setattr(kaggle_archive, "_MOST_BYTES", 3 << 20)
    monkeypatch.setattr(kaggle_archive, "_MOST_FILES", 2)
    refused(folder, r"in 2 files\. Received: 3145728 bytes in 3 files")


@pytest.mark.usefixtures("needs_py7zr")
def test_every_cut_and_damage_is_refused(folder: Path) -> None:
    whole = write_7z(folder / "train.7z", images(20)).read_bytes()
    for end in range(0, len(whole) - 1, len(whole) // 40):
        (folder / "train.7z").write_bytes(whole[:end])
        refused(folder, "must be a whole 7z archive")
    for where in range(40, len(whole) - 40, len(whole) // 40):
        damaged = bytearray(whole)
        damaged[where] ^= 0xFF
        (folder / "train.7z").write_bytes(damaged)
        refused(folder, "must be a whole 7z archive|must hold train")


@pytest.mark.usefixtures("needs_py7zr")
def test_what_is_no_archive_or_holds_nothing_is_refused(folder: Path) -> None:
    (folder / "train.7z").write_text("<html>")
    refused(folder, "must be a whole 7z archive")
    write_7z(folder / "train.7z", {})
    refused(folder, r"must hold train/\*\.png\. .* without any|must be a whole 7z archive")


@pytest.mark.usefixtures("needs_py7zr")
def test_a_full_disk_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import py7zr

    def extractall(self, path):
        (path / "train").mkdir()
        raise OSError(28, "No space left on device")

    write_7z(folder / "train.7z", images(2))
    monkeypatch.setattr(py7zr.SevenZipFile, "extractall", extractall)
    refused(folder, "train' cannot be written: No space left on device")


@pytest.mark.usefixtures("needs_py7zr")
def test_another_process_may_be_faster(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_7z(folder / "train.7z", images(2))
    (folder / "train").mkdir()
    (folder / "train/1.png").write_text("theirs")
    unpack(folder / "train.7z", folder / "train", ".png")
    assert (folder / "train/1.png").read_text() == "theirs"
    assert sorted(path.name for path in folder.iterdir()) == ["train", "train.7z"]


def test_without_py7zr_the_line_says_how_to_install_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "py7zr", None)
    (folder / "train.7z").write_text("x")
    refused(folder, r"needs the package py7zr: pip install 'fastcifar\[kaggle\]', or unpack it you")
