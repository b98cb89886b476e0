"""The fingerprint of the machine and the software a figure was measured on."""

from __future__ import annotations

import functools
import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import fastcifar

_PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "keras-cv", "numpy")
# Settings of TensorFlow, XLA and CUDA that change what is computed or how fast.
_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "TF_CUDNN_USE_AUTOTUNE",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_GPU_ALLOCATOR",
    "TF_GPU_THREAD_COUNT",
    "TF_GPU_THREAD_MODE",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
)
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The instruction sets this CPU reports (empty where /proc/cpuinfo does not exist)."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


def cpu_name() -> str:
    """The CPU's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """CPU cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _commit() -> str | None:
    root = Path(fastcifar.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        return commit + ("+changes" if _git(root, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _ask_nvidia(field: str) -> str | None:
    """What nvidia-smi tells about the first GPU, or None where it cannot be asked."""
    query = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split("\n", 1)[0].strip() or None


def gpu_memory_bytes() -> int | None:
    """Memory of the first GPU, or None where nvidia-smi does not tell it."""
    mebibytes = _ask_nvidia("memory.total")
    return int(mebibytes) * 2**20 if mebibytes and mebibytes.isdecimal() else None


def fingerprint(gpus: list[str] | None = None, threads: dict[str, int] | None = None) -> dict:
    """Describe this machine: versions, commit, CPU and its flags, GPUs, driver, thread settings.

    Args:
        gpus: names of the GPUs in use, as the runtime sees them (this module does not import
            TensorFlow).
        threads: intra-op and inter-op thread counts, 0 for TensorFlow's own choice.
    """
    import psutil

    versions: dict[str, Any] = {"fastcifar": fastcifar.__version__}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "versions": versions,
        "python": sys.version.split()[0],
        "commit": _commit(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu_flags": sorted(cpu_flags() & set(_FLAGS)),
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus or [],
        "driver": _ask_nvidia("driver_version") if gpus else None,
        "threads": threads or {},
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def peak_host_bytes() -> int:
    """Peak resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
