"""Checksums: damage at equal size and time is noticed; what is known to be whole is not read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from fastcifar.data import checksums
from fastcifar.data.checksums import Damaged, check_all, image_digests, seal, seal_all


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"some content")
    return path


def rewrite(path: Path, content: bytes) -> None:
    """Write into a file and put its time of modification back."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_seal_is_size_and_sha256(file: Path) -> None:
    found = seal(file)
    assert found[:2] == (12, hashlib.sha256(b"some content").hexdigest())
    assert check_all(file.parent, {"file": found})["file"][:2] == found[:2]


@pytest.mark.parametrize("settled", [0, 10**12])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"some c0ntent", "file must hold what was written. Received: other bytes"),
        (b"some", "file must hold 12 bytes. Received: 4"),
    ],
)
def test_damage_is_noticed_at_once_and_after_long(
    file: Path, content: bytes, message: str, settled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "_SETTLED_NS", settled)
    seals = seal_all([file])
    rewrite(file, content)
    with pytest.raises(Damaged, match=message):
        check_all(file.parent, seals)


def test_a_file_known_to_be_whole_is_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not seal(file).stamp  # changed just now: another change may meet the same tick
    monkeypatch.setattr(checksums, "_SETTLED_NS", -(10**12))
    seals = seal_all([file])
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert check_all(file.parent, seals) == seals


@pytest.mark.parametrize("side", [4, 80])
def test_each_image_has_the_hash_of_its_bytes(side: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (11, side, side, 3), np.uint8)
    images[3] = images[7]
    expected = [
        int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8], "little") for image in images
    ]
    assert image_digests(images).tolist() == expected
    assert image_digests(images[::-1]).tolist() == expected[::-1]
    assert image_digests(images[:0]).tolist() == []
