"""Read the file that TensorFlow's profiler writes, `*.xplane.pb`.

It holds planes (a GPU, the host), planes hold lines (a stream, a thread), lines hold events.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastcifar.errors import ConfigError, FastcifarError


@dataclass(frozen=True)
class Event:
    """Something that took time.

    Attributes:
        name: of a kernel, a copy, an operation.
        begin_ns, end_ns: on the clock of its plane.
        facts: what the profiler says of it, such as `tf_op` or `hlo_op`.
    """

    name: str
    begin_ns: float
    end_ns: float
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def duration_ns(self) -> float:
        """How long it took."""
        return self.end_ns - self.begin_ns


@dataclass(frozen=True)
class Line:
    """The events of one stream or thread, in no order."""

    name: str
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Plane:
    """The lines of one device, or of the host."""

    name: str
    lines: tuple[Line, ...]


def find(path: Path) -> Path:
    """Return the newest trace in a run's folder, or `path` itself if it is a file.

    Raises:
        ConfigError: if there is none.
    """
    if path.is_file():
        return path
    found = sorted(path.rglob("*.xplane.pb"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise ConfigError(
            f"{path} must be a trace, or a run that has one: train with --profile STEPS. "
            f"Received: {'a folder without *.xplane.pb' if path.is_dir() else 'nothing there'}"
        )
    return found[-1]


def read(path: Path) -> tuple[Plane, ...]:
    """Read a trace.

    Raises:
        ConfigError: if the file cannot be read or is no trace.
        FastcifarError: if this TensorFlow does not bring the format's description.
    """
    space = _description().XSpace()
    try:
        space.ParseFromString(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"trace {path} cannot be read: {error.strerror}") from error
    except Exception as error:  # protobuf's own, whose place has moved between versions
        raise ConfigError(f"trace {path} must be an *.xplane.pb. Received: {error}") from error
    return tuple(_plane(plane) for plane in space.planes)


def _description() -> Any:
    """The module of the format, which comes with TensorFlow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from tensorflow.tsl.profiler.protobuf import xplane_pb2
    except ImportError as error:
        raise FastcifarError(
            f"this TensorFlow does not bring the description of its traces: {error}"
        ) from error
    return xplane_pb2


def _plane(plane: Any) -> Plane:
    names = {key: value.name for key, value in plane.event_metadata.items()}
    kinds = {key: value.name for key, value in plane.stat_metadata.items()}

    def value(stat: Any) -> Any:
        which = stat.WhichOneof("value")
        if which is None:
            return None
        found = getattr(stat, which)
        return kinds.get(found, "") if which == "ref_value" else found

    def event(line: Any, found: Any) -> Event:
        begin = line.timestamp_ns + found.offset_ps / 1e3
        facts = {kinds.get(stat.metadata_id, ""): value(stat) for stat in found.stats}
        name = names.get(found.metadata_id, "")
        return Event(name, begin, begin + found.duration_ps / 1e3, facts)

    lines = (
        Line(line.display_name or line.name, tuple(event(line, found) for found in line.events))
        for line in plane.lines
    )
    return Plane(plane.name, tuple(lines))
