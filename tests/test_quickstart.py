"""What the quickstart promises."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_quickstart_reaches_its_accuracy(tmp_path):
    command = [sys.executable, "-m", "fastcifar", "train", "quickstart", "--run-dir", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["test_accuracy"] >= 0.90
    assert "results: run/summary.json" in done.stdout
    assert {path.name for path in (tmp_path / "run" / "plots").iterdir()} == {
        *("accuracy.png", "confusion_matrix.png", "learning_rate.png", "loss.png", "samples.png"),
    }
