"""Signals are requests while a run goes on, and what they were before and after."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest

from fastcifar.errors import FastcifarError
from fastcifar.training.interrupts import Interrupted, Interrupts

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def _handlers_come_back():
    """A test that fails must not leave pytest deaf to Ctrl-C."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    after = [signal.getsignal(number) for number in SIGNALS]
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)
    assert after == before


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_first_signal_is_only_noted(number):
    with Interrupts() as interrupts:
        assert interrupts.received is None
        send(number)
        assert interrupts.received == number


def test_a_second_ctrl_c_stops_at_once():
    with Interrupts() as interrupts:
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert interrupts.received == signal.SIGINT


def test_ctrl_c_after_a_request_to_end_stops_at_once():
    with Interrupts() as interrupts:
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert interrupts.received == signal.SIGTERM


def test_a_second_request_to_end_is_only_noted():
    with Interrupts() as interrupts:
        send(signal.SIGINT)
        send(signal.SIGTERM)
        assert interrupts.received == signal.SIGTERM


def test_handlers_come_back_after_an_error():
    before = [signal.getsignal(number) for number in SIGNALS]
    with contextlib.suppress(ValueError), Interrupts():
        assert [signal.getsignal(number) for number in SIGNALS] != before
        raise ValueError
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_handler_that_python_did_not_set_is_left_in_peace(monkeypatch):
    """`signal.signal` returns None for one, and takes none back."""
    handlers = []
    monkeypatch.setattr(signal, "signal", lambda number, handler: handlers.append(handler))
    with Interrupts() as interrupts:
        pass
    monkeypatch.undo()
    assert handlers == [interrupts._handle] * 2


def test_outside_the_main_thread_nothing_is_handled():
    before = [signal.getsignal(number) for number in SIGNALS]
    found = []

    def work():
        with Interrupts() as interrupts:
            found.append((interrupts.received, [signal.getsignal(n) for n in SIGNALS]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(None, before)]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_exit_status_tells_the_signal(number, status):
    error = Interrupted("stopped", number)
    assert isinstance(error, FastcifarError)
    assert (str(error), error.exit_status) == ("stopped", status)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_is_asked_to_stop_ends_with_that_status(number, status):
    code = (
        "import sys, time\n"
        "from fastcifar import cli\n"
        "from fastcifar.training.interrupts import Interrupted, Interrupts\n"
        "def work(arguments):\n"
        "    with Interrupts() as interrupts:\n"
        "        print('ready', flush=True)\n"
        "        while interrupts.received is None:\n"
        "            time.sleep(0.01)\n"
        "        raise Interrupted('stopped, a checkpoint is written', interrupts.received)\n"
        "cli._train = work\n"
        "sys.exit(cli.main(['train']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stderr.read() == "fastcifar: stopped, a checkpoint is written\n"
    assert process.returncode == status
