"""Draw the pictures of all records in benchmarks/results again, from the records alone.

`scripts/tables` runs it after `fastcifar.bench.pages`: what a page shows, table or picture, is
generated. With the same matplotlib the same record gives the same bytes. No TensorFlow here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from fastcifar.bench import plots, record
from fastcifar.bench.pages import RESULTS


def records(results: Path) -> Iterator[Path]:
    """The records of a folder; a JSON file without a schema, such as a memory curve, is none."""
    for path in sorted(results.glob("*.json")):
        if "schema" in json.loads(path.read_text(encoding="utf-8")):
            yield path


def main(root: Path = Path()) -> None:
    """Draw all pictures anew; print those that have changed.

    Raises:
        ConfigError: if a record is damaged.
        RunDirError: if a picture cannot be written.
    """
    for path in records(root / RESULTS):
        before = {p: p.read_bytes() for p in path.parent.glob(f"{path.stem}*.png")}
        for picture in plots.write_plots(path, record.read(path)):
            if picture.read_bytes() != before.get(picture):
                print(picture)


if __name__ == "__main__":
    main()
