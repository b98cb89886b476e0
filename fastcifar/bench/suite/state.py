"""What a folder of the suite holds so far: OUT/suite.json. Standard library only.

{"schema": 1, "setting": {…}, "tasks": {RECORD: {"state": …, "seconds": …, "why": …}}}
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastcifar.errors import ConfigError

SCHEMA = 1
FILE = "suite.json"
# What became of a task. One that is running in the file was interrupted.
RUNNING, COMPLETE, ENDED, FAILED = "running", "complete", "ended", "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        state: `running`, `complete`, `ended` (its time ran out; what it had recorded stays) or
            `failed` (it left nothing).
        seconds: that it took.
        why: what is wrong, in one line; empty if nothing is.
    """

    state: str
    seconds: float = 0.0
    why: str = ""


class State:
    """The outcomes by the names of records, on disk after every change.

    Args:
        out: the folder; made if it is not there.
        setting: what the records in it depend on; another one needs another folder.

    Raises:
        ConfigError: if the folder cannot be written, or holds records of another setting.
    """

    def __init__(self, out: Path, setting: dict[str, Any]):
        self._path = out / FILE
        self._setting = setting
        self.outcomes: dict[str, Outcome] = {}
        try:
            out.mkdir(parents=True, exist_ok=True)
            if self._path.exists():
                self._read()
            self._write()
        except OSError as error:
            raise ConfigError(
                f"out {out} must be a folder that can be written: {error.strerror}"
            ) from error

    def put(self, record: str, outcome: Outcome) -> None:
        """Remember what became of the task that makes `record`."""
        self.outcomes[record] = outcome
        self._write()

    def _read(self) -> None:
        try:
            values = json.loads(self._path.read_text(encoding="utf-8"))
            found = values["setting"]
            tasks = {name: Outcome(**outcome) for name, outcome in values["tasks"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{self._path} must be what this suite wrote: delete it, or choose another folder. "
                f"Received: {error}"
            ) from error
        if found != self._setting:
            raise ConfigError(
                f"out {self._path.parent} holds records measured with {found}: choose another "
                f"folder. Received: {self._setting}"
            )
        self.outcomes = tasks

    def _write(self) -> None:
        tasks = {name: asdict(outcome) for name, outcome in self.outcomes.items()}
        text = json.dumps({"schema": SCHEMA, "setting": self._setting, "tasks": tasks}, indent=1)
        partial = self._path.with_name(f".{FILE}.partial")
        partial.write_text(text + "\n", encoding="utf-8")
        os.replace(partial, self._path)
