"""The record of a benchmark: one JSON file, from which tables and plots are generated.

    {"schema": 1, "kind": …, "command": …, "environment": {…}, "config": {…},
     "rows": [{"name": …, "images_per_s": {"median", "low", "high", "n"} | null,
               "check": "ok" | "failed: …" | "not applicable: …" | "not run: …",
               "error": null | …,
               "ratios": {NAME: {"median", "low", "high", "n"}}, FIGURE: …}]}

`low` and `high` of a rate are its quartiles over the rounds; those of a ratio are the ends of its
95 % interval (`fastcifar.bench.measure`).
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastcifar.errors import ConfigError, RunDirError
from fastcifar.rundir import write_whole

SCHEMA = 1
OK = "ok"
# A figure of a row that holds the values whose middle others are: {"import_s": [2.8, 2.9, …], …}.
EACH = "each"


@dataclass(frozen=True)
class Estimate:
    """A figure with its spread.

    Attributes:
        median: the figure.
        low, high: quartiles of a rate, or the ends of a ratio's 95 % interval.
        n: the rounds it was taken from.
    """

    median: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Row:
    """One line of a benchmark.

    A row whose answer is wrong has no number: whatever is given, `images_per_s` is None and
    `ratios` and `figures` are empty where `check` is not `ok` or `error` is set.

    Attributes:
        name: what was measured; a record has one row of each name.
        images_per_s: the rate, or None.
        check: `ok`, `failed: …` (the answer is wrong), `not applicable: …` or `not run: …` (it
            needs something that is not here, or that was not asked for).
        error: what stopped it, in one line, or None.
        ratios: this row's rate over that of the row named by the key.
        figures: anything else, such as `us_per_image` or `startup_s`; JSON values.
    """

    name: str
    images_per_s: Estimate | None = None
    check: str = OK
    error: str | None = None
    ratios: dict[str, Estimate] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        taken = sorted(_ROW_KEYS & set(self.figures))
        if taken:
            raise ValueError(f"figures must not be named as a field of a row. Received: {taken[0]}")
        if self.check != OK or self.error is not None:
            object.__setattr__(self, "images_per_s", None)
            object.__setattr__(self, "ratios", {})
            object.__setattr__(self, "figures", {})


_ROW_KEYS = frozenset(f.name for f in dataclasses.fields(Row)) - {"figures"}


@dataclass(frozen=True)
class Record:
    """A benchmark and what it was measured on.

    Attributes:
        kind: which benchmark: `stages`, `pipelines`, `fit` …
        command: the line that repeats it.
        environment: see `fastcifar.environment.fingerprint`.
        config: what was measured, as JSON values.
        rows: in the order of the table.
    """

    kind: str
    command: str
    environment: dict[str, Any]
    config: dict[str, Any]
    rows: tuple[Row, ...] = ()

    def row(self, name: str) -> Row | None:
        """The row of that name, or None."""
        return next((row for row in self.rows if row.name == name), None)

    def with_row(self, row: Row) -> Record:
        """Return the record with `row` in the place of the one of its name, or at the end."""
        rows = {old.name: old for old in self.rows} | {row.name: row}
        return dataclasses.replace(self, rows=tuple(rows.values()))


class RecordFile:
    """A record that is on disk, whole, after every row: an interrupted benchmark keeps its rows.

    Args:
        path: the JSON file; its folder is made.
        record: to start with.

    Raises:
        RunDirError: if the file cannot be written.
    """

    def __init__(self, path: str | Path, record: Record):
        self.path = Path(path)
        self.record = record
        self._write()

    def put(self, *rows: Row, environment: dict[str, Any] | None = None) -> None:
        """Add rows, or replace those of their names.

        Args:
            rows: in the order of the table.
            environment: what they were measured in, where that is known only now.
        """
        if environment is not None:
            self.record = dataclasses.replace(self.record, environment=environment)
        for row in rows:
            self.record = self.record.with_row(row)
        self._write()

    def _write(self) -> None:
        write(self.path, self.record)


def write(path: str | Path, record: Record) -> None:
    """Write the file, whole or not at all.

    Raises:
        RunDirError: if the disk refuses.
    """
    text = json.dumps(to_dict(record), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    try:
        write_whole(Path(path), lambda file: file.write(text.encode()))
    except RunDirError as error:
        reason = error.__cause__ if isinstance(error.__cause__, OSError) else None
        raise RunDirError(
            f"the record {path} cannot be written: {reason.strerror if reason else error}. "
            "Choose another --out"
        ) from error


def read(path: str | Path) -> Record:
    """Read a record.

    Raises:
        ConfigError: if the file is absent, damaged, or of another schema.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"record {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"record {path} must be JSON. Received: {error}") from error
    schema = values.get("schema") if isinstance(values, dict) else None
    if schema != SCHEMA:
        raise ConfigError(f"record {path} must be of schema {SCHEMA}. Received: {schema}")
    try:
        return from_dict(values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"record {path} must have the keys of schema {SCHEMA}. Received: {problem}"
        ) from error


def to_dict(record: Record) -> dict[str, Any]:
    """Return the record as JSON values, figures among a row's other keys."""
    values = {"schema": SCHEMA, **dataclasses.asdict(record)}
    values["rows"] = [
        {**{key: row[key] for key in row if key != "figures"}, **row["figures"]}
        for row in values["rows"]
    ]
    return values


def from_dict(values: dict[str, Any]) -> Record:
    """Inverse of `to_dict`."""
    rows = []
    for row in values["rows"]:
        rate = row["images_per_s"]
        rows.append(
            Row(
                name=row["name"],
                images_per_s=None if rate is None else Estimate(**rate),
                check=row["check"],
                error=row["error"],
                ratios={name: Estimate(**ratio) for name, ratio in row["ratios"].items()},
                figures={key: value for key, value in row.items() if key not in _ROW_KEYS},
            )
        )
    return Record(
        kind=values["kind"],
        command=values["command"],
        environment=values["environment"],
        config=values["config"],
        rows=tuple(rows),
    )
