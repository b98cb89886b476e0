"""Decoding in processes of its own: what it tells a script that cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import numpy as np
from fastcifar.data.sources.decode_pool import DecodePool

images = [np.zeros((4, 4, 3), np.uint8)] * 3
with DecodePool(2) as pool:
    for block in pool.blocks([(np.zeros(3, np.int64), images)], 4, "crop"):
        print(block.images.shape)
"""


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(script)
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60)


def test_a_script_without_a_guard_is_told_of_it(tmp_path: Path) -> None:
    done = run(SCRIPT, tmp_path)
    assert done.returncode == 1
    assert "put what it does under `if __name__ == '__main__':`" in done.stderr


def test_a_script_with_one_works(tmp_path: Path) -> None:
    guarded = SCRIPT.replace("\nimages", "\nif __name__ == '__main__':\n    images", 1)
    guarded = guarded.replace("\nwith", "\n    with").replace("\n    for", "\n        for")
    guarded = guarded.replace("\n        print", "\n            print")
    done = run(guarded, tmp_path)
    assert done.stdout == "(3, 4, 4, 3)\n", done.stderr
