"""A trace of a few steady steps, for TensorBoard's profiler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from fastcifar.no_effect_rules import CALLS_BEFORE_A_TRACE


class Profiler:
    """Traces one call to the device, the first steady one, of so many steps at most.

    Args:
        folder: where TensorBoard looks; None on a worker that writes nothing, whose calls must be
            those of the others all the same.
        steps: to trace; None for no trace.
    """

    def __init__(self, folder: Path | None, steps: int | None):
        self._folder = folder
        self._steps = steps

    def wants(self, calls_done: int) -> bool:
        """Whether the next call is to be traced."""
        return self._steps is not None and calls_done >= CALLS_BEFORE_A_TRACE

    @contextmanager
    def trace(self) -> Iterator[int]:
        """Trace what is done inside; gives the steps to take. Once."""
        steps, self._steps = self._steps or 0, None
        if self._folder is None:
            yield steps
            return
        tf.profiler.experimental.start(str(self._folder))
        try:
            yield steps
        finally:
            tf.profiler.experimental.stop()
