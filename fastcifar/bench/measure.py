"""Interleaved comparison: contenders take turns (A B A B …); what disturbs one disturbs all.

Warm-up, and with it tracing and compilation, is outside the clock and reported apart. Pure Python:
no knowledge of what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fastcifar.bench.record import OK, Estimate, Row
from fastcifar.bench.statistics import paired_ratio, spread

# One pair says nothing about the spread of a ratio.
MIN_ROUNDS = 2

Clock = Callable[[], float]


@dataclass(frozen=True)
class Contender:
    """Something to measure.

    Attributes:
        name: of its row.
        run: does one piece of work, waits until it is done, and returns the images it took. A
            piece should last long enough for the clock and the call not to matter.
        check: builds what there is to build and tells whether the answer is right, before anything
            is timed: `ok`, `failed: …` or `not applicable: …`. Contenders are checked in order.
        before: what prepares a piece of work, outside the clock.
    """

    name: str
    run: Callable[[], float]
    check: Callable[[], str] = lambda: OK
    before: Callable[[], None] = lambda: None


@dataclass
class Lap:
    """What is known of one contender so far.

    Attributes:
        name: the contender's.
        seconds_per_image: one value for each finished round.
        startup_s: seconds of check and warm-up: building, tracing, compiling, the first runs.
        check: see `Contender.check`.
        error: what stopped it, or None.
    """

    name: str
    seconds_per_image: list[float] = field(default_factory=list)
    startup_s: float | None = None
    check: str = OK
    error: str | None = None

    @property
    def images_per_s(self) -> list[float]:
        """The rate of each round."""
        return [1 / seconds for seconds in self.seconds_per_image]

    @property
    def running(self) -> bool:
        """Whether it takes part in the rounds."""
        return self.check == OK and self.error is None


def interleave(
    contenders: Sequence[Contender],
    *,
    seconds: float,
    rounds: int | None = None,
    warm_up: int = 1,
    clock: Clock = time.perf_counter,
    after_round: Callable[[dict[str, Lap]], None] | None = None,
) -> dict[str, Lap]:
    """Measure contenders in rounds of one piece of work each, always in the same order.

    One that fails its check is not timed. One that raises is out, and the others go on. The i-th
    values of all laps come from the same round.

    Args:
        contenders: with names of their own.
        seconds: stop before the round that would end later than this after the first one began;
            the rounds that a ratio needs are run in any case.
        rounds: run at most this many.
        warm_up: pieces of work of each contender before the first round.
        clock: seconds, rising.
        after_round: called with what is known after the checks and after each round.

    Returns:
        The laps by name, in the order of the contenders.
    """
    laps = {contender.name: Lap(contender.name) for contender in contenders}
    for contender in contenders:
        _warm_up(contender, laps[contender.name], warm_up, clock)
    if after_round is not None:
        after_round(laps)
    began = clock()
    done = 0
    while rounds is None or done < rounds:
        running = [c for c in contenders if laps[c.name].running]
        if not running:
            break
        took = {c.name: _time(c, laps[c.name], clock) for c in running}
        done += 1
        for name, seconds_per_image in took.items():
            if seconds_per_image is not None:
                laps[name].seconds_per_image.append(seconds_per_image)
        if after_round is not None:
            after_round(laps)
        elapsed = clock() - began
        if done >= MIN_ROUNDS and elapsed + elapsed / done > seconds:
            break
    return laps


def _warm_up(contender: Contender, lap: Lap, pieces: int, clock: Clock) -> None:
    began = clock()
    try:
        lap.check = contender.check()
        if lap.check == OK:
            for _ in range(pieces):
                contender.before()
                contender.run()
            lap.startup_s = clock() - began
    except Exception as error:
        lap.error = describe(error)


def _time(contender: Contender, lap: Lap, clock: Clock) -> float | None:
    """Run one piece of work: its seconds per image, or None if it failed."""
    try:
        contender.before()
        began = clock()
        images = contender.run()
        return (clock() - began) / images
    except Exception as error:
        lap.error = describe(error)
        return None


def seconds_of(work: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Seconds that `work` takes, once."""
    began = clock()
    work()
    return clock() - began


def describe(error: Exception) -> str:
    """An error in one line of bounded length: TensorFlow's run to pages."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}{'…' if len(text) > 200 else ''}"


def ratio(laps: dict[str, Lap], name: str, to: str) -> Estimate | None:
    """The rate of `name` over that of `to` (`paired_ratio`); None after too few rounds."""
    if name not in laps or to not in laps:
        return None
    one, other = laps[name], laps[to]
    rounds = min(len(one.seconds_per_image), len(other.seconds_per_image))
    if not (one.running and other.running) or rounds < MIN_ROUNDS:
        return None
    return paired_ratio(other.seconds_per_image, one.seconds_per_image)


def row(laps: dict[str, Lap], name: str, *, ratios_to: Sequence[str] = (), **figures) -> Row:
    """The row of one contender, with its ratios to others.

    Args:
        laps: see `interleave`.
        name: the contender's.
        ratios_to: names to give ratios to; those without a rate are left out.
        figures: see `Row`.
    """
    lap = laps[name]
    if not (lap.running and lap.seconds_per_image):
        return Row(name, check=lap.check, error=lap.error)
    found = {to: ratio(laps, name, to) for to in ratios_to}
    return Row(
        name=name,
        images_per_s=spread(lap.images_per_s),
        check=lap.check,
        error=lap.error,
        ratios={to: estimate for to, estimate in found.items() if estimate is not None},
        figures={
            "us_per_image": spread(lap.seconds_per_image).median * 1e6,
            "startup_s": lap.startup_s,
            **figures,
        },
    )
