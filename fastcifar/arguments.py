"""From flags to a resolved configuration, by tyro over the dataclasses; no TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import tyro

from fastcifar import config_file, recipes, rundir
from fastcifar.config import DataConfig, PhaseConfig, RunConfig, check_value, flag
from fastcifar.errors import ConfigError, nearest
from fastcifar.paths import local_path
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
    """Side in pixels at which the network sees the images; 128:224 grows within the phase."""
    trainable: str | None = None
    """What trains: all, head, or from:LAYER (such as from:conv5_block1) on."""
    freeze_batch_norm: str | None = None
    """Keep the backbone's BatchNorms in inference mode: true or false."""
    rate_decay: str | None = None
    """Each block's learning rate, as a share of that of the block behind it."""


@dataclass(frozen=True)
class TrainFlags:
    """Train a recipe: fastcifar train RECIPE [flags]"""

    config: str | None = None
    """Read the configuration from this file, such as another run's config.json."""
    run_dir: str | None = None
    """The folder of the run. Default: runs/RECIPE-UTCTIME."""
    resume: bool = False
    """Go on from the newest checkpoint in --run-dir."""
    allow_changed_data: bool = False
    """Go on with other images than the run had (--resume), or test on images that the run of
    --weights was trained on."""
    scale_learning_rate: bool = False
    """Take the rates as meant for the recipe's global batch, and scale them to the one given."""
    phases: PhaseFlags = field(default_factory=PhaseFlags)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True)
class EvaluateFlags:
    """Evaluate a run's weights on test images: fastcifar evaluate RUN [flags]

    With --data-path DIR: on all labelled images of a folder or CSV, whatever splits it has.
    """

    checkpoint: Literal["auto", "best", "last"] = "auto"
    """The best weights by validation accuracy, or the newest; auto is the best where there is
    validation. Default: as the run's --test-weights."""
    test_time_augmentation: Literal["none", "flip", "flip-shift"] = "none"
    """Average the logits of several views of each image. Default: as the run did at its end."""
    global_batch_size: int = 128
    """Images in one call."""
    allow_changed_data: bool = False
    """Evaluate though the run's own test images have changed."""
    data: DataConfig = field(default_factory=DataConfig)


@dataclass(frozen=True)
class PrepareFlags:
    """Fetch, verify and lay out a data set once: fastcifar prepare SOURCE [flags]

    SOURCE is tfds, image_folder, kaggle or keras.
    """

    dataset: str = "cifar10"
    """A TFDS name (tfds), or cifar10, cifar100 or mnist (keras)."""
    data_path: str | None = None
    """The TFDS data_dir (tfds), a folder or CSV (image_folder), or the competition (kaggle)."""
    archive: str | None = None
    """CIFAR's official binary archive, to prepare from instead of a download (tfds)."""
    trust_archive: bool = False
    """Take an archive that is not the official one; all that it holds is checked."""
    storage_size: int | None = None
    """Side in pixels at which images are kept. Default: the median of their shorter sides."""
    non_square: Literal["crop", "pad"] = "crop"
    """Crop images that are not square at the centre, or pad them with black."""
    skip_unreadable: bool = False
    """Leave unreadable image files out instead of refusing the folder."""
    workers: int | None = None
    """Processes that decode. Default: as many as there are cores, if that pays."""

    def data(self, source: Any) -> DataConfig:
        """Return the part of a run's configuration that says the same.

        Raises:
            ConfigError: if the source does not take these.
        """
        names = ("dataset", "data_path", "storage_size", "non_square", "skip_unreadable")
        return DataConfig(source=source, **{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class TrainOrder:
    """What `fastcifar train` was asked for.

    Attributes:
        config: of the run.
        run_dir: its folder.
        resume: go on with the run that is there.
        names_folder: whether the user named the folder; one that was not named gives way to a run
            that has it already.
        typed: the fields of the configuration that flags were given for.
        notes: what the user should know of flags that are no fields.
    """

    config: RunConfig
    run_dir: str
    resume: bool
    names_folder: bool
    typed: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    allow_changed_data: bool = False


@dataclass(frozen=True)
class EvaluateOrder:
    """What `fastcifar evaluate` was asked for; `typed` are the fields that flags were given for."""

    config: RunConfig
    run_dir: str
    checkpoint: str
    views: str
    whole: bool = False  # all labelled images of an image folder, not a test split
    typed: frozenset[str] = frozenset()
    allow_changed_data: bool = False


def parse_train(arguments: Sequence[str]) -> TrainOrder:
    """Resolve the arguments of `fastcifar train`.

    Raises:
        ConfigError: for anything that is not legal, in one line.
        RunDirError: if `--resume` names a folder that holds no run.
        SystemExit: after `--help`.
    """
    asked = _take_apart(arguments, TrainFlags, "train takes one recipe")
    recipe = asked.positional
    if "help" in asked.switches:
        start = RunConfig() if recipe is None else recipes.get(recipe)
        _parse(TrainFlags(run=start), "train RECIPE", asked)
    resume = asked.switches.get("resume", False)
    config_path, run_dir = asked.texts.get("config"), asked.texts.get("run-dir")
    if resume:
        if run_dir is None:
            raise ConfigError("resume needs the folder of the run: add --run-dir RUN")
        if config_path is not None:
            raise ConfigError("resume takes the run's own configuration: leave --config out")
        start = RunDir.open(run_dir).read_config()
        if recipe is not None and recipe != start.recipe:
            raise ConfigError(
                f"run folder {run_dir} holds a run of {start.recipe}. Received: {recipe!r}"
            )
    elif config_path is not None:
        start = _read_config(config_path, recipe)
    elif recipe is not None:
        start = recipes.get(recipe)
    else:
        raise ConfigError(
            f"train needs a recipe: {', '.join(recipes.names())}. `fastcifar recipes` describes "
            "them; `train --config FILE` reads a configuration instead"
        )
    base = start if resume else _of_another_source(start, asked)
    given = _parse(TrainFlags(run=base), "train RECIPE", asked)
    config = dataclasses.replace(given.run, phases=_override(start.phases, given.phases))
    notes: tuple[str, ...] = ()
    if given.scale_learning_rate:
        config = recipes.scale_learning_rate(config, start.global_batch_size)
        if config.global_batch_size == start.global_batch_size:
            notes = (
                "--scale-learning-rate has no effect: the rates are meant for a global batch of "
                f"{start.global_batch_size} images, which is what they get",
            )
    if resume:
        _check_unchanged(start, config)
    elif given.allow_changed_data and config.model.weights in ("none", "imagenet"):
        notes += (
            "--allow-changed-data has no effect: neither --resume nor --weights names a run whose "
            "images could be others",
        )
    if config.runtime.strategy == "multi_worker" and given.run_dir is None:
        raise ConfigError(
            "strategy multi_worker needs one run folder for all workers: add --run-dir DIR, the "
            "same on each"
        )
    run_dir = given.run_dir or str(rundir.default_path(config.recipe))
    return TrainOrder(
        config,
        run_dir,
        resume,
        names_folder=given.run_dir is not None,
        typed=asked.fields(),
        notes=notes,
        allow_changed_data=given.allow_changed_data,
    )


def _read_config(path: str, recipe: str | None) -> RunConfig:
    """Read a configuration, over a recipe if one is named and the file leaves something of it."""
    if recipe is None:
        return config_file.read(path)
    laid_over = config_file.read(path, recipes.get(recipe))
    alone = None
    with contextlib.suppress(ConfigError):  # what is no configuration without a recipe
        alone = config_file.read(path)
    if alone == laid_over:
        raise ConfigError(
            f"config file {path} holds a whole configuration, which would leave nothing of the "
            f"recipe: leave one of them out. Received: {recipe!r}"
        )
    return laid_over


def _of_another_source(start: RunConfig, asked: _Given) -> RunConfig:
    """Leave the path and the name of the old source's images behind where another one is given."""
    source = asked.texts.get("source", start.data.source)
    if source == start.data.source:
        return start
    path = asked.texts.get("data-path")
    left: dict[str, Any] = {"dataset": DataConfig.dataset, "data_path": path, "source": source}
    return dataclasses.replace(start, data=dataclasses.replace(start.data, **left))


def parse_evaluate(arguments: Sequence[str]) -> EvaluateOrder:
    """Resolve the arguments of `fastcifar evaluate`.

    Raises:
        ConfigError: for anything that is not legal, in one line.
        RunDirError: if the folder holds no run.
        SystemExit: after `--help`.
    """
    asked = _take_apart(arguments, EvaluateFlags, "evaluate takes one run")
    run_dir = asked.positional
    if "help" in asked.switches:
        _parse(EvaluateFlags(), "evaluate RUN", asked)
    if run_dir is None:
        raise ConfigError("evaluate needs the folder of a run: fastcifar evaluate RUN")
    run_dir = local_path("RUN", run_dir)
    start = RunDir.open(run_dir).read_config()
    default = EvaluateFlags(
        checkpoint=start.test_weights,
        test_time_augmentation=start.test_time_augmentation,
        global_batch_size=start.global_batch_size,
        data=_evaluated_data(_of_another_source(start, asked).data, asked.texts),
    )
    given = _parse(default, "evaluate RUN", asked)
    named = "data-path" in asked.texts
    config = dataclasses.replace(start, data=given.data, global_batch_size=given.global_batch_size)
    if config.runtime.strategy == "multi_worker":
        # The run's other hosts are not needed to evaluate it.
        config = dataclasses.replace(
            config, runtime=dataclasses.replace(config.runtime, strategy="auto")
        )
    return EvaluateOrder(
        config,
        run_dir,
        given.checkpoint,
        given.test_time_augmentation,
        whole=named and given.data.source == "image_folder",
        typed=asked.fields(),
        allow_changed_data=given.allow_changed_data,
    )


def _evaluated_data(own: DataConfig, texts: Mapping[str, str]) -> DataConfig:
    """Return what flags are laid over: the run's data, or a folder of images that is named."""
    path = texts.get("data-path")
    if path is None:
        return own
    source = texts.get("source", own.source)
    if "source" not in texts:
        # What does not hold the run's own kind of data is a folder of images.
        folder = Path(path).expanduser()
        holds_own = {
            "tfds": (folder / "dataset_info.json").exists()
            or (folder / own.dataset.split("/")[0].split(":")[0]).is_dir(),
            "kaggle": (folder / "trainLabels.csv").exists(),
        }
        if not holds_own.get(source, False):
            source = "image_folder"
    if source != "image_folder":
        return own
    # All images of the folder count, whatever the run's own data were limited to.
    return dataclasses.replace(own, source="image_folder", data_path=path, limit_test=None)


@dataclass(frozen=True)
class AugmentFlags:
    """Draw a policy: fastcifar augment POLICY --out grid.png [flags]"""

    out: str = "grid.png"
    """The picture to write."""
    images: int = 4
    """Images to draw, one a row."""
    draws: int = 12
    """Draws of each image, beside the original."""
    image_size: int | None = None
    """Side in pixels of the draws. Default: that of the images."""
    resize_method: Literal["bilinear", "nearest"] = "bilinear"
    """How images are brought to that size."""
    scale: int = 2
    """Picture pixels for each pixel."""
    seed: int = 0
    """Of the draws."""
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        for name in ("images", "draws", "image_size", "scale"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{flag(name)} must be 1 or more. Received: {value}")


def parse_augment(arguments: Sequence[str]) -> tuple[str, AugmentFlags]:
    """Resolve the arguments of `fastcifar augment`: (policy, flags).

    Raises:
        ConfigError: for anything that is not legal, in one line.
        SystemExit: after `--help`.
    """
    asked = _take_apart(arguments, AugmentFlags, "augment takes one policy")
    given = _parse(AugmentFlags(), "augment POLICY", asked)
    if asked.positional is None:
        raise ConfigError("augment needs a policy: fastcifar augment POLICY --out grid.png")
    return asked.positional, given


def parse_prepare(arguments: Sequence[str]) -> tuple[str, PrepareFlags]:
    """Resolve the arguments of `fastcifar prepare`: (source, flags).

    Raises:
        ConfigError: for anything that is not legal, in one line.
        SystemExit: after `--help`.
    """
    asked = _take_apart(arguments, PrepareFlags, "prepare takes one source")
    given = _parse(PrepareFlags(), "prepare SOURCE", asked)
    if asked.positional not in _PREPARED:
        received = "" if asked.positional is None else f". Received: {asked.positional!r}."
        guess = "" if asked.positional is None else nearest(asked.positional, _PREPARED)
        raise ConfigError(f"prepare needs a source: {', '.join(_PREPARED)}{received}{guess}")
    return asked.positional, given


# The sources that have something to prepare.
_PREPARED = ("tfds", "image_folder", "kaggle", "keras")


# The flags that name a file or a folder, of all commands.
PATHS = frozenset(
    (
        *("archive", "compile-cache", "config", "data-path", "dump-hlo", "out", "run-dir"),
        *("weights", "write"),
    )
)


class _Given(NamedTuple):
    """Arguments taken apart: the one that is not a flag, texts of flags, and switches by name."""

    positional: str | None
    texts: dict[str, str]
    switches: dict[str, bool]

    def fields(self) -> frozenset[str]:
        """The fields that flags were given for."""
        names = {name.replace("-", "_") for name in (*self.texts, *self.switches)}
        growing = ":" in self.texts.get("image-size", "")
        return frozenset(names | ({"start_image_size"} if growing else set()))


def _take_apart(arguments: Sequence[str], cls: type, rule: str) -> _Given:
    """Take arguments apart; all that tyro would refuse in a box is refused here, in one line.

    Args:
        arguments: `--name value`, `--name=value`, `--switch` or `--no-switch`, in any order.
        cls: the dataclass whose fields are the flags.
        rule: the start of the message for a second argument that is not a flag.
    """
    types = _flag_types(cls)
    switches = {"help": ("help", True)}
    for name, hint in types.items():
        if hint is bool:
            switches |= {name: (name, True), f"no-{name}": (name, False)}
    given = _Given(None, {}, {})
    waiting = iter(arguments)
    for argument in waiting:
        if not argument.startswith("-"):
            if given.positional is not None:
                raise ConfigError(f"{rule}. Received: {given.positional!r} and {argument!r}")
            given = given._replace(positional=argument)
            continue
        written, equals, text = argument.partition("=")
        name = "help" if written == "-h" else flag(written[2:])
        if not written.startswith("--") and name != "help":
            raise ConfigError(f"there is no flag {written}")
        if name in switches:
            if equals:
                raise ConfigError(f"the flag {written} takes no value. Received: {text!r}")
            name, on = switches[name]
            given.switches[name] = on
        elif name in types:
            if not equals:
                text = next(waiting, "--")
                if text.startswith("--"):
                    raise ConfigError(f"the flag {written} needs a value: {written} VALUE")
            read_value(name, types[name], text)
            given.texts[name] = local_path(name, text) if name in PATHS else text
        else:
            guess = nearest(name, [*types, *switches]).replace("'", "'--", 1)
            raise ConfigError(f"there is no flag {written}.{guess}")
    return given


def _flag_types(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields, and of those inside it, by their flags."""
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint):
            found |= _flag_types(typing.cast(type, hint))
        elif name not in ("recipe", "phases"):  # these two are no flags
            found[flag(name)] = hint
    return found


def read_value(name: str, hint: Any, text: str) -> Any:
    """Read a flag's value from its text.

    Args:
        name: the field's.
        hint: its type, as `fastcifar.config.check_value` takes it; None is spelt `None`.
        text: what stands after the flag.

    Raises:
        ConfigError: if the type does not allow what the text says.
    """
    options = typing.get_args(hint)
    value: Any = text  # what cannot be read stays text, which the check refuses
    if typing.get_origin(hint) is Literal:
        value = {str(option): option for option in options}.get(text, text)
    elif type(None) in options and text == "None":
        value = None
    elif hint is bool:
        value = {"true": True, "false": False}.get(text, text)
    else:
        with contextlib.suppress(ValueError):
            value = (options[0] if options else hint)(text)
    check_value(name, hint, value)
    return value


def _parse(default: _T, command: str, given: _Given) -> _T:
    """Lay flags over `default`, by tyro; `--help` is answered and ends in SystemExit."""
    arguments = [f"--{name}={text}" for name, text in given.texts.items()]
    arguments += [f"--{'' if on else 'no-'}{name}" for name, on in given.switches.items()]
    flat: Any = tyro.conf.OmitArgPrefixes[type(default)]  # type: ignore[misc]
    return tyro.cli(flat, args=arguments, default=default, prog=f"fastcifar {command}")


def _override(phases: tuple[PhaseConfig, ...], given: PhaseFlags) -> tuple[PhaseConfig, ...]:
    """Replace fields of the phases by flags that hold one value, or one for each phase."""
    types = typing.get_type_hints(PhaseConfig)
    changes: list[dict[str, Any]] = [{} for _ in phases]
    for name, text in vars(given).items():
        if text is None:
            continue
        parts = [part.strip() for part in text.split(",")]
        if len(parts) not in (1, len(phases)):
            rule = "one value" + (f" or {len(phases)}, one a phase" if len(phases) > 1 else "")
            raise ConfigError(f"{flag(name)} takes {rule}. Received: {text!r}")
        for change, part in zip(changes, itertools.cycle(parts), strict=False):
            if name == "image_size":
                start, growing, part = part.rpartition(":")
                change["start_image_size"] = (
                    read_value(name, types[name], start) if growing else None
                )
            change[name] = read_value(name, types[name], part)
    for phase, change in zip(phases, changes, strict=True):
        # A warm-up of the recipe that is longer than the epochs asked for is cut to them.
        epochs = change.get("epochs", phase.epochs)
        if "warmup_epochs" not in change and phase.warmup_epochs > epochs >= 1:
            change["warmup_epochs"] = float(epochs)
    return tuple(
        dataclasses.replace(phase, **change) for phase, change in zip(phases, changes, strict=True)
    )


# Fields of the data's configuration that decide where images lie meanwhile, not which they are.
_OF_THE_MACHINE = ("data_path", "memory_budget", "cache", "prefetch", "parallel_map")

# Fields of the run that only count once it has diverged.
_AFTER_DIVERGENCE = ("on_divergence", "rollback_factor", "max_rollbacks")


def _check_unchanged(before: RunConfig, now: RunConfig) -> None:
    """A resumed run may change how it uses the machine, not what it computes."""
    data = {name: getattr(before.data, name) for name in _OF_THE_MACHINE}
    now = dataclasses.replace(
        now,
        runtime=before.runtime,
        data=dataclasses.replace(now.data, **data),
        **{name: getattr(before, name) for name in _AFTER_DIVERGENCE},
    )
    changed = _first_change(config_file.to_dict(before), config_file.to_dict(now))
    if changed is not None:
        raise ConfigError(
            f"a resumed run keeps its configuration: leave --{flag(changed)} out, or start a new "
            "run with --config and another --run-dir"
        )


def _first_change(old: Any, new: Any, name: str = "") -> str | None:
    """The name of the first field in which two configurations, as JSON values, differ."""
    if isinstance(old, dict):
        changes = (_first_change(old[key], new[key], key) for key in old)
    elif isinstance(old, list):
        changes = (_first_change(a, b, name) for a, b in zip(old, new, strict=True))
    else:
        return None if old == new else name
    return next((change for change in changes if change is not None), None)
