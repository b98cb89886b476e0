"""A process of its own for one row, asked by the process that keeps the record. No TensorFlow here.

The asker decides who works when, so rows take turns (A B A B …) though each has its own process,
its own devices, threads and peak of memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from fastcifar.bench.measure import Described
from fastcifar.bench.processes import worker
from fastcifar.errors import FastcifarError, UserError

_ENV = {"TF_CPP_MIN_LOG_LEVEL": "3"}  # its chatter would fill the file that holds its last words


class Handle(Protocol):
    """What answers questions about one configuration; see `fastcifar.bench.processes.worker`."""

    def ask(self, do: str, **arguments: Any) -> Any:
        """Put a question and wait for its answer."""

    def close(self) -> None:
        """Let it go, with all that it holds."""


# The name of a row -> what answers for it.
Start = Callable[[str], Handle]


class OutOfMemory(Described):
    """A row needed more memory than the device or the host has."""


class RowProcess:
    """A worker in a process of its own.

    It ignores Ctrl-C, which reaches the whole process group: whoever asks it decides when it ends,
    and it ends by itself when its asker has gone.

    Args:
        environment: variables that it gets beside those of this process.
    """

    def __init__(self, environment: Mapping[str, str] | None = None):
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [sys.executable, "-m", worker.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env={**os.environ, **_ENV, **(environment or {})},
            text=True,
        )

    def ask(self, do: str, **arguments: Any) -> Any:
        """Put a question and wait for its answer.

        Raises:
            UserError: for a mistake in what the user gave.
            OutOfMemory: if the memory did not suffice, or the system ended the process.
            Described: for anything else that went wrong there, in one line.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise self._death()
        answer = json.loads(line)
        if "answer" in answer:
            return answer["answer"]
        raise error_of(answer["kind"], answer["error"])

    def close(self) -> None:
        """End the process, whatever it is doing: it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._words):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # a question that nobody read
                    pipe.close()

    def _death(self) -> Exception:
        status = self._process.wait()
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        if status == -signal.SIGKILL:
            return OutOfMemory("out of memory: the system ended the process")
        why = f": {lines[-1][:200]}" if lines else ""
        return Described(f"the process of this row ended with status {status}{why}")


class Processes:
    """The processes of a benchmark: all of them end with the block.

        with Processes(start) as processes:
            processes.start("a row").ask("prepare", …)

    Args:
        start: makes the process of a row.
    """

    def __init__(self, start: Start):
        self._start = start
        self._open: dict[str, Handle] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def start(self, name: str) -> Handle:
        """Make the process of the row `name`; one that it had before ends."""
        self.close(name)
        self._open[name] = self._start(name)
        return self._open[name]

    def __getitem__(self, name: str) -> Handle:
        """The open process of a row."""
        return self._open[name]

    def close(self, *names: str) -> None:
        """End the processes of these rows, where they are open; all of them without a name."""
        for name in names or tuple(self._open):
            process = self._open.pop(name, None)
            if process is not None:
                process.close()


def start(name: str, environment: Mapping[str, str] | None = None) -> Handle:
    """Make the process of the row `name`, and say so on stderr: a benchmark takes minutes.

    Args:
        name: of the row.
        environment: variables that it gets beside those of this process.
    """
    print(f"{name}: starting a process", file=sys.stderr, flush=True)
    return RowProcess(environment)


def error_of(kind: str, text: str) -> Exception:
    """The exception that stands for an error of a worker."""
    if kind == worker.MEMORY:
        return OutOfMemory(text)
    if kind == worker.USER:
        return UserError(text)
    if kind == worker.OURS:
        return FastcifarError(text)
    return Described(text)
