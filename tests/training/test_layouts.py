"""One step for every layout: {none, mirrored × 2, multi_worker × 2} × precision × XLA × k × parts.

Every cell trains a small ResNet for three steps twice; losses are those of a plain loop in float64,
replicas and workers end with the same bits, and nothing is traced twice.
"""

import functools
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from tests.training import cells
from tests.training.cells import ALL, PAIRWISE
from tests.training.tiny import mirrored

REPOSITORY = Path(__file__).resolve().parents[2]
expected_losses = functools.cache(cells.expected_losses)


def test_the_matrix_and_its_cover():
    assert len(set(ALL)) == 72
    assert set(PAIRWISE) <= set(ALL)
    for i, j in itertools.combinations(range(5), 2):
        assert {(c[i], c[j]) for c in PAIRWISE} == {(c[i], c[j]) for c in ALL}


def check_here(cell):
    strategy = mirrored() if cell.layout == "mirrored" else tf.distribute.get_strategy()
    replicas = 2 if cell.layout == "mirrored" else 1
    cells.check(cell, [cells.run(cell, strategy)], expected_losses(replicas, cell.accumulate))


def check_on_two_workers(chosen):
    launch = [sys.executable, "scripts/launch_workers", "2", sys.executable, "-m"]
    names = [str(cell) for cell in chosen]
    done = subprocess.run(
        [*launch, "tests.training.cells", *names], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line[4:]) for line in done.stdout.splitlines()]
    assert len(found) == 2
    for cell in chosen:
        each = [worker[str(cell)] for worker in found]
        cells.check(cell, each, expected_losses(2, cell.accumulate))


def in_this_process(chosen):
    return pytest.mark.parametrize(
        "cell", [c for c in chosen if c.layout != "multi_worker"], ids=str
    )


# Those that nothing is compiled for, which takes the longest.
@in_this_process([cell for cell in PAIRWISE if not cell.xla])
def test_cells_of_the_cover(cell):
    check_here(cell)


@pytest.mark.slow
@in_this_process(ALL)
def test_every_cell(cell):
    check_here(cell)


@pytest.mark.slow
def test_every_cell_on_two_workers():
    check_on_two_workers([cell for cell in ALL if cell.layout == "multi_worker"])
