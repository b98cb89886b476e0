"""The flags that benchmarks have beside those of a run; no TensorFlow."""

from __future__ import annotations

import dataclasses
import shlex
import time
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fastcifar import arguments as run_flags
from fastcifar import recipes
from fastcifar.config import RunConfig, flag
from fastcifar.errors import ConfigError, nearest
from fastcifar.paths import local_path

_T = TypeVar("_T")
DEFAULT_RECIPE = "cifar10-32px"


@dataclass(frozen=True)
class MeasureFlags:
    """How long to measure, and where the record goes."""

    out: str | None = None
    seconds: float | None = None
    rounds: int | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and self.seconds <= 0:
            raise ConfigError(f"seconds must be above 0. Received: {self.seconds}")
        if self.rounds is not None and self.rounds < 2:
            raise ConfigError(f"rounds must be 2 or more. Received: {self.rounds}")


def split(arguments: Sequence[str], cls: type[_T]) -> tuple[_T, list[str]]:
    """Take the flags that are fields of a dataclass out of `arguments`: (its instance, the rest).

    Raises:
        ConfigError: for a value that a field does not allow, in one line.
    """
    hints = {flag(name): (name, hint) for name, hint in typing.get_type_hints(cls).items()}
    values: dict[str, Any] = {}
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        written, equals, text = argument.partition("=")
        known = hints.get(flag(written[2:])) if written.startswith("--") else None
        if known is None:
            rest.append(argument)
            continue
        name, hint = known
        if hint is bool:
            if equals:
                raise ConfigError(f"the flag {written} takes no value. Received: {text!r}")
            values[name] = True
            continue
        if not equals:
            text = next(waiting, "--")
            if text.startswith("--"):
                raise ConfigError(f"the flag {written} needs a value: {written} VALUE")
        if flag(name) in run_flags.PATHS:
            text = local_path(flag(name), text)
        values[name] = run_flags.read_value(name, hint, text)
    return cls(**values), rest


def refuse(rest: Sequence[str], command: str, cls: type) -> None:
    """Refuse what is left of the arguments of a command that takes the flags of `cls` only."""
    if rest:
        names = [f"--{flag(field.name)}" for field in dataclasses.fields(typing.cast(Any, cls))]
        raise ConfigError(
            f"{command} takes {', '.join(names)}. "
            f"Received: {rest[0]!r}.{nearest(rest[0].partition('=')[0], names)}"
        )


def reserve(rest: Sequence[str], command: str, names: Sequence[str], instead: str = "") -> None:
    """Refuse flags of a run whose values a benchmark chooses itself.

    Args:
        rest: arguments.
        command: the benchmark.
        names: of the fields.
        instead: a flag of the benchmark's that says what is meant.

    Raises:
        ConfigError: naming the first of them.
    """
    taken = {f"--{prefix}{flag(name)}" for name in names for prefix in ("", "no-")}
    for argument in rest:
        if argument.partition("=")[0] in taken:
            mend = f", and use {instead}" if instead else ""
            written = argument.partition("=")[0]
            raise ConfigError(f"{command} sets this itself: leave {written} out{mend}")


def run_config(rest: Sequence[str], command: str) -> RunConfig:
    """Resolve what is left of the arguments as `train` does: a recipe and its overrides.

    Raises:
        ConfigError: for anything that is not legal, in one line.
    """
    for name in ("--run-dir", "--resume"):
        if any(argument.partition("=")[0] == name for argument in rest):
            raise ConfigError(f"{command} starts no run: leave {name} out")
    named = any(argument in recipes.names() for argument in rest)
    named = named or bool(rest and not rest[0].startswith("-"))
    configured = any(argument.partition("=")[0] == "--config" for argument in rest)
    recipe = [] if named or configured else [DEFAULT_RECIPE]
    return run_flags.parse_train([*recipe, *rest]).config


def out_path(flags: MeasureFlags, kind: str) -> Path:
    """Where the record goes."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return Path(flags.out) if flags.out is not None else Path("runs") / f"bench-{kind}-{now}.json"


def command_line(kind: str, arguments: Sequence[str]) -> str:
    """The line that repeats a benchmark."""
    return shlex.join(["fastcifar", "bench", kind, *arguments])
