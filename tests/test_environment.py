"""The fingerprint says what a figure was measured on, and is plain JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import psutil
import pytest

import fastcifar
from fastcifar import environment

CPUINFO = """\
processor : 0
model name : Test CPU @ 2.00GHz
flags : fpu avx2 avx512f avx512_bf16

processor : 1
model name : Test CPU @ 2.00GHz
flags : fpu avx2 avx512f avx512_bf16
"""


@pytest.fixture
def cpuinfo(monkeypatch):
    """Set what /proc/cpuinfo holds; None where there is no such file."""

    def read_text(path, *arguments, **options):
        if content[0] is None:
            raise FileNotFoundError(path)
        return content[0]

    content = [CPUINFO]
    monkeypatch.setattr(environment.Path, "read_text", read_text)
    environment.cpu_flags.cache_clear()
    yield content
    environment.cpu_flags.cache_clear()


def test_the_fingerprint_has_every_part_and_is_json():
    found = environment.fingerprint(["Test GPU"], {"intra_op": 0, "inter_op": 2})
    assert set(found) == {
        *("versions", "python", "commit", "platform", "cpu", "cpu_flags", "cores"),
        *("memory_bytes", "gpus", "driver", "threads", "variables"),
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["gpus"] == ["Test GPU"]
    assert found["threads"] == {"intra_op": 0, "inter_op": 2}
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert 1 <= found["cores"] <= os.cpu_count()
    assert found["memory_bytes"] > 2**28


def test_versions_are_those_of_the_packages_that_decide_the_figures():
    versions = environment.fingerprint()["versions"]
    assert set(versions) == {
        *("fastcifar", "tensorflow", "keras", "tensorflow-datasets", "keras-cv", "numpy")
    }
    assert versions["fastcifar"] == fastcifar.__version__
    assert versions["numpy"] == np.__version__


def test_without_a_gpu_there_is_no_driver():
    found = environment.fingerprint()
    assert found["gpus"] == []
    assert found["driver"] is None
    assert found["threads"] == {}


def test_a_package_that_is_absent_has_no_version(monkeypatch):
    monkeypatch.setattr(environment, "_PACKAGES", ("not-a-package-at-all",))
    assert environment.fingerprint()["versions"]["not-a-package-at-all"] is None


def test_the_cpu_is_read_from_the_system(cpuinfo):
    assert environment.cpu_name() == "Test CPU @ 2.00GHz"
    assert environment.cpu_flags() == {"fpu", "avx2", "avx512f", "avx512_bf16"}
    # Of the flags only those that decide speed are kept.
    assert environment.fingerprint()["cpu_flags"] == ["avx2", "avx512_bf16", "avx512f"]


@pytest.mark.parametrize("content", [None, "", "processor : 0\nFeatures : fp asimd\n"])
def test_a_system_that_does_not_tell_has_a_fingerprint_too(cpuinfo, content):
    cpuinfo[0] = content
    assert environment.cpu_flags() == frozenset()
    assert isinstance(environment.cpu_name(), str)
    assert environment.fingerprint()["cpu_flags"] == []


def git(folder, *arguments):
    names = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    subprocess.run(["git", "-C", folder, *names, *arguments], check=True, capture_output=True)


def test_the_commit_is_that_of_the_checkout_and_tells_of_changes(tmp_path, monkeypatch):
    package = tmp_path / "fastcifar"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(fastcifar, "__file__", str(package / "__init__.py"))
    assert environment.fingerprint()["commit"] is None
    git(tmp_path, "init")
    assert environment.fingerprint()["commit"] is None  # no commit yet
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    commit = environment.fingerprint()["commit"]
    assert len(commit) == 12
    assert set(commit) <= set("0123456789abcdef")
    (package / "__init__.py").write_text("changed = True\n")
    assert environment.fingerprint()["commit"] == f"{commit}+changes"


def test_a_machine_without_git_or_driver_has_a_fingerprint_too(monkeypatch):
    def run(*arguments, **options):
        raise FileNotFoundError

    monkeypatch.setattr(environment.subprocess, "run", run)
    found = environment.fingerprint(["Test GPU"])
    assert found["commit"] is None
    assert found["driver"] is None


def test_the_driver_is_the_first_line_of_nvidia_smi(monkeypatch):
    monkeypatch.setattr(
        environment.subprocess,
        "run",
        lambda command, **options: subprocess.CompletedProcess(command, 0, "570.1\n570.1\n"),
    )
    assert environment.fingerprint(["A", "B"])["driver"] == "570.1"


def test_peak_memory_is_in_bytes_and_never_below_what_is_in_use():
    in_use = psutil.Process().memory_info().rss
    peak = environment.peak_host_bytes()
    assert 0.95 * in_use <= peak <= psutil.virtual_memory().total
    assert environment.peak_host_bytes() >= peak


@pytest.mark.parametrize(
    ("program", "found"),
    [
        (None, []),
        ("exit 0", ["nvidia-smi"]),
        ("echo GPU 0: NVIDIA T4", ["nvidia-smi"]),
        ("echo Driver/library version mismatch; exit 18", ["nvidia-smi"]),
        ("echo No devices were found; exit 6", []),
        (
            "echo It failed because it couldn\\'t communicate with the driver; exit 9",
            [],
        ),
    ],
)
def test_nvidias_program_is_a_sign_of_a_gpu_unless_it_denies_one(
    monkeypatch, tmp_path, program, found
):
    if program is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.signs_of_gpu(tmp_path) == found


def test_device_files_and_the_driver_are_signs_of_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()  # of the driver, not of a GPU
    assert environment.signs_of_gpu(tmp_path) == []
    (tmp_path / "dev/nvidia0").touch()
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    found = environment.signs_of_gpu(tmp_path)
    assert found == [f"{tmp_path}/dev/nvidia0", "/proc/driver/nvidia"]


@pytest.mark.parametrize(
    ("signs", "cuda", "libraries", "cure"),
    [
        (["nvidia-smi"], True, False, "pip install 'fastcifar[gpu]', or scripts/setup gpu"),
        (["nvidia-smi"], False, False, "is built without CUDA"),
        (["/proc/driver/nvidia"], True, True, "start the container with --gpus all"),
        (["/dev/nvidia0", "nvidia-smi"], True, True, "see whether `nvidia-smi` works"),
    ],
)
def test_a_gpu_that_tensorflow_does_not_see_is_a_warning_with_its_cure(
    signs, cuda, libraries, cure
):
    def warn(hidden):
        return environment.unused_gpu(signs, hidden, built_with_cuda=cuda, has_libraries=libraries)

    for hidden in (None, "0"):
        said = warn(hidden)
        assert said.startswith(f"an NVIDIA GPU is in this machine ({', '.join(signs)})")
        assert cure in said
    assert warn("") is warn("-1") is None
    assert environment.unused_gpu([], None, built_with_cuda=cuda, has_libraries=libraries) is None
