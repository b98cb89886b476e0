"""Whether download hosts answer, asked before a library tries for minutes."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

_CONNECT_S = 5.0  # how long a download host may take to answer
_HOSTS_ASKED = 3  # one host may be down, three mean that there is no network


def unreachable_hosts(urls: Iterable[str]) -> list[str]:
    """Return the hosts of `urls`, if none of them answers within seconds; else an empty list."""
    import requests

    by_host: dict[str, str] = {}
    for url in urls:
        by_host.setdefault(urlsplit(url).netloc, url)
    asked = list(by_host)[:_HOSTS_ASKED]
    for host in asked:
        try:
            requests.head(by_host[host], timeout=_CONNECT_S, allow_redirects=False)
        except requests.exceptions.ConnectionError:
            continue
        except requests.exceptions.RequestException:
            pass  # the host answered, if strangely (or speaks another protocol): let it be tried
        return []
    return asked
