"""Whether download hosts can be reached, asked before a library tries for minutes.

Only whether a connection opens: certificates and what is said over it are the matter of the library
that downloads, which knows the machine's settings for them.
"""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterable
from urllib.parse import urlsplit

_CONNECT_S = 5.0  # how long a download host may take to answer
_HOSTS_ASKED = 3  # one host may be down, three mean that there is no network
_PORTS = {"http": 80, "https": 443, "ftp": 21}


def unreachable_hosts(urls: Iterable[str]) -> list[str]:
    """Return the hosts of `urls`, if none of them can be reached in seconds; else an empty list.

    Where a proxy is set for them (HTTPS_PROXY and its like), it is asked in their place.
    """
    by_host: dict[str, str] = {}
    for url in urls:
        by_host.setdefault(urlsplit(url).netloc, url)
    asked = list(by_host)[:_HOSTS_ASKED]
    for host in asked:
        try:
            first = _first_stop(by_host[host])
            if first is not None:
                socket.create_connection(first, timeout=_CONNECT_S).close()
        except OSError:
            continue
        except ValueError:  # a port that is none: let the library tell
            pass
        return []
    return asked


def _first_stop(url: str) -> tuple[str, int] | None:
    """Host and port that a download connects to; None where only its library knows."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = parts.port or _PORTS.get(parts.scheme)
    return (parts.hostname, port) if parts.hostname and port else None
