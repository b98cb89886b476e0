"""scripts/setup decides what to install; uv, which would install it, is a stub here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
HINT = "scripts/setup gpu installs them"
UV = f"""#!/bin/sh
echo "$@" >>"$UV_LOG"
case "$1" in
venv) mkdir -p .venv/bin && ln -s {sys.executable} .venv/bin/python ;;
esac
"""


def program(path, text):
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def setup(tmp_path):
    """Run scripts/setup in a folder of its own: (what it said, what uv was asked to install)."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(REPOSITORY / "scripts/setup", tmp_path / "scripts/setup")
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("")
    program(tmp_path / "bin/uv", UV)
    log = tmp_path / "uv.log"
    path = f"{tmp_path}/bin:/usr/bin:/bin"

    def run(*groups, gpu):
        if gpu:
            program(tmp_path / "bin/nvidia-smi", "#!/bin/sh\n")
        log.write_text("")
        done = subprocess.run(
            ["bash", "scripts/setup", *groups],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "UV_LOG": str(log), "PYTHON": sys.executable},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        asked = [line for line in log.read_text().splitlines() if line.startswith("pip install")]
        return done.stderr, asked[0].split("-c constraints.txt ")[1] if asked else None

    return run


@pytest.mark.skipif(
    any(Path(folder, "nvidia-smi").exists() for folder in ("/usr/bin", "/bin")),
    reason="this machine has a GPU",
)
def test_a_machine_without_a_gpu_is_told_nothing(setup):
    assert setup(gpu=False) == ("", "-e . --quiet")
    assert setup("test", gpu=False) == ("", "-e . --group test --quiet")


def test_a_machine_with_a_gpu_is_told_how_to_use_it(setup):
    said, asked = setup("test", gpu=True)
    assert HINT in said
    assert asked == "-e . --group test --quiet"
    # Again there is nothing to do; only a person who asks for nothing else is told.
    assert setup("test", gpu=True) == ("", None)
    said, asked = setup(gpu=True)
    assert (HINT in said, asked) == (True, None)


def test_the_group_gpu_is_the_packages_extra_and_stays(setup):
    assert setup("gpu", "lint", gpu=True) == ("", "-e .[gpu] --group lint --quiet")
    assert setup("test", gpu=True) == ("", "-e .[gpu] --group lint --group test --quiet")
    assert setup(gpu=True) == ("", None)
