"""Interleaving, on a clock that the contenders themselves move."""

import pytest

from fastcifar.bench import measure
from fastcifar.bench.measure import Contender, interleave


class Clock:
    """A clock that stands still until somebody works."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def __call__(self):
        return self.now

    def worker(self, name, *seconds, images=10.0, **arguments):
        """A contender whose pieces last `seconds` in turn, the last of them for ever after."""
        waiting = list(seconds)

        def run():
            self.log.append(name)
            self.now += waiting.pop(0) if len(waiting) > 1 else waiting[0]
            return images

        return Contender(name, run, **arguments)


@pytest.fixture
def clock():
    return Clock()


def test_contenders_take_turns(clock):
    interleave([clock.worker("a", 1), clock.worker("b", 2)], seconds=9, clock=clock)
    assert clock.log == ["a", "b"] + ["a", "b"] * 3  # the warm-up, then rounds of 3 seconds


def test_warm_up_is_outside_the_clock_and_reported(clock):
    laps = interleave([clock.worker("a", 50, 1, 1)], seconds=3, clock=clock)
    assert laps["a"].seconds_per_image == [0.1, 0.1, 0.1]
    assert laps["a"].startup_s == 50


def test_what_comes_before_a_piece_is_outside_the_clock(clock):
    def before():
        clock.now += 100

    laps = interleave([clock.worker("a", 1, before=before)], seconds=0, clock=clock)
    assert laps["a"].seconds_per_image == [0.1, 0.1]


def test_the_budget_bounds_the_rounds_but_a_ratio_gets_its_two(clock):
    workers = [clock.worker("a", 4), clock.worker("b", 1)]
    assert len(interleave(workers, seconds=24, clock=clock)["a"].seconds_per_image) == 4
    laps = interleave(workers, seconds=1, clock=clock)
    assert len(laps["b"].seconds_per_image) == 2
    laps = interleave(workers, seconds=1000, rounds=3, clock=clock)
    assert len(laps["b"].seconds_per_image) == 3


def test_a_wrong_answer_is_not_timed_and_shows_no_number(clock):
    wrong = clock.worker("wrong", 1, check=lambda: "failed: an image came twice")
    laps = interleave([wrong, clock.worker("right", 2)], seconds=4, clock=clock)
    assert "wrong" not in clock.log
    row = measure.row(laps, "wrong", ratios_to=["right"])
    assert row.images_per_s is None
    assert row.check == "failed: an image came twice"
    assert measure.row(laps, "right", ratios_to=["wrong"]).ratios == {}


@pytest.mark.parametrize("fails_at", [1, 2, 4])
def test_one_that_raises_is_out_and_the_others_go_on(clock, fails_at):
    steady = clock.worker("steady", 1)
    pieces = []

    def run():
        pieces.append(1)
        if len(pieces) == fails_at:
            raise MemoryError("batch of 10\ndoes not fit")
        return 10.0

    laps = interleave([Contender("big", run), steady], seconds=5, clock=clock)
    assert len(laps["steady"].seconds_per_image) == 5
    row = measure.row(laps, "big", ratios_to=["steady"])
    assert row.error == "MemoryError: batch of 10 does not fit"
    assert row.images_per_s is None
    assert row.ratios == {}


def test_a_check_that_raises_is_an_error_of_the_row(clock):
    def check():
        raise ValueError("no")

    laps = interleave([clock.worker("a", 1, check=check)], seconds=5, clock=clock)
    assert laps["a"].error == "ValueError: no"
    assert clock.log == []


def test_an_interrupt_leaves_the_rounds_so_far_to_whoever_listened(clock):
    heard = []

    def run():
        clock.now += 1
        if clock.now > 4:
            raise KeyboardInterrupt
        return 10.0

    with pytest.raises(KeyboardInterrupt):
        interleave(
            [Contender("a", run)],
            seconds=100,
            clock=clock,
            after_round=lambda laps: heard.append(measure.row(laps, "a")),
        )
    assert heard[0].images_per_s is None  # after the check, before the first round
    assert heard[-1].images_per_s.n == 3


def test_a_row_has_rate_ratio_and_figures(clock):
    workers = [clock.worker("a", 1, images=20.0), clock.worker("b", 2, images=20.0)]
    laps = interleave(workers, seconds=30, clock=clock)
    row = measure.row(laps, "a", ratios_to=["b", "absent"], precision="float32")
    assert row.images_per_s.median == pytest.approx(20)
    assert row.ratios["b"].median == pytest.approx(2)
    assert row.ratios["b"].n == 10
    assert row.figures == {
        "us_per_image": pytest.approx(50_000),
        "startup_s": 1,
        "precision": "float32",
    }
    assert list(row.ratios) == ["b"]


def test_a_long_error_is_cut():
    text = measure.describe(RuntimeError("x" * 5000))
    assert len(text) < 250
    assert text.endswith("…")
