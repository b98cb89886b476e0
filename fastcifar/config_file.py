"""Configurations as JSON: what RUN/config.json holds and what `--config FILE` reads."""

from __future__ import annotations

import dataclasses
import json
import reprlib
import typing
from pathlib import Path
from typing import Any

from fastcifar.config import RunConfig
from fastcifar.errors import ConfigError, nearest


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Return the configuration as nested dicts and lists of JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(values: Any, default: RunConfig | None = None) -> RunConfig:
    """Build a configuration from nested dicts.

    Args:
        values: JSON values.
        default: gives the values of keys that are absent, down to the fields of its sections;
            phases are taken whole. Without it, absent keys have the fields' defaults.

    Raises:
        ConfigError: for a key that does not exist (with the nearest that does) or an illegal value.
    """
    return _build(RunConfig, values, default, "the configuration")


def _build(cls: type, values: Any, default: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise ConfigError(f"{where} must be an object. Received: {reprlib.repr(values)}")
    fields = {f.name for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in fields:
            raise ConfigError(
                f"{where} has no key {key!r}.{nearest(key, fields)} "
                f"Legal keys: {', '.join(sorted(fields))}"
            )
    arguments = {}
    for key, value in values.items():
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            inner = getattr(default, key) if default is not None else None
            arguments[key] = _build(typing.cast(type, hint), value, inner, key)
        elif typing.get_origin(hint) is tuple:
            if not isinstance(value, list):
                raise ConfigError(f"{key} must be a list. Received: {reprlib.repr(value)}")
            (inner_cls, _) = typing.get_args(hint)
            arguments[key] = tuple(
                _build(inner_cls, item, None, f"{key}[{i}]") for i, item in enumerate(value)
            )
        else:
            arguments[key] = value
    if default is not None:
        return dataclasses.replace(default, **arguments)
    return cls(**arguments)


def read(path: str | Path, default: RunConfig | None = None) -> RunConfig:
    """Read a configuration file.

    Args:
        path: a JSON file as `to_dict` describes it; it may hold some of the keys only.
        default: see `from_dict`.

    Raises:
        ConfigError: if the file is absent, is not JSON, or does not hold a configuration.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"config file {path} must be JSON. Received: {error}") from error
    try:
        return from_dict(values, default)
    except ConfigError as error:
        raise ConfigError(f"config file {path}: {error}") from error
