"""Ctrl-C and SIGTERM as a request that is answered between two calls to the device."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from fastcifar.errors import FastcifarError


class Interrupted(FastcifarError):
    """The run was asked to stop by a signal, and has written a checkpoint."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_status = 128 + signal_number


class Interrupts:
    """While entered, a first SIGINT or SIGTERM only sets `received`.

    A Ctrl-C after that raises KeyboardInterrupt, and so stops at once.

    Attributes:
        received: the number of the signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        # Python delivers signals to the main thread alone; elsewhere there is nothing to handle.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            if handler is not None:  # None: it was not set from Python, and cannot be set again
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
