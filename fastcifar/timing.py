"""A stopwatch that knows what its time was spent on."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up wall-clock seconds by account: `startup`, `train`, `paused`.

    Exactly one account is open at a time once the watch is started, so the accounts always add up
    to the whole: an evaluation can never end up in the training time.
    """

    def __init__(self, account: str = "startup"):
        self._seconds: dict[str, float] = defaultdict(float)
        self._account = account
        self._since = time.perf_counter()
        self._start = self._since

    def switch(self, account: str) -> None:
        """Close the open account and open `account`."""
        now = time.perf_counter()
        self._seconds[self._account] += now - self._since
        self._account, self._since = account, now

    @contextmanager
    def account(self, account: str) -> Iterator[None]:
        """Count what happens inside on `account`, then go back to the account before."""
        before = self._account
        self.switch(account)
        try:
            yield
        finally:
            self.switch(before)

    def seconds(self, account: str) -> float:
        """Seconds on `account` so far."""
        running = time.perf_counter() - self._since if account == self._account else 0.0
        return self._seconds[account] + running

    @property
    def wall_s(self) -> float:
        """Seconds since the watch was made."""
        return time.perf_counter() - self._start
