"""The published file: found, downloaded, damaged, out of reach."""

from __future__ import annotations

import hashlib
from pathlib import Path

import keras
import pytest
from keras.src.applications import resnet as keras_resnet

from fastcifar.errors import ConfigError
from fastcifar.models import imagenet
from fastcifar.models.weight_files import WeightsError

CONTENT = b"weights"
NAME = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keras' folder, and a published file that is seven bytes long."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setitem(imagenet._MD5, 50, hashlib.md5(CONTENT).hexdigest())
    return tmp_path / "keras"


def hosts(monkeypatch: pytest.MonkeyPatch, *, answer: bool) -> None:
    def unreachable(urls):
        return [] if answer else ["storage.googleapis.com"]

    monkeypatch.setattr(imagenet, "unreachable_hosts", unreachable)


def test_sums_and_addresses_are_those_of_keras() -> None:
    for depth, md5 in imagenet._MD5.items():
        assert keras_resnet.WEIGHTS_HASHES[f"resnet{depth}"][1] == md5
    assert keras_resnet.BASE_WEIGHTS_PATH == imagenet._URL


def test_a_file_in_the_cache_needs_no_network(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "unreachable_hosts", None)
    (home / "models").mkdir(parents=True)
    (home / "models" / NAME).write_bytes(CONTENT)
    assert imagenet.find_file(50) == home / "models" / NAME


@pytest.mark.parametrize("there", [b"", b"other", None])
def test_without_a_network_one_line_says_which_file_to_put_where(
    home: Path, monkeypatch: pytest.MonkeyPatch, there: bytes | None
) -> None:
    hosts(monkeypatch, answer=False)
    path = home / "models" / NAME
    if there is not None:
        path.parent.mkdir(parents=True)
        path.write_bytes(there)
    with pytest.raises(WeightsError) as refused:
        imagenet.find_file(50)
    message = str(refused.value)
    assert "\n" not in message
    state = "is not there" if there is None else f"has the MD5 {hashlib.md5(there).hexdigest()}"
    for part in (str(path), state, f"put {NAME} (MD5 ", "--weights PATH", imagenet._URL):
        assert part in message
    assert there is None or path.read_bytes() == there  # what is there is the user's


def test_it_is_downloaded_into_the_cache_and_checked(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts(monkeypatch, answer=True)
    asked = []

    def get_file(name, url, *, cache_dir, cache_subdir, file_hash, hash_algorithm):
        asked.append((name, url, file_hash, hash_algorithm))
        print("Downloading")
        path = Path(cache_dir) / cache_subdir / name
        path.parent.mkdir()
        path.write_bytes(CONTENT)
        return str(path)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert imagenet.find_file(50).read_bytes() == CONTENT
    assert asked == [(NAME, imagenet._URL + NAME, imagenet._MD5[50], "md5")]
    assert capsys.readouterr().out == ""  # stdout belongs to results


def test_a_download_that_fails_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts(monkeypatch, answer=True)

    def get_file(*arguments, **more):
        raise ValueError("Incomplete or\ncorrupted file detected")

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    with pytest.raises(WeightsError, match="Incomplete or corrupted file detected; put resnet50"):
        imagenet.find_file(50)


def test_other_depths_have_no_weights() -> None:
    with pytest.raises(ConfigError, match=r"need depth 50, 101, 152\. Received: depth 26"):
        imagenet.find_file(26)
