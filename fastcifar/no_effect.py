"""Settings that change nothing: refused where they contradict each other, noted otherwise.

Whoever gives a flag expects something of it. Where what else was chosen leaves it without effect,
a table of rules says so. Only what the user gave counts, by a flag or in a configuration that
differs from its recipe: a recipe's own values for other cases are no mistake.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from typing import Any

from fastcifar import recipes
from fastcifar.config import DataConfig, PhaseConfig, RunConfig, flag
from fastcifar.errors import ConfigError
from fastcifar.no_effect_rules import (
    OF_DRAWING,
    OF_EVALUATION,
    OF_PREPARING,
    OF_THE_SOURCE,
    OF_TRAINING,
    Rule,
    Situation,
)


def given_fields(config: RunConfig, typed: Collection[str] = ()) -> frozenset[str]:
    """Return the fields that a user has given: flags, and what differs from the recipe."""
    known = config.recipe in recipes.names()
    base = recipes.get(config.recipe) if known else RunConfig(data=_default_data(config.data))
    sections = ("data", "model", "optimizer", "runtime")
    found = set(typed)
    for name in sections:
        found |= differing(getattr(config, name), getattr(base, name))
    phases = base.phases
    if len(phases) != len(config.phases):
        phases = (PhaseConfig(),) * len(config.phases)
    for mine, its in zip(config.phases, phases, strict=True):
        found |= differing(mine, its)
    return frozenset(found)


def _default_data(data: DataConfig) -> DataConfig:
    return DataConfig(source=data.source, data_path=data.data_path)


def differing(mine: Any, other: Any) -> set[str]:
    """Return the names of the fields in which two configurations of a kind differ."""
    names = [field.name for field in dataclasses.fields(mine)]
    return {name for name in names if getattr(mine, name) != getattr(other, name)}


def refuse(data: DataConfig, given: Collection[str]) -> None:
    """Refuse what the user has given of the data and its source would pass over.

    Raises:
        ConfigError: naming the setting, the reason and the remedy.
    """
    for rule in OF_THE_SOURCE:
        for name in rule.fields:
            if rule.refused and name in given and rule.when(data):
                value = getattr(data, name)
                raise ConfigError(f"{rule.why}. Received: {flag(name)} {value!r}")


def of_training(situation: Situation, given: Collection[str]) -> tuple[str, ...]:
    """Return a line for each field in `given` that has no effect on the run."""
    config = situation.config
    places = (config, config.data, config.model, config.optimizer, config.runtime)
    return (
        *_lines(OF_THE_SOURCE, config.data, given, [config.data]),
        *_lines(OF_TRAINING, situation, given, [*places, *config.phases]),
    )


def of_evaluation(data: DataConfig, typed: Collection[str]) -> tuple[str, ...]:
    """Return a line for each flag of the data that has no effect on an evaluation."""
    return _lines(OF_EVALUATION, data, typed, [data])


def of_drawing(data: DataConfig, typed: Collection[str]) -> tuple[str, ...]:
    """Return a line for each flag of the data that has no effect on what `augment` draws."""
    return _lines(OF_DRAWING, data, typed, [data])


def of_preparing(data: DataConfig, typed: Collection[str], flags: Any) -> tuple[str, ...]:
    """Return a line for each flag that has no effect on what `prepare` does.

    Args:
        data: the source, and what it is to be prepared with.
        typed: the flags given.
        flags: where their values are.
    """
    return _lines(OF_PREPARING, data, typed, [data, flags])


def _lines(
    rules: Iterable[Rule], asked: Any, given: Collection[str], places: list[Any]
) -> tuple[str, ...]:
    found: dict[str, str] = {}  # one reason for each field is enough
    for rule in rules:
        for name in rule.fields:
            if name in given and name not in found and rule.when(asked):
                why = rule.why.format(asked)
                found[name] = f"{_spelt(name, places)} has no effect: {why}"
    return tuple(found.values())


def _spelt(name: str, places: list[Any]) -> str:
    """Return a field as its flag with its value, or with those of the phases."""
    if name == "start_image_size":
        sizes = [(p.start_image_size, p.image_size) for p in places if isinstance(p, PhaseConfig)]
        return "--image-size " + ",".join(
            f"{low}:{high}" if low else f"{high}" for low, high in sizes
        )
    owners = [place for place in places if hasattr(place, name)]
    values = [getattr(owner, name) for owner in owners]
    if isinstance(values[0], bool) and not isinstance(owners[0], PhaseConfig):
        return f"--{flag(name)}" if values[0] else f"--no-{flag(name)}"
    shown = values if len(set(values)) > 1 else values[:1]
    texts = [str(v).lower() if isinstance(v, bool) else str(v) for v in shown]
    return f"--{flag(name)} {','.join(texts)}"
