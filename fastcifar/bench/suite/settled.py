"""Records that say nothing of the folders they were made in. Standard library only."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

# How the documentation's records name the folder of images, and the place where records are kept.
DATA, RESULTS = "DIR", "benchmarks/results"


def settle(path: Path, *, out: Path, data: Path | None, commit: str | None) -> list[str]:
    """Rewrite a record: folders by their roles, and the commit where it is not known.

    Args:
        path: of the record.
        out: the suite's folder.
        data: of the images.
        commit: of the source; a copy without its history does not know it.

    Returns:
        The names of the rows that failed, for `tables.failed` is not to be had here.
    """
    values = json.loads(path.read_text(encoding="utf-8"))
    # Longer paths first: one may lie in the other.
    roles = {str(out): RESULTS} | ({str(data): DATA} if data is not None else {})
    for folder in sorted(roles, key=len, reverse=True):
        values = _replaced(values, folder, roles[folder])
    if commit is not None and values["environment"].get("commit") is None:
        values["environment"]["commit"] = commit
    partial = path.with_name(f".{path.name}.partial")
    text = json.dumps(values, indent=1, ensure_ascii=False)
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, path)
    return [row["name"] for row in values["rows"] if _failed(row)]


def measured(path: Path) -> bool:
    """Whether a record holds any row with a figure."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    plain = {"name", "images_per_s", "check", "error", "ratios"}
    return any(row["images_per_s"] is not None or set(row) - plain for row in rows)


def _failed(row: dict[str, Any]) -> bool:
    return row["error"] is not None or row["check"].startswith("failed")


def _replaced(value: Any, folder: str, role: str) -> Any:
    if isinstance(value, str):
        return value.replace(folder, role)
    if isinstance(value, list):
        return [_replaced(item, folder, role) for item in value]
    if isinstance(value, dict):
        return {key: _replaced(item, folder, role) for key, item in value.items()}
    return value
