"""Wheels that travel to a host without a package registry. Standard library only.

Where there is a network, `download` fetches what this project needs beside TensorFlow and what is
packed with it; on the host, `unpack` lays out those that are missing there. What the host has, it
keeps: two versions of a package would get in each other's way.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from fastcifar.bench.suite.packages import ROOT, importable
from fastcifar.errors import ConfigError, FastcifarError

# What the command line, the tables, the pictures and the tests of `augment` need beside TensorFlow,
# Keras, TFDS, KerasCV and their own dependencies.
SMALL = (
    *("tyro", "typeguard", "docstring-parser", "typing-extensions"),
    *("rich", "markdown-it-py", "mdurl", "pygments"),
    *("importlib-resources", "psutil", "pillow"),
    *("pytest", "iniconfig", "pluggy", "packaging", "hypothesis", "sortedcontainers"),
)
# What a host for scientific work has anyway.
PLOTS = (
    *("matplotlib", "contourpy", "cycler", "fonttools", "kiwisolver", "pyparsing"),
    *("python-dateutil", "six"),
)
_GLIBC = (39, 35, 34, 31, 28, 27, 24, 17)  # pip takes each of them literally
_PYTHON = "3.12"
# NAME-VERSION(-BUILD)?-PYTHON-ABI-PLATFORM.whl
_WHEEL = re.compile(
    r"(?P<name>.+?)-(?P<version>[^-]+)(-\d[^-]*)?-(?P<python>[^-]+)-(?P<abi>[^-]+)-"
)

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def pins(packages: Sequence[str]) -> list[str]:
    """`NAME==VERSION` of each package, as constraints.txt pins it."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
    return [f"{name}=={pinned[name]}" for name in packages]


def download(folder: Path, *, plots: bool = False, run: Run = _run) -> list[Path]:
    """Fetch the wheels for Linux x86-64 and Python 3.12 into `folder`; return them.

    Args:
        folder: made if it is not there.
        plots: Matplotlib and what it needs as well.
        run: runs pip.

    Raises:
        ConfigError: if the folder cannot be made.
        FastcifarError: if pip fails, with its last line.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"wheels {folder} must be a folder: {error.strerror}") from error
    platforms = [f"manylinux_2_{n}_x86_64" for n in _GLIBC] + ["manylinux2014_x86_64"]
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
        *("--only-binary=:all:", "--implementation", "cp", "--python-version", _PYTHON),
        *(word for platform in platforms for word in ("--platform", platform)),
        *("--dest", str(folder), *pins([*SMALL, *(PLOTS if plots else ())])),
    ]
    done = run(command)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise FastcifarError(f"pip cannot fetch the wheels: {words[-1]}")
    return sorted(folder.glob("*.whl"))


def unpack(folder: Path, site: Path, found: Callable[[str], bool] = importable) -> list[str]:
    """Lay the wheels whose modules are missing here out in `site`; return their names.

    A wheel that was unpacked before is left alone, and one for another Python is passed over.

    Args:
        folder: of wheels.
        site: a folder that Python will look into too.
        found: whether a module is importable here.

    Raises:
        ConfigError: if there are no wheels, or one is damaged.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise ConfigError(
            f"wheels {folder} must hold wheels; where there is a network, "
            f"scripts/gpu_suite --wheels FOLDER fetches them. Received: none"
        )
    taken = []
    for path in wheels:
        try:
            with zipfile.ZipFile(path) as wheel:
                if not _fits(path.name) or all(map(found, _modules(wheel))):
                    continue
                _lay_out(wheel, site)
        except (OSError, zipfile.BadZipFile) as error:
            raise ConfigError(f"wheel {path} cannot be unpacked: {error}") from error
        taken.append(path.name.split("-")[0])
    return taken


def _fits(name: str) -> bool:
    """Whether a wheel is for this Python."""
    match = _WHEEL.match(name)
    if match is None:
        return False
    own = f"cp{sys.version_info.major}{sys.version_info.minor}"
    pure = match["abi"] == "none" and any(
        tag.startswith("py") for tag in match["python"].split(".")
    )
    return pure or match["abi"] == "abi3" or own in match["python"].split(".")


def _modules(wheel: zipfile.ZipFile) -> set[str]:
    """The modules that a wheel brings: its first-level packages and files."""
    found = set()
    for name in wheel.namelist():
        path = PurePosixPath(_place(name) or ".")
        if len(path.parts) > 1 and path.parts[1] == "__init__.py":
            found.add(path.parts[0])
        elif len(path.parts) == 1 and path.suffix == ".py":
            found.add(path.stem)
    return found


def _place(name: str) -> str | None:
    """Where a file of a wheel belongs; None for what is no part of the library."""
    first, _, rest = name.partition("/")
    if first.endswith(".data"):
        kind, _, rest = rest.partition("/")
        return rest if kind in ("purelib", "platlib") else None
    return name


def _lay_out(wheel: zipfile.ZipFile, site: Path) -> None:
    for name in wheel.namelist():
        place = _place(name)
        if not place or name.endswith("/"):
            continue
        target = (site / place).resolve()
        if not target.is_relative_to(site.resolve()):
            raise zipfile.BadZipFile(f"{name} leads out of the folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(wheel.read(name))
