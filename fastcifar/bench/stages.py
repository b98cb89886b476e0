"""`fastcifar bench stages`: where the time of a training step goes.

The stages are those of `fastcifar.bench.stage_names`. `read`, `decode` and `cache` are paid once a
run, before training; where images stay encoded or on disk, `decode` or `read` is paid each step.

All share one process and take turns. The stages of the device are differences of growing prefixes
of the real step (`fastcifar.bench.prefixes`): the median over the rounds of the difference of two
prefixes in the same round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastcifar import environment, runtime
from fastcifar.bench import arithmetic, host_stages, ingest, measure, prefixes
from fastcifar.bench.arithmetic import Arithmetic
from fastcifar.bench.measure import Contender, Lap
from fastcifar.bench.record import Estimate, Row
from fastcifar.bench.stage_names import (
    AUGMENT,
    BACKWARD,
    CACHE,
    DECODE,
    DEVICE,
    EACH_STEP,
    END_TO_END,
    FORWARD,
    INGEST,
    ONCE,
    ORDER,
    READ,
    REDUCE,
    RESIZE,
    STAGES,
    STEP,
    TRANSFER,
    UPDATE,
)
from fastcifar.bench.statistics import spread
from fastcifar.bench.subject import Driver, Subject, end_to_end, finite
from fastcifar.bench.verdict import judge
from fastcifar.config import RunConfig
from fastcifar.training.preparation import Prepared

# The host's pipeline with its images, where `order` is measured without them; and with what it does
# to them, where it does something.
_IMAGES, _INPUT = "images", "input"
# The pieces of what takes microseconds need not last as long as those of a step.
_SHORT = 0.25


@dataclass(frozen=True)
class StagesPlan:
    """What to measure, and how long.

    Attributes:
        stages: which; those that these are differences of are measured too.
        seconds: for all rounds together, start-up apart.
        rounds: at most this many.
        peak_seconds: for each of the two peaks of the device.
        piece: share of the seconds that a piece of work usually takes; less is more rounds.
    """

    stages: Sequence[str] = STAGES
    seconds: float = 90.0
    rounds: int | None = None
    peak_seconds: float = 1.0
    piece: float = 1.0


@dataclass(frozen=True)
class Layout:
    """What of a run decides how its stages come about.

    Attributes:
        replicas: devices taking part.
        on_host: which of `resize` and `augment` the host does; augmenting there is one resampling.
        each_step: which of `read` and `decode` is paid in every step; None where images lie decoded
            in memory.
    """

    replicas: int = 1
    on_host: frozenset[str] = field(default_factory=frozenset)
    each_step: str | None = None

    @classmethod
    def of(cls, subject: Subject) -> Layout:
        """The layout of a run."""
        data = subject.config.data
        on_host = {AUGMENT} if data.augment_on == "host" else set()
        if not on_host and data.resize_on == "host":
            on_host = {RESIZE}
        each_step = host_stages.paid_each_step(data, subject.prepared.splits.train)
        return cls(subject.prepared.runtime.replicas, frozenset(on_host), each_step)

    def parts(self, stage: str) -> tuple[str, ...]:
        """The contender that a stage is, or the two whose difference it is."""
        if stage == self.each_step:
            return _IMAGES, ORDER
        if stage == UPDATE:
            return STEP, prefixes.names(self.replicas)[-2]
        before = {CACHE: DECODE, DECODE: READ}
        grown = prefixes.names(self.replicas)
        before |= dict(zip(grown[1:-1], grown, strict=False))
        return (stage, before[stage]) if stage in before else (stage,)


def measure_stages(
    config: RunConfig, prepared: Prepared, plan: StagesPlan, put: Callable[..., None]
) -> None:
    """Measure stages of the first phase; `put(*rows)` receives all rows after every round."""
    subject = Subject.of(config, prepared)
    layout = Layout.of(subject)
    device = arithmetic.of(subject, plan.peak_seconds)

    def report(laps: dict[str, Lap]) -> None:
        put(*rows(laps, layout, device, plan.stages, prepared.runtime.precision))

    measure.interleave(
        contenders(subject, layout, plan.stages, plan.piece),
        seconds=plan.seconds,
        rounds=plan.rounds,
        after_round=report,
    )


def contenders(
    subject: Subject, layout: Layout, stages: Sequence[str] = STAGES, piece: float = 1.0
) -> list[Contender]:
    """What takes turns for `stages`, in the order of the table; see `StagesPlan`."""
    needed = {part for stage in stages for part in layout.parts(stage)}
    transforms = bool(layout.on_host & set(stages))
    if transforms:
        needed |= {_INPUT, ORDER, *([_IMAGES] if layout.each_step else [])}
    height, _, _ = subject.prepared.splits.train.image_shape
    short = piece * _SHORT
    found = []
    if needed & set(INGEST):
        found += [c for c in ingest.contenders(subject.config.data, height) if c.name in needed]
    for name, made in {
        ORDER: lambda: host_stages.input_contender(
            ORDER, subject, short, images=layout.each_step is None, transformed=False
        ),
        _IMAGES: lambda: host_stages.input_contender(_IMAGES, subject, short, transformed=False),
        _INPUT: lambda: host_stages.input_contender(_INPUT, subject, short),
        TRANSFER: lambda: host_stages.transfer_contender(TRANSFER, subject, short),
    }.items():
        if name in needed:
            found.append(made())
    for name in prefixes.names(layout.replicas):
        if name in needed:
            long = name in (FORWARD, BACKWARD, REDUCE, STEP)
            found.append(_device_contender(name, subject, piece if long else short))
    if END_TO_END in needed:
        found.append(_end_to_end_contender(subject, piece))
    return found


def _device_contender(name: str, subject: Subject, share: float) -> Contender:
    driver: Driver | None = None

    def check() -> str:
        nonlocal driver
        driver = prefixes.build(subject, name)
        driver.calibrate(share)
        return finite(driver)

    def run() -> float:
        assert driver is not None  # built by the check
        return driver.run()

    return Contender(name, run, check=check)


def _end_to_end_contender(subject: Subject, share: float) -> Contender:
    driver = end_to_end(subject)

    def check() -> str:
        driver.calibrate(share)
        return finite(driver)

    return Contender(END_TO_END, driver.run, check=check, before=driver.drain)


def rows(
    laps: dict[str, Lap],
    layout: Layout,
    device: Arithmetic,
    stages: Sequence[str] = STAGES,
    precision: str = "float32",
) -> list[Row]:
    """Make the rows of `stages` from what is known so far.

    Args:
        laps: of the contenders.
        layout: of the run.
        device: what a step asks of the device, and what that can give.
        stages: in the order of the table.
        precision: of the run.
    """
    made = [
        Row(REDUCE, check="not applicable: one replica")
        if name == REDUCE and layout.replicas == 1
        else _row(name, laps, layout)
        for name in stages
    ]
    return _finish(made, laps, layout, device, precision)


def _seconds(laps: dict[str, Lap], stage: str, layout: Layout) -> list[float] | None:
    """Seconds per image of a stage in each round, or None where it has none."""
    parts = [laps[part] for part in layout.parts(stage)]
    if not all(lap.running for lap in parts):
        return None
    seconds = parts[0].seconds_per_image
    if len(parts) == 2:
        seconds = _less(seconds, parts[1].seconds_per_image)
    if stage in layout.on_host:
        without = laps[_IMAGES if layout.each_step else ORDER]
        host = _less(laps[_INPUT].seconds_per_image, without.seconds_per_image)
        seconds = [a + b for a, b in zip(seconds, host, strict=False)]
    return seconds


def _less(seconds: Sequence[float], others: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(seconds, others, strict=True)]


def _row(name: str, laps: dict[str, Lap], layout: Layout) -> Row:
    parts = [laps[part] for part in layout.parts(name)]
    seconds = _seconds(laps, name, layout)
    if seconds is None:
        broken = next(lap for lap in parts if not lap.running)
        return Row(name, check=broken.check, error=broken.error)
    if not seconds:
        return Row(name)
    took = spread(seconds)
    # A difference may be lost in the noise: then it has a time, about zero, but no rate.
    known = took.low > 0
    rate = Estimate(1 / took.median, 1 / took.high, 1 / took.low, took.n) if known else None
    figures: dict[str, Any] = {
        "us_per_image": took.median * 1e6,
        "us_low": took.low * 1e6,
        "us_high": took.high * 1e6,
        "startup_s": parts[0].startup_s,
        "paid": EACH_STEP if _in_steps(name, layout) else ONCE,
    }
    if name in layout.on_host:
        figures["where"] = "host"
    return Row(name, images_per_s=rate, figures=figures)


def _finish(
    made: list[Row],
    laps: dict[str, Lap],
    layout: Layout,
    device: Arithmetic,
    precision: str,
) -> list[Row]:
    """Add what follows from several rows: shares, arithmetic, efficiency, verdict."""
    times = {row.name: row.figures["us_per_image"] for row in made if row.figures}
    step = times.get(STEP)
    efficiency = None
    if {STEP, END_TO_END} <= times.keys():
        efficiency = measure.ratio(laps, END_TO_END, STEP)
    more: dict[str, dict[str, Any]] = {row.name: {} for row in made}
    for name in (*DEVICE, STEP, END_TO_END):
        if step is not None and name in times:
            more[name]["share_of_step"] = times[name] / step
    for name, us in times.items():
        if us > 0:
            more[name] |= device.achieved(name, us)
    if STEP in more:
        more[STEP] |= device.peaks
    if END_TO_END in more:
        more[END_TO_END] |= {
            "peak_host_bytes": environment.peak_host_bytes(),
            "peak_device_bytes": runtime.peak_device_bytes(),
        }
    if efficiency is not None:
        in_steps = {name: us for name, us in times.items() if _in_steps(name, layout)}
        found = judge(in_steps, efficiency, on_host=layout.on_host, precision=precision)
        more[END_TO_END] |= {"bound_by": found.stage, "verdict": found.text}
    return [
        Row(
            row.name,
            row.images_per_s,
            row.check,
            row.error,
            {STEP: efficiency} if row.name == END_TO_END and efficiency else {},
            row.figures | more[row.name],
        )
        for row in made
    ]


def _in_steps(name: str, layout: Layout) -> bool:
    return name not in INGEST or name == layout.each_step
