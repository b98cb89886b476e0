"""What fits the memory budget is in memory, the rest on disk, and both hold the same examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastcifar.config import DataConfig
from fastcifar.data.records import RecordSplit
from fastcifar.data.split import Split, Splits
from fastcifar.errors import ConfigError
from fastcifar.training.assembly import load_splits

IMAGE = 16 * 16 * 3  # bytes


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCIFAR_CACHE", str(tmp_path))


def load(**options) -> Splits:
    config = DataConfig(source="synthetic", synthetic_count=100, synthetic_size=16, **options)
    return load_splits(config, seed=1)


def numbered(folder: Path, images: int, *parts: str) -> Path:
    """Images of two classes that are told apart by their pixels."""
    for number in range(images):
        for part in parts:
            path = folder / part / "ab"[number % 2] / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            shade = (number, "ab".index(path.parent.name), len(part))
            Image.new("RGB", (2, 2), shade).save(path)
    return folder


@pytest.mark.parametrize(
    ("parts", "options"),
    [(("",), {}), (("train", "test"), {"limit_test": 6}), (("train", "test", "val"), {})],
)
def test_what_is_not_trained_on_is_the_same_for_every_seed(
    tmp_path: Path, parts: tuple[str, ...], options: dict[str, int]
) -> None:
    """Or a run that starts from another seed's weights is tested on images that these have seen."""
    folder = numbered(tmp_path / "images", 40, *parts)
    config = DataConfig(source="image_folder", data_path=str(folder), **options)
    first, other = (load_splits(config, seed=seed) for seed in (0, 1))
    for name in ("test", "validation"):
        one, two = getattr(first, name), getattr(other, name)
        assert one.images.tobytes() == two.images.tobytes()
        assert one.labels.tobytes() == two.labels.tobytes()


@pytest.mark.parametrize("limits", [{}, {"limit_train": 60, "limit_test": 15}])
def test_both_ways_give_the_same_examples(limits: dict[str, int]) -> None:
    memory, disk = load(**limits), load(memory_budget=f"{40 * IMAGE}", **limits)
    for one, other in zip(memory.all(), disk.all(), strict=True):
        assert isinstance(one, Split)
        assert isinstance(other, RecordSplit)
        np.testing.assert_array_equal(other.in_memory().images, one.images)
        np.testing.assert_array_equal(other.labels, one.labels)
    assert len(memory.all()) == 3


def test_a_part_that_fits_is_read_into_memory() -> None:
    """The limits leave 70 images of the 120 that did not fit."""
    splits = load(memory_budget=f"{80 * IMAGE}", limit_train=50)
    assert [type(split) for split in splits.all()] == [Split] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache": "device"}, "cache device needs the images in memory, .* leave --cache out"),
        ({"order": "shuffle_buffer"}, "order shuffle_buffer needs the images in memory"),
    ],
)
def test_what_needs_memory_is_refused_without(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(memory_budget="1KB", **options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2GB", 2 * 10**9), ("1.5 gib", 3 * 2**29), ("800MB", 8 * 10**8), ("77", 77), ("auto", None)],
)
def test_sizes_are_read(text: str, expected: int | None) -> None:
    from fastcifar.config import parse_bytes

    assert parse_bytes("memory_budget", text) == expected


@pytest.mark.parametrize("text", ["", "GB", "0", "-1GB", "2 XB", "1e9", "half"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="memory-budget must be auto, or a size such as"):
        DataConfig(memory_budget=text)
