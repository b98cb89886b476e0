"""Downloading with the user's key: found, refused, and never repeated anywhere."""

from __future__ import annotations

import json
import sys
import traceback
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fastcifar.data import sources
from fastcifar.data.sources import kaggle_download
from fastcifar.data.sources.kaggle_download import check_key, download
from fastcifar.errors import SourceError
from tests.data.sources.competition import images, labels, write_7z, write_folder

SECRET = "5ecre7-key"
KEY = json.dumps({"username": "someone", "key": SECRET})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a key, and a network."""
    for name in ("API_TOKEN", "USERNAME", "KEY", "CONFIG_DIR"):
        monkeypatch.delenv(f"KAGGLE_{name}", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(kaggle_download, "unreachable_hosts", lambda urls: [])
    return tmp_path / "home"


def give_key(home: Path, content: str = KEY, mode: int = 0o600) -> Path:
    path = home / ".kaggle/kaggle.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


class HTTPError(OSError):
    """As `requests` raises it: the text holds what must not be seen."""

    def __init__(self, status: int):
        super().__init__(f"{status} for url: https://storage/train.7z?signature={SECRET}")
        self.response = types.SimpleNamespace(status_code=status)


class Kaggle:
    """The part of the kaggle package that is used."""

    def __init__(self, folder: Path):
        self.folder = folder  # what the competition holds
        self.asked: list[str] = []
        self.fails: Callable[[str], None] = lambda name: None

    def authenticate(self) -> None:
        print("Warning: your key", SECRET)
        self.fails("authenticate")

    def competition_download_file(self, competition, name, path, quiet):
        assert (competition, quiet) == ("cifar-10", True)
        print("downloading with", SECRET, file=sys.stderr)
        self.asked.append(name)
        (Path(path) / name).write_bytes(b"half")
        self.fails(name)
        (Path(path) / name).write_bytes((self.folder / name).read_bytes())


@pytest.fixture
def competition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kaggle:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "trainLabels.csv").write_text(labels())
    (folder / "train.7z").write_bytes(b"archive")
    api = Kaggle(folder)
    monkeypatch.setitem(sys.modules, "kaggle", types.SimpleNamespace(api=api))
    return api


def refused(target: Path, match: str) -> None:
    with pytest.raises(SourceError, match=match) as error:
        download(target, ["trainLabels.csv", "train.7z"])
    assert "\n" not in str(error.value)
    assert SECRET not in "".join(traceback.format_exception(error.value))
    assert not target.exists() or not list(target.glob(".*"))


def test_files_are_downloaded_once(home: Path, competition: Kaggle, tmp_path: Path, capsys) -> None:
    give_key(home)
    target = tmp_path / "cache"
    reports = []
    notes = download(target, ["trainLabels.csv", "train.7z"], lambda *each: reports.append(each))
    (note,) = notes
    assert note == f"trainLabels.csv, train.7z of cifar-10 downloaded into {str(target)!r}"
    assert (target / "train.7z").read_bytes() == b"archive"
    assert sorted(path.name for path in target.iterdir()) == ["train.7z", "trainLabels.csv"]
    assert reports[-1] == ("downloading train.7z", 2, 2)
    assert download(target, ["trainLabels.csv", "train.7z"]) == []
    assert competition.asked == ["trainLabels.csv", "train.7z"]
    # Nothing of the key was printed or stored.
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""
    stored = [path.read_bytes() for path in target.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in content for content in stored)


def test_the_source_downloads_and_unpacks(home: Path, competition: Kaggle, cache: Path) -> None:
    pytest.importorskip("py7zr")
    give_key(home)
    write_7z(competition.folder / "train.7z", images())
    splits = sources.load("kaggle")
    assert len(splits.train) == 20
    root = cache / "kaggle/cifar-10"
    assert (root / "train/30.png").is_file()
    assert splits.notes[0].startswith("trainLabels.csv, train.7z of cifar-10 downloaded into")
    (root / "train.7z").unlink()  # unpacked already: not needed any more
    again = sources.load("kaggle")
    assert again.train.images.tobytes() == splits.train.images.tobytes()
    assert len(competition.asked) == 2


def test_what_is_in_the_cache_needs_no_key(cache: Path) -> None:
    write_folder(cache / "kaggle/cifar-10")
    assert len(sources.load("kaggle").train) == 20


def test_a_zipped_file_is_unpacked(home: Path, competition: Kaggle, tmp_path: Path) -> None:
    give_key(home)

    def zipped(competition, name, path, quiet):
        with zipfile.ZipFile(Path(path) / f"{name}.zip", "w") as archive:
            archive.writestr(name, "id,label\n")

    competition.competition_download_file = zipped  # type: ignore[method-assign]
    download(tmp_path / "cache", ["trainLabels.csv"])
    assert (tmp_path / "cache/trainLabels.csv").read_text() == "id,label\n"
    for content in (b"no zip", b""):

        def broken(competition, name, path, quiet, content=content):
            (Path(path) / f"{name}.zip").write_bytes(content)

        competition.competition_download_file = broken  # type: ignore[method-assign]
        refused(tmp_path / "other", "must send trainLabels.csv or trainLabels.csv.zip")

    def nothing(competition, name, path, quiet):
        pass

    competition.competition_download_file = nothing  # type: ignore[method-assign]
    refused(tmp_path / "other", "must send trainLabels.csv .* FileNotFoundError")


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, r"\(HTTP 403\): accept the competition's rules at https://\S+/c/cifar-10/rules"),
        (401, r"\(HTTP 401\): your key is not valid"),
        (500, r"\(HTTP 500\): try again later"),
    ],
)
def test_a_refusal_of_the_site_is_one_line(
    home: Path, competition: Kaggle, tmp_path: Path, status: int, message: str
) -> None:
    give_key(home)

    def fails(name: str) -> None:
        if name == "train.7z":
            raise HTTPError(status)

    competition.fails = fails
    refused(tmp_path / "cache", message)
    # What came before stays, what failed leaves nothing.
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["trainLabels.csv"]


@pytest.mark.parametrize("error", [SystemExit(1), ValueError(f"bad key {SECRET}"), HTTPError(401)])
def test_a_key_that_is_not_accepted_is_one_line(
    home: Path, competition: Kaggle, tmp_path: Path, error: BaseException
) -> None:
    give_key(home)

    def fails(name: str) -> None:
        raise error

    competition.fails = fails
    refused(tmp_path / "cache", r"does not accept your key \(\w+[^)]*\)\. Get one at https://")


def test_a_full_disk_is_one_line(home: Path, competition: Kaggle, tmp_path: Path) -> None:
    give_key(home)

    def fails(name: str) -> None:
        if name != "authenticate":
            raise OSError(28, "No space left on device")

    competition.fails = fails
    refused(tmp_path / "cache", "cache' cannot be written: No space left on device. Free space")


def test_without_the_package_the_line_says_how_to_install_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    give_key(home)
    monkeypatch.setitem(sys.modules, "kaggle", None)
    refused(tmp_path / "cache", r"needs the package kaggle: pip install 'fastcifar\[kaggle\]'")


def test_without_a_network_the_line_says_what_to_bring(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    give_key(home)
    monkeypatch.setattr(kaggle_download, "unreachable_hosts", lambda urls: ["www.kaggle.com"])
    refused(tmp_path / "cache", r"host \(www\.kaggle\.com\) cannot be reached: bring the files")


def test_a_missing_key_is_one_line(home: Path, tmp_path: Path) -> None:
    refused(
        tmp_path / "cache", r"needs your key\. Received: no .*/\.kaggle/kaggle\.json'\. Get one"
    )


@pytest.mark.parametrize(
    "content",
    [
        "",
        f"{{'key': '{SECRET}'}}",
        f'["{SECRET}"]',
        json.dumps({"key": SECRET}),
        json.dumps({"username": "someone", "key": 5}),
        json.dumps({"username": "", "key": SECRET}),
    ],
)
def test_a_file_that_holds_no_key_is_one_line(home: Path, tmp_path: Path, content: str) -> None:
    give_key(home, content)
    refused(tmp_path / "cache", "must be a JSON object with username and key. Received: something")


def test_an_unreadable_key_is_one_line(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = give_key(home)

    def read_text(self, **arguments):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", read_text)  # root may read whatever the mode says
    refused(tmp_path / "cache", f"must be readable. Received: '{path}': Permission denied")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_can_read_is_a_warning(home: Path, mode: int) -> None:
    path = give_key(home, mode=mode)
    (warning,) = check_key()
    assert warning == f"warning: other users can read your Kaggle key: chmod 600 '{path}'"
    path.chmod(0o600)
    assert check_key() == []


def test_a_key_may_be_in_the_environment_or_elsewhere(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    with pytest.raises(SourceError, match="needs your key"):
        check_key()
    monkeypatch.setenv("KAGGLE_KEY", SECRET)
    assert check_key() == []
    monkeypatch.delenv("KAGGLE_KEY")
    monkeypatch.setenv("KAGGLE_API_TOKEN", SECRET)
    assert check_key() == []
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    other = tmp_path / "elsewhere"
    other.mkdir()
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(other))
    with pytest.raises(SourceError, match=r"no .*/elsewhere/kaggle\.json'"):
        check_key()
    (other / "kaggle.json").write_text(KEY)
    (other / "kaggle.json").chmod(0o600)
    assert check_key() == []
    monkeypatch.delenv("KAGGLE_CONFIG_DIR")
    config = home / ".config/kaggle"
    config.mkdir(parents=True)
    (other / "kaggle.json").rename(config / "kaggle.json")
    assert check_key() == []
    (config / "kaggle.json").unlink()
    (home / ".kaggle").mkdir()
    (home / ".kaggle/access_token").write_text(SECRET)
    (home / ".kaggle/access_token").chmod(0o644)
    (warning,) = check_key()
    assert "access_token" in warning
