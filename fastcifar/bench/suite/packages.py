"""Which of the packages that this project depends on a host lacks. Standard library only."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# Without these no benchmark starts; the others are imported where they are used.
NEEDED = frozenset(
    {"tensorflow", "keras", "numpy", "matplotlib", "tyro", "rich", "pillow", "psutil"}
)
# What measures the compiled step alone, beside JAX.
NEEDED_FOR_HLO = frozenset({"numpy", "tyro", "psutil"})
# Packages whose module has another name.
_MODULES = {"pillow": "PIL"}


def dependencies() -> list[str]:
    """The names of the packages that pyproject.toml names, in its order."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = (re.match(r"[\w.-]+", text) for text in project["dependencies"])
    return [name[0] for name in names if name]


def module_of(package: str) -> str:
    """The module that a package is imported as."""
    return _MODULES.get(package, package.replace("-", "_"))


def importable(module: str) -> bool:
    """Whether a module is found, without importing it."""
    return importlib.util.find_spec(module) is not None


def missing(packages: Iterable[str], found: Callable[[str], bool] = importable) -> list[str]:
    """Those of `packages` whose modules are not found."""
    return [package for package in packages if not found(module_of(package))]
