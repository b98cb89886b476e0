"""A run whose images stay on disk ends in the same bits as one that has them in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcifar.config import RunConfig
from fastcifar.errors import SourceError
from fastcifar.rundir import RunDir
from fastcifar.training.interrupts import Interrupted
from fastcifar.training.progress import Display
from fastcifar.training.trainer import train
from tests.training.small_run import STEPS_PER_EPOCH, small
from tests.training.test_trainer import StopAt

pytestmark = pytest.mark.usefixtures("two_stages")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCIFAR_CACHE", str(tmp_path / "cache"))


def on_disk(**changes: Any) -> RunConfig:
    return small(data={"memory_budget": "1KB"}, **changes)


def test_weights_and_results_are_those_from_memory(tmp_path: Path) -> None:
    memory = train(small(), str(tmp_path / "memory"))
    disk = train(on_disk(), str(tmp_path / "disk"))
    assert list((tmp_path / "cache/prepared").glob("*/prepared.json"))
    for key in ("weights_sha256", "test_accuracy", "test_loss", "validation_accuracy"):
        assert disk[key] == memory[key], key
    samples = [RunDir(tmp_path / name).read_samples() for name in ("memory", "disk")]
    np.testing.assert_array_equal(samples[0]["images"], samples[1]["images"])


def spoil(cache: Path) -> None:
    (shard, *_) = (cache / "prepared").glob("*/*train*.array_record*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)


class SpoilingAtTheStart(Display):
    """Damages the images once they have been opened and found whole."""

    def epoch(self, name: str, steps: int, done: int) -> None:
        spoil(self.cache)

    def __init__(self, cache: Path):
        super().__init__(quiet=True)
        self.cache = cache


@pytest.mark.slow
def test_what_has_gone_bad_before_is_prepared_again(tmp_path: Path) -> None:
    first = train(on_disk(phase={"epochs": 1}), str(tmp_path / "first"))
    spoil(tmp_path / "cache")
    again = train(on_disk(phase={"epochs": 1}), str(tmp_path / "again"))
    assert again["weights_sha256"] == first["weights_sha256"]


def test_a_record_that_goes_bad_is_one_line(tmp_path: Path) -> None:
    display = SpoilingAtTheStart(tmp_path / "cache")
    with pytest.raises(SourceError, match=r"prepared images in .* cannot be read") as refused:
        train(on_disk(phase={"epochs": 1}), str(tmp_path / "bad"), display=display)
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith("remove the folder to prepare them again")


@pytest.mark.slow
def test_stopped_and_resumed_equals_never_stopped(tmp_path: Path) -> None:
    whole = train(on_disk(), str(tmp_path / "whole"))
    folder = str(tmp_path / "resumed")
    one_by_one = on_disk(runtime={"steps_per_call": "1"})
    with pytest.raises(Interrupted):
        train(one_by_one, folder, display=StopAt(STEPS_PER_EPOCH + 3))
    resumed = train(on_disk(), folder, resume=True)
    assert resumed["weights_sha256"] == whole["weights_sha256"]
