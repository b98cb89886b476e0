"""What stands for the processes of rows and for the clock in tests."""

import threading
import time

from fastcifar.bench.processes.row_process import error_of
from fastcifar.bench.processes.worker import Worker, describe, kind_of


class Local:
    """A worker in this process, with the errors of one in another."""

    def __init__(self, name):
        self.name = name
        self._worker = Worker()
        self.closed = False

    def ask(self, do, **arguments):
        assert not self.closed
        try:
            return self._worker.answer(do, **arguments)
        except Exception as error:
            kind = kind_of(error)
            text = str(error) if kind in ("user", "fastcifar") else describe(error)
            raise error_of(kind, text) from error

    def close(self):
        self.closed = True


class Clock:
    """A clock that stands still until somebody works."""

    def __init__(self):
        self.now = 0.0
        self._lock = threading.Lock()

    def __call__(self):
        return self.now

    def work(self, seconds):
        """Let work of so many seconds be done, in whatever thread."""
        with self._lock:
            self.now += seconds


class SettledClock(Clock):
    """A clock for what works in other threads too: it is read when they have come to rest.

    What a pipeline prepares for later then counts where it was asked for. Each reading takes a
    millisecond of its own, so that nothing takes no time.
    """

    def __call__(self):
        before = None
        while self.now != before:
            before = self.now
            time.sleep(0.005)
        self.work(0.001)
        return self.now


class Canned:
    """Answers by functions: `answers[do](name, **arguments)`; counts what is open."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []
        self.clock = Clock()
        self.open = set()

    def start(self, name):
        self.open.add(name)
        return _CannedHandle(self, name)


class _CannedHandle:
    def __init__(self, canned, name):
        self._canned, self._name = canned, name

    def ask(self, do, **arguments):
        self._canned.asked.append((self._name, do))
        return self._canned.answers[do](self._name, **arguments)

    def close(self):
        self._canned.open.discard(self._name)
