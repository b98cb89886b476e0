"""The memory of a command over its time: a JSON file and a picture.

    python -m fastcifar.bench.memory_curve --out FILE.json -- fastcifar train … --memory-budget 1GB

Sampled are the resident bytes of the command and of the processes it starts, and, apart, those that
belong to it alone ("uss"), without what is shared with other processes and with files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fastcifar.rundir import write_whole

_INTERVAL_S = 0.5


def main() -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m fastcifar.bench.memory_curve")
    parser.add_argument("--out", type=Path, default=Path("runs/memory-curve.json"))
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not command:
        parser.error("a command is needed, after --")
    status, curve = watch(command)
    text = json.dumps({"command": command, "status": status, **curve}) + "\n"
    write_whole(given.out, lambda file: file.write(text.encode()))
    picture = given.out.with_suffix(".png")
    draw(curve, picture)
    print(
        f"peak {max(curve['resident_bytes']) / 1e9:.2f} GB resident, "
        f"{max(curve['own_bytes']) / 1e9:.2f} GB its own: {given.out}, {picture}"
    )
    return status


def watch(command: list[str]) -> tuple[int, dict[str, Any]]:
    """Run a command to its end; return its exit status and its samples.

    Returns:
        The status, and "seconds", "resident_bytes" and "own_bytes", a value for each sample.
    """
    began = time.perf_counter()
    curve: dict[str, list[float]] = {"seconds": [], "resident_bytes": [], "own_bytes": []}
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            resident, own = _sample(process.pid)
            if resident:
                curve["seconds"].append(round(time.perf_counter() - began, 2))
                curve["resident_bytes"].append(resident)
                curve["own_bytes"].append(own)
            time.sleep(_INTERVAL_S)
    return process.returncode, curve


def draw(curve: dict[str, Any], path: Path) -> None:
    """Draw a curve as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3.5), layout="constrained")
    for key, label in (("resident_bytes", "resident"), ("own_bytes", "its own")):
        axes.plot(curve["seconds"], [value / 1e9 for value in curve[key]], label=label)
    axes.set(xlabel="seconds", ylabel="GB", ylim=(0, None))
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _sample(pid: int) -> tuple[int, int]:
    """Resident and own bytes of a process and those below it; zero where it has gone."""
    import psutil

    resident = own = 0
    try:
        processes = [psutil.Process(pid)]
        processes += processes[0].children(recursive=True)
    except psutil.Error:
        return 0, 0
    for process in processes:
        try:
            memory = process.memory_full_info()
        except psutil.Error:
            continue
        resident += memory.rss
        own += memory.uss
    return resident, own


if __name__ == "__main__":
    sys.exit(main())
