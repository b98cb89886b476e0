"""Whether a download can begin: hosts, proxies, and certificates that are not asked for."""

from __future__ import annotations

import socket

import pytest

from fastcifar.data.sources import hosts
from fastcifar.data.sources.hosts import unreachable_hosts


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http", "https", "ftp", "all", "no"):
        for spelling in (f"{name}_proxy", f"{name}_proxy".upper()):
            monkeypatch.delenv(spelling, raising=False)


@pytest.fixture
def listening():
    """The port of a host that takes connections and never says a word, TLS or other."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_host_is_there_whatever_its_certificate(listening):
    # The client that downloads may know a certificate that another one refuses.
    assert unreachable_hosts([f"https://127.0.0.1:{listening}/x"]) == []


def test_one_host_that_answers_is_enough(listening):
    dead = f"127.0.0.1:{closed_port()}"
    urls = [f"https://{dead}/a", f"https://{dead}/b", f"https://127.0.0.1:{listening}/x"]
    assert unreachable_hosts(urls) == []
    assert unreachable_hosts(urls[:2]) == [dead]
    assert unreachable_hosts([]) == []


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "all_proxy"])
def test_a_proxy_is_asked_in_the_hosts_place(monkeypatch, listening, variable):
    url = f"https://127.0.0.2:{closed_port()}/x"
    host = url.split("/")[2]
    monkeypatch.setenv(variable, f"127.0.0.1:{listening}")
    assert unreachable_hosts([url]) == []
    monkeypatch.setenv("NO_PROXY", "127.0.0.2")
    monkeypatch.setenv("no_proxy", "127.0.0.2")
    assert unreachable_hosts([url]) == [host]
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv(variable, f"http://127.0.0.1:{closed_port()}")
    assert unreachable_hosts([url]) == [host]


@pytest.mark.parametrize("url", ["gs://bucket/x", "https://host:port/x", "file:///x"])
def test_what_only_the_library_knows_is_left_to_it(monkeypatch, url):
    monkeypatch.setattr(hosts.socket, "create_connection", None)
    assert unreachable_hosts([url]) == []
