"""Build the stand-in driver, and train on it: each run is a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.rehearsal.generate_stubs import stubs

_HERE = Path(__file__).parent
REPOSITORY = _HERE.parents[1]
# The least that has all parts of a training: a network that XLA compiles in a few seconds.
SMALL = (
    "cifar10-32px --depth 14 --width 4 --image-size 32 --global-batch-size 32 "
    "--source synthetic --synthetic-count 512 "
)
# What is read of a call, once, at its end: five float64.
METRICS = {40: 1}
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
    """What the GPUs were asked to do during one call of several steps.

    Attributes:
        events: of the call and of the reading of its metrics.
        steps: of the call.
        problem: what it ended by; empty where nothing went wrong.
    """

    events: tuple[Event, ...]
    steps: int
    problem: str

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

    def line(self) -> str:
        """What happens in a step, and how often a call is waited for: one line for a table."""
        copies = [
            f"{kind} {', '.join(f'{size}x{n / self.steps:g}' for size, n in found.items()) or '-'}"
            for kind in ("HtoD", "DtoH", "PtoP")
            for found in [self.sizes(kind)]
        ]
        waits = f"collectives {self.count('collective') / self.steps:g}, syncs {self.count('sync')}"
        return f"launches {self.launches:g}; {'; '.join(copies)}; {waits}"


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
    """Build the driver into `folder` and return the folder of its libraries (3 s)."""
    spec = importlib.util.find_spec("tensorflow")
    library = Path(spec.origin).parent / "libtensorflow_framework.so.2"
    source = _HERE / "driver.c"
    generated = folder / "stubs.c"
    generated.write_text(stubs(library, source.read_text()))
    built = folder / _LIBRARIES[0]
    subprocess.run(
        ["gcc", "-O0", "-w", "-shared", "-fPIC", "-o", built, source, generated, "-lpthread"],
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
    libraries: Path,
    *runs: str,
    gpus: int = 1,
    steps: int = 4,
    whole: bool = False,
    blocks: tuple[int, ...] = (1,),
) -> list[Rehearsal]:
    """Train by `fastcifar train ARGUMENTS` for each of `runs`, in one process.

    Args:
        libraries: of `build`.
        runs: arguments of each: recipe and flags.
        gpus: stand-in GPUs.
        steps: of the one call that is logged of each.
        whole: log the whole command instead, from its beginning to its end.
        blocks: of the network of depth 14, by stage: XLA compiles one in a few seconds.
    """
    folder = Path(tempfile.mkdtemp(dir=libraries))
    logs = [folder / f"{number}.log" for number in range(len(runs))]
    asked = {
        "runs": [
            {"arguments": arguments, "log": str(log), "whole": whole}
            for arguments, log in zip(runs, logs, strict=True)
        ],
        "steps": steps,
        "blocks": blocks,
    }
    done = subprocess.run(
        [sys.executable, _HERE / "runner.py", json.dumps(asked)],
        env=environment(libraries, gpus),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    return [_read(log, steps, done.stdout + done.stderr) for log in logs]


def _read(log: Path, steps: int, output: str) -> Rehearsal:
    lines = log.read_text().splitlines() if log.exists() else []
    fields = (line.split("\t", 3) for line in lines)
    events = tuple(Event(kind, int(gpu), int(size), name) for kind, gpu, size, name in fields)
    told = log.with_suffix(".problem")
    # A process that went down has not come so far.
    problem = told.read_text() if told.exists() else "the process has ended"
    if problem:
        problem += f"\n{output[-3000:]}"
    return Rehearsal(events, steps, problem)
