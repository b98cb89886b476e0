"""What stands for the processes of rows in tests: a worker in this process, or canned answers."""

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

    def __call__(self):
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
