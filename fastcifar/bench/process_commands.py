"""The benchmarks whose rows have a process of their own: from arguments to a record.

This process keeps the record and decides who works when. It does not import TensorFlow, and so
holds no memory of a GPU.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastcifar import config_file, environment, recipes
from fastcifar.augment import policies
from fastcifar.bench import flags, rungs
from fastcifar.bench.flags import MeasureFlags
from fastcifar.bench.process_flags import (
    AccuracyFlags,
    CuresFlags,
    LadderFlags,
    PrecisionFlags,
    ScalingFlags,
    StepFlags,
    TuneFlags,
)
from fastcifar.bench.processes import row_process
from fastcifar.bench.processes.row_process import Processes
from fastcifar.bench.recording import measure_into_record
from fastcifar.config import RunConfig
from fastcifar.errors import ConfigError


def startup(arguments: Sequence[str]) -> int:
    """`fastcifar bench startup`; returns the exit status."""
    from fastcifar.bench.startup import StartupPlan, measure_startup

    given, rest = flags.split(arguments, MeasureFlags)
    config = _config(rest, "bench startup")
    plan = StartupPlan(**_long(given))
    return _measure(
        "startup",
        arguments,
        given,
        config,
        lambda put: measure_startup(config, plan, put, row_process.start),
    )


def precision(arguments: Sequence[str]) -> int:
    """`fastcifar bench precision`; returns the exit status."""
    from fastcifar.bench.precision import PrecisionPlan, measure_precision

    given, rest = flags.split(arguments, PrecisionFlags)
    flags.reserve(rest, "bench precision", ("precision", "tf32"))
    config = _config(rest, "bench precision")
    plan = PrecisionPlan(
        steps=given.steps,
        include_fp16=given.include_fp16,
        seeds=given.seeds or 0,
        **_long(given),
    )
    return _measure(
        "precision",
        arguments,
        given,
        config,
        lambda put: measure_precision(config, plan, put, row_process.start),
    )


def step(arguments: Sequence[str]) -> int:
    """`fastcifar bench step`; returns the exit status."""
    from fastcifar.bench.step_rates import StepPlan, fastest, measure_step

    given, rest = flags.split(arguments, StepFlags)
    flags.reserve(rest, "bench step", ("precision", "tf32", "xla"))
    config = _config(rest, "bench step")
    if given.dump_hlo is not None:
        asked = {"config": config_file.to_dict(fastest(config)), "path": given.dump_hlo}
        with Processes(row_process.start) as processes:
            for written in processes.start("hlo").ask("write_hlo", **asked):
                print(written)
        return 0
    plan = StepPlan(**_long(given))
    return _measure(
        "step",
        arguments,
        given,
        config,
        lambda put: measure_step(config, plan, put, row_process.start),
    )


def levers(arguments: Sequence[str]) -> int:
    """`fastcifar bench levers`; returns the exit status."""
    from fastcifar.bench.levers import LeversPlan, measure_levers

    given, rest = flags.split(arguments, MeasureFlags)
    config = _config(rest, "bench levers")
    plan = LeversPlan(**_long(given))
    return _measure(
        "levers",
        arguments,
        given,
        config,
        lambda put: measure_levers(config, plan, put, row_process.start),
    )


def accuracy(arguments: Sequence[str]) -> int:
    """`fastcifar bench accuracy`; returns the exit status."""
    from fastcifar.bench.accuracy import AccuracyPlan, measure_accuracy

    given, rest = flags.split(arguments, AccuracyFlags)
    known = [argument for argument in rest if argument in recipes.names()]
    others = [argument for argument in rest if argument not in recipes.names()]
    orders = [[recipe, *others] for recipe in dict.fromkeys(known)] or [others]
    found = [_config(order, "bench accuracy") for order in orders]
    configs = {config.recipe: config for config in found}
    plan = AccuracyPlan(given.seeds, given.target)
    return measure_into_record(
        "accuracy",
        arguments,
        given,
        environment.fingerprint(),
        {recipe: config_file.to_dict(config) for recipe, config in configs.items()},
        lambda put: measure_accuracy(configs, plan, put, row_process.start),
    )


def tune(arguments: Sequence[str]) -> int:
    """`fastcifar bench tune`; returns the exit status, 0 also where a combination failed."""
    from fastcifar.bench.tune import TunePlan, measure_tune, write_config

    given, rest = flags.split(arguments, TuneFlags)
    config = _config(rest, "bench tune")
    out = flags.out_path(given, "tune")
    given = dataclasses.replace(given, out=str(out))
    written = Path(given.write) if given.write else out.with_name(f"{out.stem}-config.json")
    plan = TunePlan(budget_s=60 * given.budget, axes=given.chosen, **_long(given))

    def work(put: Callable[..., None]) -> None:
        write_config(written, measure_tune(config, plan, put, row_process.start))

    # What does not fit is what is looked for.
    _measure("tune", arguments, given, config, work)
    print(f"the winner: fastcifar train --config {shlex.quote(str(written))}")
    return 0


def ladder(arguments: Sequence[str]) -> int:
    """`fastcifar bench ladder`; returns the exit status."""
    from fastcifar.bench.ladder import LadderPlan, measure_ladder

    given, rest = flags.split(arguments, LadderFlags)
    flags.reserve(rest, "bench ladder", rungs.FIELDS, "--rungs")
    config = _config(rest, "bench ladder")
    plan = LadderPlan(rungs=given.chosen, **_long(given))
    return _measure(
        "ladder",
        arguments,
        given,
        config,
        lambda put: measure_ladder(config, plan, put, row_process.start),
    )


def cures(arguments: Sequence[str]) -> int:
    """`fastcifar bench cures`; returns the exit status."""
    from fastcifar.bench.cures import AFTER, BEFORE, CuresPlan, measure_cures

    given, rest = flags.split(arguments, CuresFlags)
    if rest and not rest[0].startswith("-"):
        raise ConfigError(f"bench cures has recipes of its own: leave {rest[0]} out")
    cases = [
        (
            case,
            {
                which: _config(case.arguments(which, rest), "bench cures")
                for which in (BEFORE, AFTER)
            },
        )
        for case in given.chosen
    ]
    plan = CuresPlan(**_long(given))
    return measure_into_record(
        "cures",
        arguments,
        given,
        environment.fingerprint(),
        {case.name: config_file.to_dict(configs[AFTER]) for case, configs in cases},
        lambda put: measure_cures(cases, plan, put, row_process.start),
    )


def scaling(arguments: Sequence[str]) -> int:
    """`fastcifar bench scaling`; returns the exit status."""
    from fastcifar.bench.scaling import ScalingPlan, measure_scaling

    given, rest = flags.split(arguments, ScalingFlags)
    flags.reserve(rest, "bench scaling", ("devices", "logical_devices", "strategy"), "--replicas")
    config = _config(rest, "bench scaling")
    plan = ScalingPlan(replicas=given.numbers, **_long(given))
    return _measure(
        "scaling",
        arguments,
        given,
        config,
        lambda put: measure_scaling(config, plan, put, row_process.start),
    )


def _config(rest: Sequence[str], command: str) -> RunConfig:
    config = flags.run_config(rest, command)
    for phase in config.phases:
        policies.get(phase.augment)  # a mistake here should not wait for a process
    return config


def _long(given: MeasureFlags) -> dict[str, Any]:
    """How long to measure, as far as the flags say so; the plans know the rest."""
    asked = {"seconds": given.seconds, "rounds": given.rounds}
    return {name: value for name, value in asked.items() if value is not None}


def _measure(
    kind: str,
    arguments: Sequence[str],
    given: MeasureFlags,
    config: RunConfig,
    work: Callable[[Callable[..., None]], None],
) -> int:
    # What TensorFlow knows of the machine comes with the first row.
    return measure_into_record(
        kind, arguments, given, environment.fingerprint(), config_file.to_dict(config), work
    )
