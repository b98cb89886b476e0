"""The project's own files agree with each other."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import fastcifar

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPTS = [".ci/run", *(f"scripts/{path.name}" for path in (REPOSITORY / "scripts").iterdir())]


def read(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads(read("pyproject.toml"))


@pytest.fixture(scope="module")
def repository_files() -> list[Path]:
    """Files that are committed or would be: not what .gitignore names."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = (REPOSITORY / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def pins() -> list[Requirement]:
    lines = (line.strip() for line in read("constraints.txt").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_the_changelog_starts_with_the_packages_version():
    versions = re.findall(r"^## \[(\d[^\]]*)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert versions[0] == fastcifar.__version__


def test_the_installed_package_has_this_version_and_command():
    assert importlib.metadata.version("fastcifar") == fastcifar.__version__
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="fastcifar")
    assert callable(command.load())


def test_the_license_is_the_one_declared(project):
    assert project["project"]["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0" in read("LICENSE")


def test_the_floors_hold():
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout


def test_constraints_pin_every_dependency_named(project):
    pinned = {canonicalize_name(pin.name) for pin in pins()}
    groups = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    for group in groups:
        for requirement in map(Requirement, group):
            assert canonicalize_name(requirement.name) in pinned
            # A bound raised in pyproject.toml must be followed by a new constraints.txt.
            for pin in pins():
                if canonicalize_name(pin.name) == canonicalize_name(requirement.name):
                    (specifier,) = pin.specifier
                    assert requirement.specifier.contains(specifier.version), requirement


def test_constraints_are_exact_and_name_no_host():
    for pin in pins():
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin
    text = read("constraints.txt")
    assert "://" not in text
    assert not re.search(r"^\s*-", text, re.MULTILINE), "options do not belong here"


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_executable_and_parse(script):
    assert os.access(REPOSITORY / script, os.X_OK)
    text = read(script)
    if text.startswith("#!/usr/bin/env python3\n"):
        compile(text, script, "exec")
        return
    subprocess.run(["bash", "-n", REPOSITORY / script], check=True)
    assert "set -euo pipefail" in text


def test_ci_calls_the_scripts_and_nothing_else():
    lines = [line for line in read(".ci/run").splitlines() if line and not line.startswith("#")]
    assert lines == [
        "set -euo pipefail",
        'cd "$(dirname "${BASH_SOURCE[0]}")/.."',
        "scripts/lint",
        "scripts/test",
    ]


def test_no_large_file_and_no_product_of_a_run_is_committed(repository_files):
    for path in repository_files:
        assert path.stat().st_size < 1_000_000, path
        assert path.suffix not in {".h5", ".keras", ".log", ".npz", ".tfrecord", ".whl"}, path
        assert not path.name.startswith("events.out.tfevents"), path


@pytest.mark.parametrize(
    ("limit", "counts"),
    [
        pytest.param({}, "4 passed", marks=pytest.mark.slow),
        ({"FASTCIFAR_TEST_LIMIT_S": "20"}, "2 failed, 2 passed"),
    ],
)
def test_a_fast_test_that_takes_long_is_named_and_fails_where_asked(tmp_path, limit, counts):
    # A plugin before the project's sets what the clock would have said.
    (tmp_path / "fake_time.py").write_text(
        "import pytest\n"
        "@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_runtest_makereport(item, call):\n"
        "    call.duration = 30.0 if f'long_{call.when}' in item.name else 0.1\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_quick(): pass\n"
        "def test_long_call(): pass\n"
        "def test_long_setup(): pass\n"
        "@pytest.mark.slow\n"
        "def test_slow_with_long_call(): pass\n"
    )
    environ = {k: v for k, v in os.environ.items() if k != "FASTCIFAR_TEST_LIMIT_S"}
    search = os.pathsep.join((str(REPOSITORY / "tests"), str(tmp_path)))
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", tmp_path, tmp_path]
    run = subprocess.run(
        [*command, "-p", "conftest", "-p", "fake_time"],
        env=environ | {"PYTHONPATH": search} | limit,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert counts in run.stdout, run.stdout
    assert "test_quick" not in run.stdout
    assert "test_slow" not in run.stdout
    for name in ("test_long_call", "test_long_setup"):
        if limit:
            assert f"FAILED test_it.py::{name} - passed, but took 30.1 s: a test may" in run.stdout
        else:
            assert f"test_it.py::{name} took 30 s: a test that is not marked slow" in run.stdout


def test_real_images_are_class_balanced(real_images_dir):
    for split, count in (("train", 40), ("test", 20)):
        folders = list((real_images_dir / split).iterdir())
        assert [len(list(folder.glob("*.jpg"))) for folder in folders] == [count] * 10
