"""What `bench tune` may change, and to what. No TensorFlow here."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastcifar.config import RunConfig, flag
from fastcifar.errors import ConfigError, nearest

PRECISION, XLA, CALLS, BATCH = "precision", "xla", "steps_per_call", "global_batch_size"
AUGMENT, FORM = "augment_on", "augment_form"
CACHE, PARALLEL, THREADS = "cache", "parallel_map", "intra_op_threads"
AXES = (PRECISION, XLA, CALLS, BATCH, AUGMENT, FORM, CACHE, PARALLEL, THREADS)
RECIPE = "as the recipe"
_SEED = 0  # of the order in which combinations are tried
# Larger batches than these times the recipe's are not tried. On a CPU a batch that does not fit is
# not refused: the system ends some process.
_LARGER_ON_GPU, _LARGER_ON_CPU = 16, 4


@dataclass(frozen=True)
class Trial:
    """A configuration to be measured.

    Attributes:
        name: what it changes.
        config: of the run.
    """

    name: str
    config: RunConfig


def checked(names: Sequence[str]) -> tuple[str, ...]:
    """The axes of these names, as flags spell them; all if there are none.

    Raises:
        ConfigError: for a name that is none, with the nearest that is.
    """
    known = {flag(axis): axis for axis in AXES}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"axes takes {', '.join(known)}, several joined by commas. "
                f"Received: {name!r}.{nearest(name, known)}"
            )
    return tuple(known[name] for name in names) or AXES


def values(config: RunConfig, axis: str, *, on_gpu: bool, precision: str, cores: int) -> list[Any]:
    """What an axis may be changed to.

    Args:
        config: of the recipe.
        axis: one of `AXES`.
        on_gpu: whether there is one.
        precision: that the recipe has on this machine.
        cores: of the CPU.
    """
    batch = config.global_batch_size
    if axis == BATCH:
        times = _LARGER_ON_GPU if on_gpu else _LARGER_ON_CPU
        larger = [batch * 2**i for i in range(1, times.bit_length())]
        return [batch, *([batch // 2] if batch % 2 == 0 else []), *larger]
    legal: dict[str, list[Any]] = {
        PRECISION: [
            precision,
            "float32",
            "mixed_bfloat16",
            *(["mixed_float16"] if on_gpu else []),
        ],
        # What XLA's convolutions are on a CPU, a minute of compilation would tell each time.
        XLA: [config.runtime.xla, *(["on", "off"] if on_gpu else [])],
        CALLS: [config.runtime.steps_per_call, "auto", "1"],
        AUGMENT: [config.data.augment_on, "device", "host"],
        FORM: [config.data.augment_form, "auto", "gather", "matmul"],
        CACHE: [config.data.cache, *(["memory", "device"] if on_gpu else ["memory"])],
        PARALLEL: [config.data.parallel_map, 1, 2, *([cores] if cores > 2 else [])],
        THREADS: [config.runtime.intra_op_threads, *([cores // 2] if cores > 1 else [])],
    }
    return legal[axis]


def trials(
    config: RunConfig, axes: Sequence[str], *, on_gpu: bool, precision: str, cores: int
) -> list[Trial]:
    """All legal combinations: the recipe, then those with one change, then the others at random.

    Args:
        config: of the recipe.
        axes: that may be changed.
        on_gpu, precision, cores: see `values`.
    """
    machine: dict[str, Any] = {"on_gpu": on_gpu, "precision": precision, "cores": cores}
    chosen = {axis: list(dict.fromkeys(values(config, axis, **machine))) for axis in axes}
    found: dict[str, Trial] = {}
    for combination in itertools.product(*chosen.values()):
        changes = {
            axis: value
            for axis, value in zip(chosen, combination, strict=True)
            if value != chosen[axis][0]
        }
        try:
            trial = _trial(config, changes)
        except ConfigError:
            continue  # a combination that is none
        found[trial.name] = trial
    recipe, *others = found.values()
    # By axis, because a budget may end before all of them.
    names = [flag(axis) for axis in axes]
    single = sorted(
        (trial for trial in others if "," not in trial.name),
        key=lambda trial: names.index(trial.name.split(" ")[0]),
    )
    rest = [trial for trial in others if "," in trial.name]
    random.Random(_SEED).shuffle(rest)
    return [recipe, *single, *rest]


def _trial(config: RunConfig, changes: dict[str, Any]) -> Trial:
    fields = dict(changes)
    if fields.get(AUGMENT) == "host":
        fields["resize_on"] = "host"
    if BATCH in fields:
        config = dataclasses.replace(config, global_batch_size=fields.pop(BATCH))
    for section in ("data", "runtime"):
        part = getattr(config, section)
        own = {name: value for name, value in fields.items() if hasattr(part, name)}
        config = dataclasses.replace(config, **{section: dataclasses.replace(part, **own)})
    name = ", ".join(f"{flag(axis)} {value}" for axis, value in changes.items())
    return Trial(name or RECIPE, config)
