"""Checkpoints: one file each, holding all state of a run, whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastcifar.errors import RunDirError
from fastcifar.rundir import read_arrays, refusing_os_errors, write_whole

KEEP = 2
_NAME = re.compile(r"step-(\d{8})\.npz")


@dataclass
class Progress:
    """Where a run stands: everything that is not a variable and that exact resume needs.

    Attributes:
        step: steps done over the whole run.
        steps_per_epoch: of the data and batch size the run was started with.
        epochs: the finished epochs' entries of metrics.jsonl.
        partial: sums over the steps done of an unfinished epoch.
        seconds: of the clock's accounts so far.
        skipped_steps: steps left out by loss scaling.
        best_epoch: the epoch with the best validation accuracy so far, or None.
        best_accuracy: that accuracy.
        warnings: lines for summary.json.
        rate_scale: what the schedule's rates are multiplied by, after rollbacks.
        rollbacks: each with its reason, the step it went back to and the scale from there on.
        data: the identity of what the run is trained on (`fastcifar.data.identity`); empty in a
            checkpoint of an older version.
    """

    step: int = 0
    steps_per_epoch: int = 0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    partial: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    skipped_steps: int = 0
    best_epoch: int | None = None
    best_accuracy: float = -1.0
    warnings: list[str] = field(default_factory=list)
    rate_scale: float = 1.0
    rollbacks: list[dict[str, Any]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """The epoch that the last step was part of, from 1."""
        return max(1, -(-self.step // max(1, self.steps_per_epoch)))


class Checkpoints:
    """The checkpoints of one run: the newest few, and the best by validation accuracy.

    The arrays are plain NumPy in a zip archive (`numpy.savez`), whose checksums tell a damaged file
    from a whole one.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.best_path = folder / "best.npz"

    def paths(self) -> list[Path]:
        """The checkpoints by step, oldest first (without the best)."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def best(self) -> Path:
        """The best checkpoint by validation accuracy.

        Raises:
            RunDirError: if there is none.
        """
        if not self.best_path.exists():
            raise RunDirError(
                f"{self.folder} holds no best checkpoint: the run had no validation images, or "
                "ended before its first epoch did"
            )
        return self.best_path

    def save(self, arrays: dict[str, np.ndarray], progress: Progress, *, best: bool) -> Path:
        """Write a checkpoint, drop all but the newest few, and keep it as the best if it is.

        Raises:
            RunDirError: if the disk refuses; earlier checkpoints are then left as they were.
        """
        path = self.folder / f"step-{progress.step:08d}.npz"
        encoded = np.frombuffer(json.dumps(vars(progress)).encode(), np.uint8)
        write_whole(
            path, lambda file: np.savez(file, allow_pickle=False, progress=encoded, **arrays)
        )
        if best:
            self._keep_as_best(path)
        with refusing_os_errors(self.folder):
            for old in self.paths()[:-KEEP]:
                old.unlink()
        return path

    def _keep_as_best(self, path: Path) -> None:
        link = self.best_path.with_suffix(".link")
        with refusing_os_errors(self.best_path):
            link.unlink(missing_ok=True)
            try:
                os.link(path, link)  # no second copy on disk
            except OSError:  # a file system without hard links
                with path.open("rb") as file:
                    write_whole(self.best_path, lambda copy: shutil.copyfileobj(file, copy))
                return
            try:
                os.replace(link, self.best_path)
            finally:
                link.unlink(missing_ok=True)

    def newest(self) -> Path:
        """The newest checkpoint.

        Raises:
            RunDirError: if there is none.
        """
        paths = self.paths()
        if not paths:
            raise RunDirError(f"{self.folder} holds no checkpoint: the run ended before its first")
        return paths[-1]

    def chosen(self, which: str) -> tuple[str, Path]:
        """Return what `auto`, `best` or `last` stands for, and where it is.

        Args:
            which: `auto` is the best where there is one, and else the last.

        Raises:
            RunDirError: if there is no such checkpoint.
        """
        if which == "best" or (which == "auto" and self.best_path.exists()):
            return "best", self.best()
        return "last", self.newest()

    def newest_good(self) -> tuple[Path, dict[str, np.ndarray], Progress]:
        """Read the newest checkpoint in which all values are finite: (path, arrays, progress).

        Raises:
            RunDirError: if there is none, or one on the way is damaged.
        """
        self.newest()
        for path in (*reversed(self.paths()), *filter(Path.exists, [self.best_path])):
            arrays, progress = load(path)
            if first_not_finite(arrays) is None:
                return path, arrays, progress
        raise RunDirError(
            f"{self.folder} holds no good checkpoint: in each of them are values that are not "
            "finite. Start a new run in another --run-dir, at a lower --learning-rate"
        )

    def drop_after(self, step: int) -> None:
        """Delete the checkpoints of later steps, which a run that went back has left behind.

        Raises:
            RunDirError: if the disk refuses.
        """
        with refusing_os_errors(self.folder):
            for path in self.paths():
                if int(path.stem.removeprefix("step-")) > step:
                    path.unlink()


def first_not_finite(arrays: dict[str, np.ndarray]) -> str | None:
    """Name the first array that holds a NaN or an infinity; None where all values are finite."""
    return next((name for name, array in arrays.items() if not np.isfinite(array).all()), None)


def load(path: Path) -> tuple[dict[str, np.ndarray], Progress]:
    """Read a checkpoint: its arrays by name, and where the run stands.

    Raises:
        RunDirError: if the file is absent, damaged or not a checkpoint.
    """
    arrays = read_arrays(path)
    try:
        return arrays, Progress(**json.loads(arrays.pop("progress").tobytes()))
    except (KeyError, ValueError, TypeError) as error:
        raise RunDirError(f"{path} is not a checkpoint: {error}") from error
