"""Build the stand-in driver, and train on it: each run is a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.rehearsal.generate_stubs import stubs

_HERE = Path(__file__).parent
REPOSITORY = _HERE.parents[1]
_LIBRARIES = [
    "libcuda.so.1",
    "libcudart.so.12",
    "libcublas.so.12",
    "libcublasLt.so.12",
    "libcudnn.so.9",
    "libcufft.so.11",
    "libcusolver.so.11",
    "libcusparse.so.12",
    "libnccl.so.2",
    "libnvidia-ml.so.1",
]


@dataclass(frozen=True)
class Event:
    """A line of the driver's log.

    Attributes:
        kind: kernel, graph, library (a call of cuDNN or cuBLAS), HtoD, DtoH, DtoD, PtoP, sync or
            collective.
        gpu: its number.
        size: bytes.
        name: of the kernel or the function.
    """

    kind: str
    gpu: int
    size: int
    name: str


@dataclass(frozen=True)
class Rehearsal:
    """What the GPUs were asked to do during one call of several steps, and what was said.

    Attributes:
        events: of the call and of the reading of its metrics.
        steps: of the call.
        output: standard output and error of the process.
        returncode: of the process.
    """

    events: tuple[Event, ...]
    steps: int
    output: str
    returncode: int

    def count(self, *kinds: str, gpu: int | None = None) -> int:
        """How many events of these kinds there were."""
        return sum(e.kind in kinds and gpu in (None, e.gpu) for e in self.events)

    def sizes(self, kind: str) -> dict[int, int]:
        """How many events of a kind there were of each size in bytes."""
        return dict(Counter(e.size for e in self.events if e.kind == kind))

    @property
    def launches(self) -> float:
        """Kernels, graphs of kernels and calls of libraries that the host starts in a step."""
        return self.count("kernel", "graph", "library") / self.steps


def missing() -> str | None:
    """Say what a rehearsal needs and this machine lacks, or None."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "the stand-in driver is for Linux on x86-64"
    if shutil.which("gcc") is None:
        return "the stand-in driver is built by gcc"
    if cuda_folder() is None:
        return "XLA needs ptxas: scripts/setup test rehearsal"
    import tensorflow as tf

    if not tf.sysconfig.get_build_info().get("is_cuda_build"):
        return "this TensorFlow is no build for CUDA"
    return None


def cuda_folder() -> Path | None:
    """The folder that XLA looks into for ptxas and libdevice: of the wheel."""
    found = importlib.util.find_spec("nvidia")
    folders = [Path(f) / "cuda_nvcc" for f in found.submodule_search_locations] if found else []
    return next((f for f in folders if (f / "bin/ptxas").exists()), None)


def build(folder: Path) -> Path:
    """Build the driver into `folder` and return the folder of its libraries (5 s)."""
    spec = importlib.util.find_spec("tensorflow")
    library = Path(spec.origin).parent / "libtensorflow_framework.so.2"
    source = _HERE / "driver.c"
    generated = folder / "stubs.c"
    generated.write_text(stubs(library, source.read_text()))
    built = folder / _LIBRARIES[0]
    subprocess.run(
        ["gcc", "-O1", "-w", "-shared", "-fPIC", "-o", built, source, generated, "-lpthread"],
        check=True,
    )
    for name in _LIBRARIES[1:]:
        (folder / name).symlink_to(built)
    return folder


def environment(libraries: Path, gpus: int) -> dict[str, str]:
    """The environment of a process that sees `gpus` stand-in GPUs."""
    cuda = cuda_folder()
    # Autotuning measures kernels, and these take no time.
    flags = f"--xla_gpu_autotune_level=0 --xla_gpu_cuda_data_dir={cuda}"
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(libraries),
        "PATH": f"{cuda}/bin:{os.environ['PATH']}",
        "PYTHONPATH": f"{REPOSITORY}",
        "REHEARSAL_GPUS": str(gpus),
        "TF_CUDNN_USE_AUTOTUNE": "0",
        "XLA_FLAGS": flags,
    }


def rehearse(
    libraries: Path, arguments: str, *, gpus: int = 1, steps: int = 4, small: bool = False
) -> Rehearsal:
    """Train by `fastcifar train ARGUMENTS` and log one call of `steps` steps.

    Args:
        libraries: of `build`.
        arguments: recipe and flags.
        gpus: stand-in GPUs.
        steps: of the call.
        small: a network of one block, which XLA compiles in a few seconds.
    """
    log = libraries / f"log-{os.getpid()}"
    log.unlink(missing_ok=True)
    asked = json.dumps({"log": str(log), "steps": steps, "small": small})
    done = subprocess.run(
        [sys.executable, _HERE / "runner.py", asked, *arguments.split()],
        env=environment(libraries, gpus),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = log.read_text().splitlines() if log.exists() else []
    events = tuple(Event(k, int(g), int(n), name) for k, g, n, name in map(_fields, lines))
    return Rehearsal(events, steps, done.stdout + done.stderr, done.returncode)


def _fields(line: str) -> list[str]:
    return line.split("\t", 3)
