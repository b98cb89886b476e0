"""The layout of a run folder: the only code that knows its file names.

Every file appears whole or not at all: it is written beside its place and then renamed. An OSError
(a full disk, a read-only folder) becomes a one-line `RunDirError`.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import reprlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from fastcifar import config_file
from fastcifar.config import RunConfig
from fastcifar.errors import ConfigError, RunDirError


def default_path(recipe: str) -> Path:
    """Where a run goes that was given no folder: runs/RECIPE-UTCTIME."""
    return Path("runs") / f"{recipe}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"


@contextmanager
def claimed(path: str | Path) -> Iterator[Path]:
    """Make the folder `path`, or `path-2`, `path-3`, … where another run has it, and name it.

    Making it is what claims it, so that runs started in one second have a folder each. If nothing
    was written into it in the end, it goes again.

    Raises:
        RunDirError: if the disk refuses.
    """
    path = Path(path)
    number = itertools.count(2)
    own = path
    with refusing_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                own.mkdir()
                break
            except FileExistsError:
                own = path.with_name(f"{path.name}-{next(number)}")
    try:
        yield own
    finally:
        with suppress(OSError):  # not empty
            own.rmdir()


@contextmanager
def refusing_os_errors(what: Path | str) -> Iterator[None]:
    """Turn an OSError inside into a `RunDirError` that names `what`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunDirError(
            f"{what} cannot be written: {reason}. Free space there, or choose another place"
        ) from error


def write_whole(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file beside `path` by `write(file)` and rename it into place.

    Raises:
        RunDirError: if the disk refuses; no part of the file is left behind.
    """
    partial = path.with_name(f".{path.name}.partial")
    with refusing_os_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _plain(value: Any) -> Any:
    """NaN and infinities have no JSON form; NumPy scalars are not JSON either."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file by name.

    Raises:
        RunDirError: if the file is absent, damaged or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise RunDirError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile and NumPy fail in a dozen ways on damaged bytes
        raise RunDirError(f"{path} is damaged: {error}") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RunDirError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RunDirError(f"{path} must be text. Received: {error}") from error


def _parse(text: str, where: str) -> dict:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunDirError(f"{where} must be JSON. Received: {error}") from error
    if not isinstance(value, dict):
        raise RunDirError(f"{where} must be a JSON object. Received: {reprlib.repr(value)}")
    return value


class RunDir:
    """A run folder and its files."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_path = self.path / "config.json"
        self.environment_path = self.path / "environment.json"
        self.data_path = self.path / "data.npz"
        self.metrics_path = self.path / "metrics.jsonl"
        self.summary_path = self.path / "summary.json"
        self.samples_path = self.path / "samples.npz"
        self.checkpoints_path = self.path / "checkpoints"
        self.plots_path = self.path / "plots"
        self.tensorboard_path = self.path / "tensorboard"

    def worker_log_path(self, worker: int) -> Path:
        """Where a worker of several writes what it shows."""
        return self.path / "logs" / f"worker-{worker}.log"

    @classmethod
    def create(
        cls,
        path: str | Path,
        config: RunConfig,
        environment: dict,
        data: dict[str, np.ndarray] | None = None,
    ) -> RunDir:
        """Start a new run folder; `data` is what `write_data` takes.

        Raises:
            RunDirError: if it already holds a run or cannot be written.
        """
        run = cls(path)
        run.check_unused()
        run.write_environment(environment)
        if data is not None:
            run.write_data(**data)
        run.write_config(config)  # last: it is what makes the folder a run
        return run

    def withdraw(self) -> None:
        """Let a run that never came to a checkpoint be no run, so that the folder is free again.

        Raises:
            RunDirError: if the disk refuses.
        """
        with refusing_os_errors(self.path):
            for path in (self.config_path, self.environment_path):
                path.unlink(missing_ok=True)

    @classmethod
    def open(cls, path: str | Path) -> RunDir:
        """Open an existing run folder.

        Raises:
            RunDirError: if `path` is not a run folder.
        """
        run = cls(path)
        if not run.holds_run():
            raise RunDirError(f"{run.path} is not a run folder: it has no {run.config_path.name}")
        return run

    def holds_run(self) -> bool:
        """Whether a run was started here."""
        return os.path.exists(self.config_path)  # Path.exists raises where the path is unusable

    def check_unused(self) -> None:
        """Refuse a folder in which a run was started, and a path that is not a folder.

        Raises:
            RunDirError: naming the path and the mend.
        """
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise RunDirError(f"{self.path} is not a folder: choose another --run-dir")
        if self.holds_run():
            raise RunDirError(
                f"run folder {self.path} already holds a run. "
                "Add --resume to go on with it, or choose another --run-dir"
            )

    def read_config(self) -> RunConfig:
        """The resolved configuration of the run.

        Raises:
            RunDirError: if config.json does not hold one.
        """
        try:
            return config_file.read(self.config_path)
        except ConfigError as error:
            raise RunDirError(str(error)) from error

    def write_config(self, config: RunConfig) -> None:
        """Replace config.json."""
        self._write_json(self.config_path, config_file.to_dict(config))

    def read_environment(self) -> dict:
        """The machine and the versions that the run was started on."""
        return self._read_json(self.environment_path)

    def write_environment(self, environment: dict) -> None:
        """Replace environment.json; see `fastcifar.environment.fingerprint`."""
        self._write_json(self.environment_path, environment)

    def read_data(self) -> dict[str, np.ndarray] | None:
        """What the run is trained on (`fastcifar.training.same_data`), or None if it is not told.

        Raises:
            RunDirError: if the file cannot be read or is damaged.
        """
        return read_arrays(self.data_path) if self.data_path.exists() else None

    def write_data(self, **arrays: np.ndarray) -> None:
        """Replace what the run is trained on; see `read_data`."""
        write_whole(self.data_path, lambda file: np.savez(file, allow_pickle=False, **arrays))

    def read_metrics(self) -> list[dict]:
        """One dict per finished epoch; empty where none is finished.

        Raises:
            RunDirError: if the file cannot be read or is damaged.
        """
        if not self.metrics_path.exists():
            return []
        lines = enumerate(_read_text(self.metrics_path).splitlines(), start=1)
        return [_parse(line, f"{self.metrics_path} line {i}") for i, line in lines if line]

    def write_metrics(self, epochs: list[dict]) -> None:
        """Replace metrics.jsonl (a resumed run drops what came after its checkpoint)."""
        text = "".join(json.dumps(_plain(epoch), allow_nan=False) + "\n" for epoch in epochs)
        write_whole(self.metrics_path, lambda file: file.write(text.encode()))

    def read_summary(self) -> dict | None:
        """The end of the run, or None where it has not come yet."""
        return self._read_json(self.summary_path) if self.summary_path.exists() else None

    def write_summary(self, summary: dict) -> None:
        """Replace summary.json."""
        self._write_json(self.summary_path, summary)

    def read_samples(self) -> dict[str, np.ndarray] | None:
        """A few test images [M,H,W,3] with labels [M] and predictions [M], or None.

        Raises:
            RunDirError: if the file cannot be read or is damaged.
        """
        return read_arrays(self.samples_path) if self.samples_path.exists() else None

    def write_samples(self, **arrays: np.ndarray) -> None:
        """Replace the samples; see `read_samples`."""
        write_whole(
            self.samples_path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays)
        )

    def _write_json(self, path: Path, value: dict) -> None:
        text = json.dumps(_plain(value), indent=2, allow_nan=False) + "\n"
        write_whole(path, lambda file: file.write(text.encode()))

    def _read_json(self, path: Path) -> dict:
        return _parse(_read_text(path), str(path))
