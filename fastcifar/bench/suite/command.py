"""`scripts/gpu_suite`: what it takes, and what has to be there before it starts.

Standard library only.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NoReturn

from fastcifar.bench.suite import packages, wheels
from fastcifar.bench.suite.parts import Part, Setting, parts, without_tensorflow
from fastcifar.bench.suite.runner import Runner
from fastcifar.bench.suite.state import State
from fastcifar.errors import ConfigError, DeviceError, FastcifarError, nearest, one_line
from fastcifar.paths import given_path

_HELP = """\
usage: scripts/gpu_suite OUT [PART or RECORD…] [flags]
       scripts/gpu_suite --wheels FOLDER [--with-plots]     where there is a network
       scripts/gpu_suite --list

Measure on a GPU, part by part, each within its time. Every part leaves its records in the folder
OUT before the next begins; the same call again goes on with what is not done.

  --data DIR        class folders of CIFAR-10 (train/CLASS/*, test/CLASS/*); drawn images without
  --minutes M       for this call: what has no room in them waits for the next one
  --force           measure again what is done
  --small           everything at tiny sizes, on whatever device there is: does it all work?
  --cpu             at full size, on a CPU
  --commit HASH     of the source, where it comes without its history
  --wheels FOLDER   unpack from there what is missing here; without OUT: fetch it into FOLDER
  --with-plots      of fetching: Matplotlib and what it needs too
  --list            the parts and their times

Where JAX is at hand and TensorFlow is not, it measures the compiled step alone, in two minutes.
"""
# Prints the GPUs that TensorFlow sees, one a line after the mark.
_PROBE = "import tensorflow as tf; print('GPUS', len(tf.config.list_physical_devices('GPU')))"
_PROBE_S = 180.0

Probe = Callable[[dict[str, str]], int]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 1 where a part failed, 2 for a mistake."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except FastcifarError as error:
        print(f"gpu_suite: error: {one_line(error)}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(
            "gpu_suite: stopped; the records so far stay, and the same call goes on",
            file=sys.stderr,
        )
        return 130


def _terminated(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _run(arguments: list[str], probe: Probe | None = None) -> int:
    if not arguments or {"-h", "--help"} & set(arguments):
        print(_HELP, end="")
        return 0 if arguments else 2
    given = _parser().parse_intermixed_args(arguments)
    if given.list:
        _show([without_tensorflow(), *parts(Setting())])
        return 0
    if not given.words:
        if given.wheels is None:
            raise ConfigError("a folder for the records is needed: scripts/gpu_suite OUT")
        found = wheels.download(given.wheels, plots=given.with_plots)
        size = sum(path.stat().st_size for path in found)
        print(f"{len(found)} wheels, {size / 1e6:.1f} MB, in {given.wheels}")
        return 0
    setting = Setting(_folder(given.data), given.small, given.cpu)
    alone = not packages.importable("tensorflow") and packages.importable("jax")
    known = (without_tensorflow(),) if alone else parts(setting)
    chosen = _chosen(given.words[1:], known)
    if given.minutes is not None and not given.minutes > 0:
        raise ConfigError(f"minutes must be above 0. Received: {given.minutes:g}")
    out = given_path(given.words[0]).absolute()
    variables = _variables(given.wheels, out / "site")
    if alone:
        _say("no TensorFlow here, but JAX: the compiled step alone, without input and loop")
        _check_packages(given.wheels, packages.NEEDED_FOR_HLO)
    else:
        _check_packages(given.wheels)
    if setting.cpu:
        variables["CUDA_VISIBLE_DEVICES"] = "-1"
    if not alone:
        _check_devices(setting, (probe or _gpus)(variables))
    described = {"data": "folder" if setting.data else "drawn", "small": setting.small}
    state = State(out, described | {"cpu": setting.cpu})
    runner = Runner(out, state, setting.data, given.commit, variables, say=_say)
    return 0 if runner.run(chosen, minutes=given.minutes, force=given.force) else 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("words", nargs="*")  # OUT and the parts
    parser.add_argument("--data", type=given_path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--commit")
    parser.add_argument("--wheels", type=given_path)
    for name in ("force", "small", "cpu", "list", "with-plots"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser


def _say(line: str) -> None:
    print(line, flush=True)


def _show(found: Sequence[Part]) -> None:
    width = max(len(part.name) for part in found)
    for part in found:
        print(f"{part.name:<{width}}  {part.minutes:>3g} min  {part.what}")
        for task in part.tasks:
            print(f"{'':<{width}}           {task.record}.json")


def _folder(data: Path | None) -> Path | None:
    if data is None:
        return None
    if not (data / "train").is_dir() or not (data / "test").is_dir():
        raise ConfigError(
            f"data must be a folder with train/CLASS and test/CLASS. Received: {data}"
        )
    return data.absolute()


def _chosen(names: Sequence[str], known: Sequence[Part]) -> list[Part]:
    """The parts of these names, or parts of one task where a record is named; all without any."""
    by_name = {part.name: part for part in known}
    records = [task.record for part in known for task in part.tasks]
    for name in names:
        if name not in by_name and name not in records:
            raise ConfigError(
                f"a part must be one of {', '.join(by_name)}, or a record of one. "
                f"Received: {name!r}.{nearest(name, [*by_name, *records])}"
            )
    if not names:
        return list(known)
    found = []
    for part in known:
        tasks = part.tasks
        if part.name not in names:
            tasks = tuple(task for task in tasks if task.record in names)
        if tasks:
            found.append(dataclasses.replace(part, tasks=tasks))
    return found


def _variables(folder: Path | None, site: Path) -> dict[str, str]:
    """What the tasks' environment gets; unpacks what is missing here."""
    if folder is not None:
        taken = wheels.unpack(folder, site)
        if taken:
            print(f"unpacked: {', '.join(taken)}")
    if not site.is_dir():
        return {}
    sys.path.append(str(site))
    path = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    return {"PYTHONPATH": os.pathsep.join([*path, str(site)])}


def _check_packages(folder: Path | None, asked: Collection[str] = packages.NEEDED) -> None:
    lacking = packages.missing(packages.dependencies())
    if not lacking:
        return
    needed = [name for name in lacking if name in asked]
    if needed:
        mend = "" if folder else ": fetch them by --wheels FOLDER where there is a network"
        raise ConfigError(
            f"{sys.executable} must have {', '.join(needed)}, which it lacks{mend}. "
            f"Missing in all: {', '.join(lacking)}"
        )
    print(f"missing here, and not needed by the suite: {', '.join(lacking)}")


def _gpus(variables: dict[str, str]) -> int:
    """How many GPUs TensorFlow sees, asked in a process of its own, which holds none afterwards."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env={**os.environ, **quiet, **variables},
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"TensorFlow did not start within {_PROBE_S:.0f} s") from error
    found = [line for line in done.stdout.splitlines() if line.startswith("GPUS ")]
    if done.returncode or not found:
        words = done.stderr.strip().splitlines() or ["it said nothing"]
        raise DeviceError(f"{sys.executable} cannot import TensorFlow: {words[-1]}")
    return int(found[-1].split()[1])


def _check_devices(setting: Setting, gpus: int) -> None:
    if not gpus and not (setting.small or setting.cpu):
        raise DeviceError(
            "the suite needs a GPU that TensorFlow sees: --small tries it at tiny sizes, and --cpu "
            "measures the CPU. Received: none"
        )
