"""The stopwatch's accounts add up to the whole, whatever is switched when."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcifar import timing
from fastcifar.timing import Stopwatch

ACCOUNTS = ("startup", "train", "paused")


class Clock:
    """A clock that is set by hand; counts in eighths, which add up exactly."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now

    def advance(self, eighths):
        self.now += eighths / 8


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_a_new_watch_counts_on_its_first_account(clock):
    watch = Stopwatch()
    clock.advance(8)
    assert watch.seconds("startup") == watch.wall_s == 1.0
    assert watch.seconds("train") == 0.0


def test_switching_closes_the_account_before(clock):
    watch = Stopwatch("train")
    clock.advance(8)
    watch.switch("paused")
    clock.advance(16)
    watch.switch("train")
    clock.advance(32)
    assert watch.seconds("train") == 5.0
    assert watch.seconds("paused") == 2.0
    assert watch.seconds("startup") == 0.0
    assert watch.wall_s == 7.0


def test_an_account_inside_goes_back_to_the_one_before(clock):
    watch = Stopwatch("startup")
    with watch.account("train"):
        clock.advance(8)
        with watch.account("paused"):
            clock.advance(16)
        clock.advance(32)
    clock.advance(64)
    assert [watch.seconds(name) for name in ACCOUNTS] == [8.0, 5.0, 2.0]


def test_an_account_ends_with_an_error_too(clock):
    watch = Stopwatch()
    with contextlib.suppress(ValueError), watch.account("train"):
        clock.advance(8)
        raise ValueError
    clock.advance(16)
    assert watch.seconds("train") == 1.0
    assert watch.seconds("startup") == 2.0


@given(st.lists(st.tuples(st.sampled_from(ACCOUNTS), st.integers(0, 1000), st.booleans())))
def test_the_accounts_add_up_to_the_wall_time(steps):
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "time", clock)
        watch = Stopwatch()
        for name, eighths, nested in steps:
            if nested:
                with watch.account(name):
                    clock.advance(eighths)
            else:
                watch.switch(name)
                clock.advance(eighths)
            assert sum(watch.seconds(name) for name in ACCOUNTS) == watch.wall_s


def test_it_counts_real_time():
    watch = Stopwatch("train")
    before = watch.seconds("train")
    assert 0 <= before <= watch.seconds("train") <= watch.wall_s
