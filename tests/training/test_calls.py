"""How many steps go into one call, with a step that only tells how long it took."""

from __future__ import annotations

import pytest
import tensorflow as tf

from fastcifar.training import calls
from fastcifar.training.calls import CALL_S, Calls


class FakeStep:
    """A train step and the clock it moves: `step_s` a step, and `compile_s` for the first call."""

    def __init__(self, step_s, compile_s=0.0):
        self.step_s, self.compile_s = step_s, compile_s
        self.now = 0.0
        self.asked = []
        self.seconds = []

    def perf_counter(self):
        return self.now

    def __call__(self, iterator, first_step, steps):
        assert iterator == "batches"
        seconds = steps * self.step_s + (0.0 if self.asked else self.compile_s)
        self.now += seconds
        self.seconds.append(seconds)
        self.asked.append((first_step, steps))
        # loss, correct, images, skipped, first bad step
        return tf.constant([steps * 2.0, steps * 3.0, steps * 8.0, 0.0, -1.0], tf.float64)


@pytest.fixture
def run(monkeypatch):
    """Run all of `total` steps; returns the steps of each call."""

    def run_all(step, steps_per_call, total, epoch=10**9):
        monkeypatch.setattr(calls, "time", step)
        made = Calls(step, "batches", steps_per_call)
        done = 0
        while done < total:
            steps, metrics = made.run(done, min(total, (done // epoch + 1) * epoch) - done)
            assert metrics.images == steps * 8
            assert metrics.first_bad_step == -1
            done += steps
            assert made.done == len(step.asked)
        return [steps for _, steps in step.asked]

    return run_all


def test_a_count_that_is_given_is_kept(run):
    step = FakeStep(0.001)
    assert run(step, "4", 10) == [4, 4, 2]
    assert step.asked == [(0, 4), (4, 4), (8, 2)]


def test_a_count_above_what_remains_is_cut(run):
    assert run(FakeStep(0.001), "100", 7) == [7]


def test_calls_end_with_the_epoch(run):
    assert run(FakeStep(0.001), "4", 20, epoch=10) == [4, 4, 2, 4, 4, 2]


def test_auto_fills_one_second_after_three_single_steps(run):
    assert run(FakeStep(1 / 8), "auto", 27) == [1, 1, 1, 8, 8, 8]


def test_auto_does_not_count_the_compilation(run):
    assert run(FakeStep(1 / 8, compile_s=60.0), "auto", 19) == [1, 1, 1, 8, 8]


def test_auto_takes_at_least_one_step(run):
    assert run(FakeStep(2.5), "auto", 5) == [1, 1, 1, 1, 1]


def test_auto_takes_all_that_remain_where_steps_are_short(run):
    assert run(FakeStep(2.0**-20), "auto", 1000, epoch=100) == [1, 1, 1, 97] + [100] * 9


def test_auto_follows_a_machine_that_slows_down_and_recovers(run):
    step = FakeStep(1 / 64)
    run(step, "auto", 3)
    calls_made = Calls(step, "batches", "auto")
    lengths = []
    for step_s in (1 / 64, 1 / 64, 1 / 64, 1 / 8, 1 / 8, 1 / 64, 1 / 64):
        step.step_s = step_s
        lengths.append(calls_made.run(0, 10**6)[0])
    assert lengths == [1, 1, 1, 64, 8, 8, 64]


@pytest.mark.parametrize("step_s", [0.003, 0.07, 0.3, 0.9])
def test_a_call_lasts_one_second_at_most(run, step_s):
    step = FakeStep(step_s)
    run(step, "auto", 2000)
    assert max(step.seconds) <= CALL_S


def test_metrics_come_to_the_host(monkeypatch):
    step = FakeStep(0.1)
    monkeypatch.setattr(calls, "time", step)
    steps, metrics = Calls(step, "batches", "3").run(6, 100)
    assert steps == 3
    assert metrics == (6.0, 9.0, 24.0, 0.0, -1)
    assert all(type(value) is float for value in metrics[:4])
