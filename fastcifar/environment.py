"""The fingerprint of the machine and the software a figure was measured on."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
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


def signs_of_gpu(root: Path = Path("/")) -> list[str]:
    """What tells that an NVIDIA GPU is in this machine, whether or not TensorFlow can use it.

    Args:
        root: of the file system.
    """
    found = [str(path) for path in sorted((root / "dev").glob("nvidia[0-9]*"))[:1]]
    if (root / "proc/driver/nvidia").exists():
        found.append("/proc/driver/nvidia")
    if shutil.which("nvidia-smi"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                ["nvidia-smi", "-L"], capture_output=True, timeout=10, check=False
            )
            said = done.stdout + done.stderr
            # The driver's packages can be there without a GPU.
            if b"No devices" not in said and b"couldn't communicate" not in said:
                found.append("nvidia-smi")
    return found


def unused_gpu(
    signs: Sequence[str], hidden: str | None, *, built_with_cuda: bool, has_libraries: bool
) -> str | None:
    """A warning for a machine with a GPU of which TensorFlow sees none; None where that is meant.

    TensorFlow itself says nothing where it does not find the driver's libraries.

    Args:
        signs: see `signs_of_gpu`.
        hidden: CUDA_VISIBLE_DEVICES.
        built_with_cuda: whether this TensorFlow could use a GPU.
        has_libraries: whether the CUDA libraries of `fastcifar[gpu]` are installed.
    """
    if not signs or (hidden is not None and hidden.strip() in ("", "-1", "none", "NoDevFiles")):
        return None
    if not built_with_cuda:
        cure = "this TensorFlow is built without CUDA; PyPI's `tensorflow` for Linux has it"
    elif not has_libraries:
        cure = (
            "the CUDA libraries are missing: pip install 'fastcifar[gpu]', or scripts/setup gpu "
            "in a checkout"
        )
    elif not any(sign.startswith("/dev/") for sign in signs):
        cure = "its device files are missing: start the container with --gpus all"
    else:
        cure = (
            "see whether `nvidia-smi` works and its driver is new enough; TF_CPP_MIN_LOG_LEVEL=0 "
            "shows what TensorFlow misses"
        )
    return (
        f"an NVIDIA GPU is in this machine ({', '.join(signs)}), but TensorFlow sees "
        f"none, so the CPU computes: {cure}. CUDA_VISIBLE_DEVICES=-1 if that is meant"
    )


def has_cuda_libraries() -> bool:
    """Whether what `fastcifar[gpu]` adds is installed."""
    try:
        metadata.version("nvidia-cudnn-cu12")
    except metadata.PackageNotFoundError:
        return False
    return True


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
