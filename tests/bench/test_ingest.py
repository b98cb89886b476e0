"""Reading, decoding and caching a folder of images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastcifar.bench import ingest, measure
from fastcifar.config import DataConfig
from tests.bench.handles import Clock


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for kind in "ab":
        (tmp_path / "train" / kind).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (9, 9, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "train" / kind / f"{i}.png")
    (tmp_path / "train/a/notes.txt").write_text("no image")
    (tmp_path / "train/a/.hidden.png").write_bytes(b"")
    return tmp_path


def test_stages_of_a_folder(folder):
    data = DataConfig(source="image_folder", data_path=str(folder))
    laps = measure.interleave(ingest.contenders(data, 8), seconds=0.1)
    assert list(laps) == ["read", "decode", "cache"]
    assert all(lap.check == "ok" and lap.error is None for lap in laps.values())
    contender, *_ = ingest.contenders(data, 8)
    assert contender.run() == 6  # images, without the text and the hidden file


@pytest.mark.parametrize(("source", "why"), [("synthetic", "drawn"), ("tfds", "in one")])
def test_sources_without_files(source, why):
    laps = measure.interleave(ingest.contenders(DataConfig(source=source), 8), seconds=0.1)
    for lap in laps.values():
        assert lap.check.startswith("not applicable: ")
        assert why in lap.check


WORK_S = 0.005


def slow_read(monkeypatch, clock):
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: clock.work(WORK_S) or read(path))


def slow_decode(monkeypatch, clock):
    decode = ingest.decode
    monkeypatch.setattr(ingest, "decode", lambda *given: clock.work(WORK_S) or decode(*given))


def slow_cache(monkeypatch, clock):
    class Slow:
        def __setitem__(self, row, pixels):
            clock.work(WORK_S)

    monkeypatch.setattr(ingest, "empty_images", lambda shape: Slow())


@pytest.mark.parametrize(
    ("stage", "slow"), [("read", slow_read), ("decode", slow_decode), ("cache", slow_cache)]
)
def test_a_slow_stage_is_found_with_its_size(folder, monkeypatch, stage, slow):
    data = DataConfig(source="image_folder", data_path=str(folder))
    clock = Clock()
    slow(monkeypatch, clock)
    laps = measure.interleave(ingest.contenders(data, 8), seconds=1, rounds=5, clock=clock)
    grown = {name: np.median(lap.seconds_per_image) for name, lap in laps.items()}
    took = {
        "read": grown["read"],
        "decode": grown["decode"] - grown["read"],
        "cache": grown["cache"] - grown["decode"],
    }
    assert took == pytest.approx(dict.fromkeys(took, 0.0) | {stage: WORK_S})
