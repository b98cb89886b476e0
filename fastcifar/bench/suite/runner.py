"""Runs parts one after the other, each within its time. Standard library only."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fastcifar.bench.suite import settled
from fastcifar.bench.suite.parts import RECORD, WORK, Part, Task
from fastcifar.bench.suite.state import COMPLETE, ENDED, FAILED, RUNNING, Outcome, State

# What a task whose time is over has to write its record's last rows and go.
GRACE_S = 10.0
# A task that would have less is left for the next call.
_LEAST_S = 20.0


@dataclass(frozen=True)
class Runner:
    """What all tasks share.

    Attributes:
        out: the folder of records; absolute.
        state: what it holds so far.
        data: of the images, or None.
        commit: of the source, where it does not know it itself.
        variables: of the environment, beside those of this process.
        grace_s: see `GRACE_S`.
        say: takes a line for the user.
        python: what runs the tasks.
    """

    out: Path
    state: State
    data: Path | None = None
    commit: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    grace_s: float = GRACE_S
    least_s: float = _LEAST_S
    say: Callable[[str], None] = print
    python: str = sys.executable

    def run(
        self, parts: Sequence[Part], *, minutes: float | None = None, force: bool = False
    ) -> bool:
        """Run what is not done yet; tell whether all of `parts` is in order.

        Args:
            parts: in order.
            minutes: for all of them together. The first part that is not done starts whatever they
                are; a later one only if its own time fits, or it and the rest wait.
            force: also what is done.
        """
        end = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
        fine, started = True, False
        for part in parts:
            waiting = [task for task in part.tasks if force or not self._finished(task)]
            until = time.monotonic() + 60 * part.minutes
            if waiting and started and until > end:
                self.say(
                    f"{part.name}: waits for the next call, as what follows; it may take "
                    f"{part.minutes:g} minutes"
                )
                break
            for task in part.tasks:
                if task in waiting:
                    fine = self._task(part, task, min(until, end), until) and fine
                    started = True
                else:
                    done = self.state.outcomes[task.record]
                    name = f"{part.name}: {task.record}"
                    self.say(f"{name}: done before, {done.state}{_because(done.why)}")
                    fine = fine and not done.why
        return fine

    def _finished(self, task: Task) -> bool:
        done = self.state.outcomes.get(task.record)
        finished = done is not None and done.state in (COMPLETE, ENDED)
        return finished and self._record(task).exists()

    def _task(self, part: Part, task: Task, end: float, part_end: float) -> bool:
        """Run one task; tell whether it is in order."""
        name = f"{part.name}: {task.record}"
        if task.needs_data and self.data is None:
            self.say(f"{name}: left out, it needs --data DIR")
            return True
        if end - time.monotonic() < self.least_s:
            self.say(f"{name}: waits for the next call, the time of the part is over")
            return True
        self.state.put(task.record, Outcome(RUNNING))
        began = time.monotonic()
        try:
            failure, over = self._commands(task, end)
        except BaseException:
            self._settle(task)
            raise
        seconds = time.monotonic() - began
        outcome = self._judge(task, failure, over, seconds)
        # It was this call that ended too early, not the task that took too long.
        if outcome.state == ENDED and end < part_end:
            outcome = Outcome(RUNNING, seconds, "the time of the call was over: it starts again")
        self.state.put(task.record, outcome)
        self.say(f"{name}: {outcome.state} after {seconds:,.0f} s{_because(outcome.why)}")
        return not outcome.why

    def _judge(self, task: Task, failure: str, over: bool, seconds: float) -> Outcome:
        wrong = self._settle(task)
        if not settled.measured(self._record(task)):
            why = "its time is over before the first figure" if over else failure
            return Outcome(FAILED, seconds, why or "it left no figure")
        if over:
            return Outcome(ENDED, seconds, "its time is over: what it had recorded stays")
        why = f"failed rows: {', '.join(wrong)}" if wrong else failure
        return Outcome(COMPLETE, seconds, why)

    def _commands(self, task: Task, end: float) -> tuple[str, bool]:
        """Run the commands of a task: (what went wrong in one line, whether its time is over)."""
        log = self.out / "log" / f"{task.record}.log"
        work = self.out / "work" / task.record
        shutil.rmtree(work, ignore_errors=True)  # what an interrupted one has left
        for folder in (log.parent, work):
            folder.mkdir(parents=True, exist_ok=True)
        self._record(task).unlink(missing_ok=True)
        places = {RECORD: str(self._record(task)), WORK: str(work)}
        with log.open("w+b") as words:
            for command in task.commands:
                filled = [_filled(word, places) for word in command]
                status = self._command([self.python, "-m", *filled], words, end)
                if status is None:
                    return "", True
                if status:
                    return f"{_last_line(words)} (exit status {status}; log/{log.name})", False
        return "", False

    def _command(self, command: Sequence[str], words: IO[bytes], end: float) -> int | None:
        """Run one command; returns its exit status, or None where its time was over."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            env={**os.environ, **self.variables},
            process_group=0,  # so that its rows' processes end with it
        )
        try:
            return process.wait(max(0.1, end - self.grace_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._end(process, signal.SIGINT)
            return None
        finally:
            _signal(process, signal.SIGKILL)  # and whatever it has left behind
            process.wait()

    def _end(self, process: subprocess.Popen[bytes], how: signal.Signals) -> None:
        _signal(process, how)
        with contextlib.suppress(subprocess.TimeoutExpired):  # then the caller kills it
            process.wait(self.grace_s)

    def _settle(self, task: Task) -> list[str]:
        path = self._record(task)
        if not path.exists():
            return []
        return settled.settle(path, out=self.out, data=self.data, commit=self.commit)

    def _record(self, task: Task) -> Path:
        return self.out / f"{task.record}.json"


def _filled(word: str, places: Mapping[str, str]) -> str:
    for name, path in places.items():
        word = word.replace(name, path)
    return word


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _last_line(words: IO[bytes]) -> str:
    words.seek(0)
    lines = words.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else "it said nothing"


def _because(why: str) -> str:
    return f"; {why}" if why else ""
