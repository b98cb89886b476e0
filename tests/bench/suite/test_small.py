"""Every part runs at tiny sizes: what a GPU host will run, here on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastcifar.bench import pages, record
from fastcifar.bench.suite.parts import Setting, parts
from fastcifar.bench.suite.state import COMPLETE

ROOT = Path(__file__).parents[3]
PARTS = parts(Setting(small=True))
# A row of each record that the documentation's tables and targets rest on.
ROWS = {
    "gpu-check": "product/bfloat16",
    "gpu-step-224px": "mixed_bfloat16 xla",
    "gpu-stages-224px": "end_to_end",
    "gpu-stages-32px": "end_to_end",
    "gpu-stages-224px-resident": "end_to_end",
    "gpu-stages-32px-resident": "end_to_end",
    "gpu-precision-224px": "mixed_bfloat16",
    "gpu-ladder-224px": "best",
    "gpu-scratch": "cifar10-scratch",
    "gpu-correct": "two parts/mixed_bfloat16 xla",
    "gpu-startup-224px": "xla_warm",
    "gpu-trace-224px": "top/01",
    "gpu-levers-224px": "batch × 2",
    "gpu-tune-32px": "winner",
}


def suite(out, *arguments):
    return subprocess.run(
        [ROOT / "scripts" / "gpu_suite", out, *arguments],
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS, ids=[part.name for part in PARTS])
def test_a_part_leaves_its_records(part, tmp_path):
    done = suite(tmp_path / "out", part.name, "--small", "--commit", "abc")
    assert done.returncode == 0, done.stdout + done.stderr
    state = json.loads((tmp_path / "out" / "suite.json").read_text())["tasks"]
    assert {name: task["state"] for name, task in state.items()} == {
        task.record: COMPLETE for task in part.tasks
    }
    for task in part.tasks:
        path = tmp_path / "out" / f"{task.record}.json"
        found = record.read(path)
        row = found.row(ROWS[task.record])
        assert row.check == "ok"
        assert row.error is None
        assert found.environment["versions"]["tensorflow"]
        assert str(tmp_path) not in path.read_text()
        # What a CPU has measured fills no table of a GPU.
        page = f"<!-- table: {task.record} -->\n<!-- end -->"
        assert pages.NOT_MEASURED in pages.fill(page, path.parent)
    again = suite(tmp_path / "out", part.name, "--small", "--commit", "abc")
    assert again.stdout.count("done before, complete") == len(part.tasks)
    assert again.returncode == 0


@pytest.mark.slow
def test_a_part_runs_on_real_images(real_images_dir, tmp_path):
    done = suite(tmp_path / "out", "scratch", "--small", "--data", real_images_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    found = record.read(tmp_path / "out" / "gpu-scratch.json")
    assert found.config["cifar10-scratch"]["data"]["data_path"] == "DIR"
    assert found.row("cifar10-scratch").figures["runs"] == 2


def test_every_record_has_a_row_to_look_at():
    assert set(ROWS) == {task.record for part in PARTS for task in part.tasks}
