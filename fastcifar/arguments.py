"""From flags to a resolved configuration, by tyro over the dataclasses; no TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import tyro

from fastcifar import config_file, recipes, rundir
from fastcifar.config import DataConfig, PhaseConfig, RunConfig, flag
from fastcifar.errors import ConfigError, nearest
from fastcifar.rundir import RunDir

_T = TypeVar("_T")


@dataclass(frozen=True)
class PhaseFlags:
    """Of the phases: one value for all, or one for each, as in `--epochs 10,5`."""

    epochs: str | None = None
    """Passes over the training images."""
    learning_rate: str | None = None
    """The highest rate of the schedule."""
    schedule: str | None = None
    """constant, cosine or one_cycle."""
    warmup_epochs: str | None = None
    """Epochs over which the rate rises from zero."""
    augment: str | None = None
    """The augmentation policy."""
    image_size: str | None = None
    """Side in pixels at which the network sees the images."""


@dataclass(frozen=True)
class TrainFlags:
    """Train a recipe: fastcifar train RECIPE [flags]"""

    config: str | None = None
    """Read the configuration from this file, such as another run's config.json."""
    run_dir: str | None = None
    """The folder of the run. Default: runs/RECIPE-UTCTIME."""
    resume: bool = False
    """Go on from the newest checkpoint in --run-dir."""
    phases: PhaseFlags = field(default_factory=PhaseFlags)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True)
class EvaluateFlags:
    """Evaluate a run's weights on test images: fastcifar evaluate RUN [flags]"""

    checkpoint: Annotated[str, tyro.conf.arg(metavar="{last,best}")] = "last"
    """The newest weights, or the best by validation accuracy."""
    global_batch_size: int = 128
    """Images in one call."""
    data: DataConfig = field(default_factory=DataConfig)


@dataclass(frozen=True)
class TrainOrder:
    """What `fastcifar train` was asked for."""

    config: RunConfig
    run_dir: str
    resume: bool


@dataclass(frozen=True)
class EvaluateOrder:
    """What `fastcifar evaluate` was asked for."""

    config: RunConfig
    run_dir: str
    checkpoint: str


def parse_train(arguments: Sequence[str]) -> TrainOrder:
    """Resolve the arguments of `fastcifar train`.

    Raises:
        ConfigError: for anything that is not legal, in one line.
        RunDirError: if `--resume` names a folder that holds no run.
    """
    recipe, rest = _positional(arguments)
    known = _flags(TrainFlags)
    _check_flags(rest, known)
    if _wants_help(rest):
        default = TrainFlags(run=recipes.get(recipe) if recipe else RunConfig())
        _parse(TrainFlags, rest, default, "fastcifar train RECIPE")
    resume = "--resume" in rest
    config_path = _value_of(rest, "--config")
    run_dir = _value_of(rest, "--run-dir")
    if resume:
        if run_dir is None:
            raise ConfigError("resume needs the folder of the run: add --run-dir RUN")
        if config_path is not None:
            raise ConfigError("resume takes the run's own configuration: leave --config out")
        start = RunDir.open(run_dir).read_config()
        if recipe is not None and recipe != start.recipe:
            raise ConfigError(
                f"run folder {run_dir} holds a run of {start.recipe}. Received: {recipe}"
            )
    elif config_path is not None:
        start = config_file.read(config_path, recipes.get(recipe) if recipe else None)
    elif recipe is not None:
        start = recipes.get(recipe)
    else:
        raise ConfigError(
            f"train needs a recipe: {', '.join(recipes.names())}. `fastcifar recipes` describes "
            "them; `train --config FILE` reads a configuration instead"
        )
    given = _parse(TrainFlags, rest, TrainFlags(run=start), "fastcifar train")
    config = dataclasses.replace(given.run, phases=_override(start.phases, given.phases))
    if resume:
        _check_unchanged(start, config)
    return TrainOrder(config, given.run_dir or str(rundir.default_path(config.recipe)), resume)


def parse_evaluate(arguments: Sequence[str]) -> EvaluateOrder:
    """Resolve the arguments of `fastcifar evaluate`.

    Raises:
        ConfigError: for anything that is not legal, in one line.
        RunDirError: if the folder holds no run.
    """
    run_dir, rest = _positional(arguments)
    _check_flags(rest, _flags(EvaluateFlags))
    if _wants_help(rest):
        _parse(EvaluateFlags, rest, EvaluateFlags(), "fastcifar evaluate RUN")
    if run_dir is None:
        raise ConfigError("evaluate needs the folder of a run: fastcifar evaluate RUN")
    start = RunDir.open(run_dir).read_config()
    default = EvaluateFlags(global_batch_size=start.global_batch_size, data=start.data)
    given = _parse(EvaluateFlags, rest, default, "fastcifar evaluate RUN")
    if given.checkpoint not in ("last", "best"):
        raise ConfigError(f"checkpoint must be last or best. Received: {given.checkpoint}")
    config = dataclasses.replace(start, data=given.data, global_batch_size=given.global_batch_size)
    return EvaluateOrder(config, run_dir, given.checkpoint)


def _positional(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], list(arguments[1:])
    return None, list(arguments)


def _wants_help(arguments: Sequence[str]) -> bool:
    return any(argument in ("-h", "--help") for argument in arguments)


def _value_of(arguments: Sequence[str], name: str) -> str | None:
    """The value of a flag that decides the defaults of the others, before they are parsed."""
    for i, argument in enumerate(arguments):
        if argument == name and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"{name}="):
            return argument.split("=", 1)[1]
    return None


def _flags(cls: type) -> set[str]:
    """The names of all flags of a dataclass and of those inside it."""
    found: set[str] = {"help"}
    for f in dataclasses.fields(cls):
        if f.default_factory is not dataclasses.MISSING:
            found |= _flags(type(f.default_factory()))
        elif f.name not in ("recipe", "phases"):
            found.add(flag(f.name))
            if f.type == "bool":
                found.add(f"no-{flag(f.name)}")
    return found


def _check_flags(arguments: Sequence[str], known: set[str]) -> None:
    """Refuse an unknown flag with the nearest that exists."""
    for argument in arguments:
        if argument.startswith("--"):
            name = argument[2:].split("=", 1)[0].replace("_", "-")
            if name not in known:
                guess = nearest(name, known).replace("'", "'--", 1)
                raise ConfigError(f"there is no flag --{name}.{guess}")


def _parse(cls: type[_T], arguments: Sequence[str], default: _T, program: str) -> _T:
    """Parse by tyro; its boxed errors become one line."""
    if _wants_help(arguments):
        tyro.cli(tyro.conf.OmitArgPrefixes[cls], args=["--help"], default=default, prog=program)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said), _wide_terminal():
            return tyro.cli(
                tyro.conf.OmitArgPrefixes[cls], args=list(arguments), default=default, prog=program
            )
    except SystemExit as error:
        raise ConfigError(_one_line(said.getvalue())) from error


@contextlib.contextmanager
def _wide_terminal() -> Iterator[None]:
    """Keep tyro from breaking its message over lines."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _one_line(box: str) -> str:
    """Take the message out of tyro's box: it stands between the first two rules."""
    lines = [line.strip("│╭╮╰╯ \t") for line in box.splitlines()]
    rules = [i for i, line in enumerate(lines) if line and set(line) <= {"─", "-"}]
    first, second = (*rules, len(lines), len(lines))[:2]
    text = re.sub(r"\s+", " ", " ".join(lines[first + 1 : second])).strip()
    text = text.replace("Error parsing ", "").replace("for argument", "for")
    return text[:1].lower() + text[1:] if text else "the arguments cannot be parsed"


_PHASE_TYPES = {"epochs": int, "image_size": int, "learning_rate": float, "warmup_epochs": float}


def _override(phases: tuple[PhaseConfig, ...], given: PhaseFlags) -> tuple[PhaseConfig, ...]:
    """Replace fields of the phases by flags that hold one value, or one for each phase."""
    changes: list[dict[str, Any]] = [{} for _ in phases]
    for f in dataclasses.fields(given):
        text = getattr(given, f.name)
        if text is None:
            continue
        values = [part.strip() for part in text.split(",")]
        if len(values) not in (1, len(phases)):
            raise ConfigError(
                f"{flag(f.name)} takes one value, or one for each of the {len(phases)} phases. "
                f"Received: {text}"
            )
        kind = _PHASE_TYPES.get(f.name, str)
        for i, change in enumerate(changes):
            value = values[i % len(values)]
            try:
                change[f.name] = kind(value)
            except ValueError:
                article = "a whole number" if kind is int else "a number"
                raise ConfigError(f"{flag(f.name)} must be {article}. Received: {value}") from None
        # An epoch count below the recipe's warm-up shortens the warm-up with it.
    for phase, change in zip(phases, changes, strict=True):
        epochs = change.get("epochs", phase.epochs)
        if "warmup_epochs" not in change and phase.warmup_epochs > epochs >= 1:
            change["warmup_epochs"] = float(epochs)
    return tuple(
        dataclasses.replace(phase, **change) for phase, change in zip(phases, changes, strict=True)
    )


def _check_unchanged(before: RunConfig, now: RunConfig) -> None:
    """A resumed run may change how it uses the machine, not what it computes."""
    old, new = config_file.to_dict(before), config_file.to_dict(now)
    for section, values in old.items():
        if section == "runtime" or values == new[section]:
            continue
        changed = section
        if isinstance(values, dict):
            changed = next(key for key in values if values[key] != new[section][key])
        raise ConfigError(
            f"a resumed run keeps its configuration: leave --{flag(changed)} out, or start a new "
            "run with --config and another --run-dir"
        )
