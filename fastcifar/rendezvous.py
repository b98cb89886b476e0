"""Where the workers of a run wait for each other, before TensorFlow connects them.

TensorFlow waits for a worker that is missing inside a call into C++, which neither Ctrl-C nor
SIGTERM ends and which names nobody. So they meet here first, at the addresses that TensorFlow will
listen on: every worker keeps a connection to the first one, which tries each one's address too.
When all are there the first says so, everyone lets go of the port, and TensorFlow takes it.

A message is a line of JSON. A worker sends {"worker": index, "cluster": digest}; the first answers
with {"missing": [index, ...]}, then {"go": true}, or {"gave_up": text}.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastcifar.cluster import Cluster
from fastcifar.errors import DeviceError, WorkerError

SAY_EVERY_S = 5.0
# How long this host's own name may stay unknown: in a cluster that starts, names come late.
_OWN_NAME_S = 30.0
# Workers rarely start in the same moment.
_QUIET_S = 3.0
_CONNECT_S = 2.0
_TICK_S = 0.2
_LONGEST_LINE = 4096


@dataclass
class Pace:
    """The clock of a meeting, which tests replace.

    Attributes:
        now: seconds, from anywhere.
        sleep: waits.
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def meet(
    cluster: Cluster, timeout_s: float, say: Callable[[str], None], pace: Pace | None = None
) -> None:
    """Wait until all workers of `cluster` are here.

    Args:
        cluster: the workers; this process listens on its own one's port meanwhile.
        timeout_s: how long to wait for the others.
        say: called with a line every few seconds that names who is missing.
        pace: the clock.

    Raises:
        DeviceError: if this worker's address is not one of this host, or its port is taken.
        WorkerError: if others have not come in time, or were started with other workers.
    """
    if len(cluster.addresses) == 1:
        return
    with contextlib.closing(_Meeting(cluster, timeout_s, say, pace or Pace())) as meeting:
        meeting.wait()


def host_and_port(address: str) -> tuple[str, int]:
    """Take `host:port` or `[host]:port` apart."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _has_ipv6() -> bool:
    """Whether this host lets processes listen by IPv6; Python may know it where the kernel not."""
    try:
        socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True).close()
    except OSError:
        return False
    return True


@dataclass
class _Line:
    """A connection and what has come over it."""

    connection: socket.socket
    received: bytes = b""
    worker: int | None = None
    alive: bool = True

    def send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def messages(self) -> list[dict[str, Any]]:
        """What has arrived; whatever is no message ends the connection."""
        try:
            while data := self.connection.recv(_LONGEST_LINE):
                self.received += data
                if len(self.received) > _LONGEST_LINE:
                    self.alive = False
                    break
            else:
                self.alive = False
        except BlockingIOError:
            pass
        except OSError:
            self.alive = False
        *lines, self.received = self.received.split(b"\n")
        found = []
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if not isinstance(message, dict):
                self.alive = False
                break
            found.append(message)
        return found


@dataclass
class _Meeting:
    cluster: Cluster
    timeout_s: float
    say: Callable[[str], None]
    pace: Pace
    lines: list[_Line] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.digest = hashlib.sha256("\n".join(self.cluster.addresses).encode()).hexdigest()[:16]
        self.secret, self.heard = secrets.token_hex(8), False
        self.listener = self._listen()
        self.first: _Line | None = None  # to the first worker, from the others
        self.tried: dict[int, str] = {}  # why a worker's address does not answer
        self.answered: set[int] = set()  # whose address has answered
        self.elsewhere: list[int] = []  # whom the first worker misses
        self.began = self.pace.now()
        self.said = self.began - SAY_EVERY_S + _QUIET_S

    def close(self) -> None:
        for line in (*self.lines, *([self.first] if self.first else [])):
            line.connection.close()
        self.listener.close()

    def wait(self) -> None:
        self._find_myself()
        while True:
            waited = self.pace.now() - self.began
            self._receive()
            done = self._lead() if self.cluster.index == 0 else self._follow()
            if done:
                return
            if waited >= self.timeout_s:
                self._give_up(waited)
            if self.pace.now() - self.said >= SAY_EVERY_S:
                self.said = self.pace.now()
                for missing in self._missing():
                    why = self.tried.get(missing)
                    self.say(
                        f"waiting for {self.cluster.name(missing)}"
                        + (f": {why}" if why else "")
                        + f" ({waited:.0f} of {self.timeout_s:g} s)"
                    )
            self.pace.sleep(_TICK_S)

    def _listen(self) -> socket.socket:
        _, port = host_and_port(self.cluster.addresses[self.cluster.index])
        both = socket.has_dualstack_ipv6() and _has_ipv6()
        try:
            listener = socket.create_server(
                ("", port),
                family=socket.AF_INET6 if both else socket.AF_INET,
                dualstack_ipv6=both,
                backlog=len(self.cluster.addresses) * 2 + 8,
            )
        except OSError as error:
            reason = (
                "something on this host listens on its port already"
                if error.errno == errno.EADDRINUSE
                else error.strerror
            )
            raise DeviceError(
                f"{self.cluster.name(self.cluster.index)} cannot listen: {reason}. End that "
                f"process, or give the worker another port in {self.cluster.found_in}"
            ) from error
        listener.setblocking(False)
        return listener

    def _find_myself(self) -> None:
        """Check that this worker's own address leads here.

        Raises:
            DeviceError: if it does not.
        """
        own = self.cluster.index
        while True:
            line = self._reach(own)
            if line is not None and self._hear_myself(line):
                return
            unknown = self.tried[own] == _UNKNOWN
            if not unknown or self.pace.now() - self.began >= min(_OWN_NAME_S, self.timeout_s):
                raise DeviceError(
                    f"{self.cluster.name(own)} must be this host, as {self.cluster.found_in} has "
                    f"it: {self.tried[own]}. Check the addresses and the worker's number"
                )
            self.pace.sleep(1.0)

    def _hear_myself(self, line: _Line) -> bool:
        """Whether what is sent to this worker's address arrives here."""
        line.send({"self": self.secret})
        for _ in range(10):
            self._receive()
            if self.heard:
                break
            self.pace.sleep(0.1)
        line.connection.close()
        if not self.heard:
            self.tried[self.cluster.index] = "another process answers at its address"
        return self.heard

    def _reach(self, worker: int) -> _Line | None:
        """Connect to a worker's address; None, and a reason in `tried`, where nothing answers."""
        try:
            connection = socket.create_connection(
                host_and_port(self.cluster.addresses[worker]), timeout=_CONNECT_S
            )
        except socket.gaierror:
            self.tried[worker] = _UNKNOWN
            return None
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError)
            self.tried[worker] = (
                "nothing listens at its address"
                if refused
                else f"its address does not answer ({error.strerror or 'timed out'})"
            )
            return None
        connection.setblocking(False)
        self.tried.pop(worker, None)
        return _Line(connection)

    def _receive(self) -> None:
        """Take new connections, and read what has come over those that are open."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                connection.setblocking(False)
                self.lines.append(_Line(connection))
        for line in self.lines:
            for message in line.messages():
                self._greeted(line, message)
            if not line.alive:
                line.connection.close()
        self.lines = [line for line in self.lines if line.alive]

    def _greeted(self, line: _Line, message: dict[str, Any]) -> None:
        """A worker has told who it is."""
        if message.get("self") == self.secret:
            self.heard = True
            line.alive = False
            return
        worker = message.get("worker")
        if message.get("cluster") != self.digest:
            text = (
                f"{self.cluster.name(self.cluster.index)} has been asked by a worker that knows "
                f"other workers: give all the same list in {self.cluster.found_in}"
            )
            line.send({"gave_up": text})
            line.alive = False
        elif isinstance(worker, int) and 0 < worker < len(self.cluster.addresses):
            line.worker = worker

    def _lead(self) -> bool:
        """The first worker's part: whether all are here; if so, all have been told."""
        here = {line.worker for line in self.lines}
        others = range(1, len(self.cluster.addresses))
        for worker in others:
            if worker in here and worker not in self.answered:
                line = self._reach(worker)
                if line is not None:
                    line.connection.close()
                    self.answered.add(worker)
        missing = self._missing()
        for line in self.lines:
            line.send({"missing": missing} if missing else {"go": True})
        return not missing

    def _follow(self) -> bool:
        """The other workers' part: whether the first has said that all are here."""
        if self.first is None:
            self.first = self._reach(0)
            if self.first is None:
                return False
            self.first.send({"worker": self.cluster.index, "cluster": self.digest})
        for message in self.first.messages():
            if message.get("go") is True:
                return True
            if "gave_up" in message:
                raise WorkerError(str(message["gave_up"]))
            missing = message.get("missing", [])
            self.elsewhere = [i for i in missing if i in range(len(self.cluster.addresses))]
        if not self.first.alive:
            self.first.connection.close()
            self.first = None
            self.tried[0] = "it has ended, or something else answers at its address"
        return False

    def _missing(self) -> list[int]:
        if self.cluster.index:
            others = [worker for worker in self.elsewhere if worker != self.cluster.index]
            return others if self.first is not None else [0]
        here = {line.worker for line in self.lines} & self.answered
        return [i for i in range(1, len(self.cluster.addresses)) if i not in here]

    def _give_up(self, waited: float) -> None:
        missing = self._missing() or [0]
        names = ", ".join(self.cluster.name(worker) for worker in missing)
        why = {self.tried[worker] for worker in missing if worker in self.tried}
        text = (
            f"{names} did not come within {waited:.0f} s"
            + (f" ({'; '.join(sorted(why))})" if why else "")
            + ": start all workers, check their addresses and firewalls, or wait longer by "
            "--worker-timeout SECONDS"
        )
        for line in self.lines:
            line.send({"gave_up": text})
        raise WorkerError(text)


_UNKNOWN = "its name is not known"
