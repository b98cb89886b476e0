"""Workers that wait for each other: who is named, how long, and what ends it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fastcifar.cluster import Cluster
from fastcifar.errors import DeviceError, FastcifarError, WorkerError
from fastcifar.rendezvous import Pace, host_and_port, meet


def free_addresses(count, host="localhost"):
    sockets = [socket.create_server((host, 0)) for _ in range(count)]
    found = tuple(f"{host}:{each.getsockname()[1]}" for each in sockets)
    for each in sockets:
        each.close()
    return found


class FakeClock:
    """Seconds pass only while somebody sleeps, and then at once (nearly: threads share it)."""

    def __init__(self):
        self.time = 0.0
        self.pace = Pace(lambda: self.time, self.sleep)

    def sleep(self, seconds):
        self.time += seconds
        time.sleep(0.001)


def attend(cluster, timeout_s=600.0, said=None, pace=None):
    """Meet in a thread; its result is in the list: None, or the error."""
    result = []

    def run():
        try:
            result.append(meet(cluster, timeout_s, (print if said is None else said.append), pace))
        except FastcifarError as error:
            result.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, result


def test_three_workers_meet_and_leave_their_ports():
    addresses = free_addresses(3)
    all_of_them = [attend(Cluster(addresses, index, "TF_CONFIG")) for index in (2, 0, 1)]
    for thread, result in all_of_them:
        thread.join(timeout=15)
        assert result == [None]
    for address in addresses:
        socket.create_server(host_and_port(address)).close()  # TensorFlow's turn


def test_who_is_missing_is_named_every_five_seconds_and_at_last_an_error():
    addresses = free_addresses(2)
    said, clock = [], FakeClock()
    with pytest.raises(WorkerError) as refused:
        meet(Cluster(addresses, 0, "TF_CONFIG"), 12, said.append, clock.pace)
    name = f"worker 1 ({addresses[1]})"
    assert said == [f"waiting for {name} ({s} of 12 s)" for s in (3, 8)]
    assert str(refused.value).startswith(f"{name} did not come within 12 s: start all workers")
    assert "--worker-timeout" in str(refused.value)


def test_without_the_first_worker_the_others_name_it():
    addresses = free_addresses(2)
    said, clock = [], FakeClock()
    with pytest.raises(WorkerError, match="nothing listens at its address"):
        meet(Cluster(addresses, 1, "TF_CONFIG"), 5, said.append, clock.pace)
    assert said == [
        f"waiting for worker 0 ({addresses[0]}): nothing listens at its address (3 of 5 s)"
    ]


def test_all_are_told_who_is_missing_and_end_together():
    addresses = free_addresses(3)
    said = []
    first = attend(Cluster(addresses, 0, "TF_CONFIG"), 1.5)
    second = attend(Cluster(addresses, 1, "TF_CONFIG"), 1e6, said, FakeClock().pace)
    for thread, result in (first, second):
        thread.join(timeout=20)
        assert f"worker 2 ({addresses[2]}) did not come within" in str(result[0])
    assert any(line.startswith(f"waiting for worker 2 ({addresses[2]})") for line in said)


def test_other_lists_of_workers_do_not_meet():
    addresses = free_addresses(3)
    first = attend(Cluster(addresses, 0, "TF_CONFIG"), 1.5)
    second = attend(Cluster(addresses[:2], 1, "TF_CONFIG"), 10)
    second[0].join(timeout=15)
    assert "give all the same list" in str(second[1][0])
    first[0].join(timeout=15)


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("localhost", 0)) as taken:
        address = f"localhost:{taken.getsockname()[1]}"
        with pytest.raises(DeviceError, match="listens on its port already") as refused:
            meet(Cluster((address, "localhost:1"), 0, "TF_CONFIG"), 60, print)
    assert f"worker 0 ({address})" in str(refused.value)


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("127.0.0.1", None),
        # An address for documentation only.
        ("192.0.2.1", "(its address does not answer|nothing listens)"),
        ("no-such-host.invalid", "its name is not known"),
    ],
)
def test_a_worker_must_be_on_its_own_host(host, why, monkeypatch):
    port = free_addresses(1)[0].rpartition(":")[2]
    cluster = Cluster((f"{host}:{port}", "localhost:1"), 0, "TF_CONFIG")
    if why is None:
        with pytest.raises(WorkerError):
            meet(cluster, 1, print, FakeClock().pace)
        return
    real = socket.create_connection

    def reached(address, timeout):
        if address[0].endswith(".invalid"):
            raise socket.gaierror
        return real(address, timeout=0.2)

    monkeypatch.setattr("fastcifar.rendezvous.socket.create_connection", reached)
    with pytest.raises(DeviceError, match=f"must be this host, as TF_CONFIG has it: {why}"):
        meet(cluster, 600, print, FakeClock().pace)


def test_what_is_no_worker_does_not_count():
    addresses = free_addresses(2)
    thread, result = attend(Cluster(addresses, 0, "TF_CONFIG"), 2)
    time.sleep(0.5)
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"worker": 1}\n', b"x" * 10000):
        with socket.create_connection(host_and_port(addresses[0])) as stranger:
            stranger.sendall(noise)
    thread.join(timeout=15)
    assert isinstance(result[0], WorkerError)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_waiting(number):
    addresses = free_addresses(2)
    code = (
        "from fastcifar.cluster import Cluster\nfrom fastcifar.rendezvous import meet\n"
        "from functools import partial\n"
        f"meet(Cluster({addresses}, 0, 'TF_CONFIG'), 600, partial(print, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )
    assert process.stdout.readline().startswith(b"waiting for worker 1")
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode == -number


def test_addresses_may_be_ipv6():
    assert host_and_port("[::1]:80") == ("::1", 80)
    assert host_and_port("a:80") == ("a", 80)


@pytest.mark.slow
def test_ctrl_c_ends_tensorflows_own_waiting_too():
    # A worker may be lost between the meeting and TensorFlow's, whose call never comes back.
    code = (
        "import sys\nfrom fastcifar import runtime\nfrom fastcifar.cluster import Cluster\n"
        "import tensorflow as tf\n"
        f"cluster = Cluster({free_addresses(2)}, 0, 'TF_CONFIG')\n"
        "print('here', flush=True)\n"
        "runtime._multi_worker(tf, cluster)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )
    assert process.stdout.readline() == b"here\n"
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
