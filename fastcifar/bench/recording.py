"""From measured rows to what is left of a benchmark: record, plots, table, exit status."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastcifar.bench import flags, plots, record, tables
from fastcifar.bench.flags import MeasureFlags


def measure_into_record(
    kind: str,
    arguments: Sequence[str],
    given: MeasureFlags,
    environment: dict[str, Any],
    config: dict[str, Any],
    work: Callable[[Callable[..., None]], None],
) -> int:
    """Let `work` put its rows into a record, and show what there is, also where it is interrupted.

    Args:
        kind: of the benchmark.
        arguments: that it was given.
        given: those of them that say where the record goes.
        environment, config: of the record.
        work: measures; what it is called with takes the rows (`RecordFile.put`).

    Returns:
        The exit status: 1 where a row failed.
    """
    path = flags.out_path(given, kind)
    command = flags.command_line(kind, arguments)
    file = record.RecordFile(path, record.Record(kind, command, environment, config))
    try:
        work(file.put)
    finally:
        tables.show(file.record)
        written = [path, *plots.write_plots(path, file.record)]
        tables.console().print(
            f"record: {', '.join(map(str, written))}", markup=False, soft_wrap=True
        )
    return 1 if tables.failed(file.record) else 0
