"""The one door to all sources."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastcifar.data import sources
from fastcifar.errors import SourceError


def test_an_unknown_source_gets_the_nearest() -> None:
    with pytest.raises(SourceError, match=r"'image_foldr'\. Did you mean 'image_folder'\?"):
        sources.load("image_foldr")


def test_synthetic_takes_its_own_options() -> None:
    splits = sources.load(
        "synthetic", synthetic_count=30, synthetic_classes=3, synthetic_size=16, seed=5
    )
    assert splits.train.images.shape == (30, 16, 16, 3)
    assert len(splits.class_names) == 3
    again = sources.load("synthetic", synthetic_count=30, synthetic_classes=3, storage_size=16)
    assert again.train.image_shape == (16, 16, 3)
    assert again.train.images.tobytes() != splits.train.images.tobytes()  # another seed


def test_synthetic_needs_no_tensorflow() -> None:
    code = (
        "import sys; from fastcifar.data import sources; "
        "sources.load('synthetic', synthetic_count=10); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
