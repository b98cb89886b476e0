"""What each way to bring images costs, and the memory of a command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_source_is_measured(real_images_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    command = [sys.executable, "-m", "fastcifar.bench.sources", str(real_images_dir)]
    run = subprocess.run(
        [*command, "--out", str(out), "--rounds", "2"], capture_output=True, text=True, check=False
    )
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    assert run.returncode == 0, run.stderr
    assert [name for name, row in rows.items() if row["error"]] == []
    for name in ("image_folder", "image_folder, on disk", "csv", "prepare, all cores"):
        assert rows[name]["images_per_s"]["median"] > 0


def test_a_memory_curve_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "curve.json"
    code = "import time; block = bytearray(200_000_000); time.sleep(1.2)"
    command = [sys.executable, "-m", "fastcifar.bench.memory_curve", "--out", str(out), "--"]
    run = subprocess.run(
        [*command, sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    curve = json.loads(out.read_text())
    assert curve["status"] == 0
    assert 0.2e9 < max(curve["resident_bytes"]) < 0.3e9
    assert len(curve["seconds"]) == len(curve["own_bytes"]) >= 2
    assert out.with_suffix(".png").stat().st_size > 5000
