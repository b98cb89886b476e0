"""The same training in two layouts is the same in float64, where rounding does not hide it."""

import subprocess
import sys

import pytest

from tests.training.trajectories import APART, PAIRS, REPOSITORY


@pytest.mark.slow
def test_layouts_agree_after_twenty_steps():
    # A process of its own: four logical devices.
    command = [sys.executable, "-m", "tests.training.trajectories"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    found = {(one, other): float(value) for one, other, value in rows}
    assert set(found) == {*PAIRS, APART}
    for pair in PAIRS:
        assert found[pair] < 1e-8, pair
    assert found[APART] > 1e-3
