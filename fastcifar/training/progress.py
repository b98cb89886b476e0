"""What a person sees while a run goes on: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from fastcifar.errors import printable
from fastcifar.rundir import refusing_os_errors


class Display:
    """Shows notes, progress and finished epochs on stdout.

    On a terminal, long work has one updating bar; into a file or a pipe go plain lines only.

    Args:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool = False):
        from rich.console import Console

        self._console = Console(
            file=sys.stdout,
            # FORCE_COLOR, which CI sets, would have rich take a pipe for a terminal.
            force_terminal=sys.stdout.isatty(),
            force_jupyter=False,  # plain lines there too
            highlight=False,
            emoji=False,  # a path may hold :fire:
            quiet=quiet,
        )
        self._bar: Any = None
        self._task: Any = None
        self._log: Path | None = None

    def log_to(self, path: Path) -> None:
        """Write every line into the file `path` as well, after what it holds.

        Raises:
            RunDirError: if the disk refuses.
        """
        with refusing_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        self._log = path

    def line(self, text: str) -> None:
        """Print one line (above the bar, if there is one); what is not printable, as escapes."""
        text = printable(text)
        self._console.print(text, markup=False, soft_wrap=True)
        if self._log is not None:
            with refusing_os_errors(self._log), self._log.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}  {text}\n")

    def count(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` pieces of some preparation are done."""
        if not self._console.is_terminal:
            return
        if self._bar is None:
            self._bar = self._open([])
            self._task = self._bar.add_task(what, total=total)
        self._bar.update(self._task, description=what, completed=done, total=total)
        if done >= total:
            self.close()

    def epoch(self, name: str, steps: int, done: int) -> None:
        """Open the bar of an epoch of `steps` steps, `done` of which are behind."""
        if not self._console.is_terminal:
            return
        from rich.progress import TextColumn

        self._bar = self._open([TextColumn("{task.fields[figures]}")])
        self._task = self._bar.add_task(name, total=steps, completed=done, figures="")

    def step(self, steps: int, *, loss: float, accuracy: float, images_per_s: float) -> None:
        """Advance the epoch's bar by `steps`."""
        if self._bar is not None:
            figures = f"objective {loss:.4f}  accuracy {accuracy:.4f}  {images_per_s:,.0f} images/s"
            self._bar.update(self._task, advance=steps, figures=figures)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _open(self, more: list[Any]) -> Any:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self.close()
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            *more,
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        bar.start()
        return bar


def epoch_line(entry: dict[str, Any], epochs: int) -> str:
    """One finished epoch as a line, from its entry in metrics.jsonl."""
    parts = [
        f"epoch {entry['epoch']}/{epochs}",
        f"objective {figure(entry['loss'])}",
        f"accuracy {figure(entry['accuracy'])}",
    ]
    if entry["validation_accuracy"] is not None:
        parts.append(f"validation loss {figure(entry['validation_loss'])}")
        parts.append(f"validation accuracy {entry['validation_accuracy']:.4f}")
    if entry["images_per_s"]:
        parts.append(f"{entry['images_per_s']:,.0f} images/s")
    return "  ".join(parts)


def figure(value: float | None) -> str:
    """A loss or a share to four places; a loss that is not finite is none, as in JSON."""
    return "none" if value is None else f"{value:.4f}"
