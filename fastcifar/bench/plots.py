"""The plots of a record, drawn from the record alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from fastcifar.bench.drawing import (
    accuracy,
    augment,
    cures,
    ladder,
    overheads,
    parts,
    precision,
    scaling,
    sources,
    stages,
    startup,
    transfer,
)
from fastcifar.bench.record import Record
from fastcifar.rundir import write_whole

# Kinds of records with figures of their own: record -> figures by what stands behind its name.
_KINDS: dict[str, Callable[[Record], dict[str, Figure]]] = {
    "accuracy": accuracy.figures,
    "augment": augment.figures,
    "cures": cures.figures,
    "ladder": ladder.figures,
    "overheads": overheads.figures,
    "precision": precision.figures,
    "scaling": scaling.figures,
    "sources": sources.figures,
    "stages": stages.figures,
    "startup": startup.figures,
    "transfer": transfer.figures,
}


def write_plots(record_path: str | Path, record: Record) -> list[Path]:
    """Draw what a record has the data for, as PNG files beside it; returns them.

    Raises:
        RunDirError: if they cannot be written.
    """
    path = Path(record_path)
    written = []
    for name, figure in figures(record).items():
        suffix = f"-{name}" if name else ""
        picture = path.with_name(f"{path.stem}{suffix}.png")
        # Without the library's version inside, the same record gives the same bytes.
        write_whole(picture, functools.partial(figure.savefig, metadata={"Software": None}))
        written.append(picture)
    return written


def figures(record: Record) -> dict[str, Figure]:
    """The figures of a record by what stands behind its name; the rates stand alone."""
    found: dict[str, Figure] = {}
    if record.kind in _KINDS:
        found |= _KINDS[record.kind](record)
    elif any(row.images_per_s for row in record.rows):
        found[""] = parts.rates(record)
    return found
