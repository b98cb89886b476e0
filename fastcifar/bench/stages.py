"""`fastcifar bench stages`: where the time of a training step goes.

    read, decode, cache   once a run: a file's bytes, its pixels, their place in memory
    order                 the host's pipeline alone: positions, gather, batch
    transfer              a batch from the host to the device
    dispatch              a step that computes nothing: call, loop, metrics
    resize, augment, forward, backward, reduce, update
    step                  the whole step on a batch that lies on the device
    end_to_end            the real pipeline into the real step

All share one process and take turns. The stages of the device are differences of growing prefixes
of the real step (`fastcifar.bench.prefixes`): the median over the rounds of the difference of two
prefixes in the same round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastcifar import environment, runtime
from fastcifar.bench import compute, host_stages, ingest, measure, prefixes
from fastcifar.bench.measure import Contender, Lap
from fastcifar.bench.record import Estimate, Row
from fastcifar.bench.statistics import spread
from fastcifar.bench.subject import Driver, Subject, end_to_end, finite
from fastcifar.bench.verdict import judge
from fastcifar.config import RunConfig
from fastcifar.training.preparation import Prepared

ORDER, TRANSFER, REDUCE, UPDATE, END_TO_END = "order", "transfer", "reduce", "update", "end_to_end"
STAGES = (
    *ingest.STAGES,
    *(ORDER, TRANSFER),
    *prefixes.PREFIXES[:-1],
    *(REDUCE, UPDATE, prefixes.STEP, END_TO_END),
)
# Stage -> the two contenders whose difference it is. All other stages are contenders themselves.
_DIFFERENCES = {
    ingest.DECODE: (ingest.DECODE, ingest.READ),
    ingest.CACHE: (ingest.CACHE, ingest.DECODE),
    UPDATE: (prefixes.STEP, prefixes.BACKWARD),
    **{
        stage: (stage, before)
        for before, stage in zip(prefixes.PREFIXES, prefixes.PREFIXES[1:-1], strict=False)
    },
}
# The host's pipeline with what it does to the images, where it does something.
_INPUT = "input"
# The pieces of what takes microseconds need not last as long as those of a step.
_SHORT = 0.25


@dataclass(frozen=True)
class StagesPlan:
    """How long to measure.

    Attributes:
        seconds: for all rounds together, start-up apart.
        rounds: at most this many.
        peak_seconds: for each of the two peaks of the device.
    """

    seconds: float = 90.0
    rounds: int | None = None
    peak_seconds: float = 1.0


def measure_stages(
    config: RunConfig, prepared: Prepared, plan: StagesPlan, put: Callable[..., None]
) -> None:
    """Measure the stages of the first phase; `put(*rows)` receives all rows after every round."""
    subject = Subject.of(config, prepared)
    facts = _facts(subject, plan)

    def report(laps: dict[str, Lap]) -> None:
        put(*rows(laps, subject, facts))

    measure.interleave(
        contenders(subject), seconds=plan.seconds, rounds=plan.rounds, after_round=report
    )


def contenders(subject: Subject) -> list[Contender]:
    """What takes turns, in the order of the table."""
    height, _, _ = subject.prepared.splits.train.image_shape
    found = ingest.contenders(subject.config.data, height)
    found.append(host_stages.input_contender(ORDER, subject, _SHORT, transformed=False))
    if subject.phase.transforms.on_host is not None:
        found.append(host_stages.input_contender(_INPUT, subject, _SHORT, transformed=True))
    found.append(host_stages.transfer_contender(TRANSFER, subject, _SHORT))
    for name in prefixes.PREFIXES:
        long = name in (prefixes.FORWARD, prefixes.BACKWARD, prefixes.STEP)
        found.append(_device_contender(name, subject, 1.0 if long else _SHORT))
    found.append(_end_to_end_contender(subject))
    return found


def _device_contender(name: str, subject: Subject, share: float) -> Contender:
    several = subject.prepared.runtime.replicas > 1 and name != prefixes.STEP
    driver: Driver | None = None

    def check() -> str:
        nonlocal driver
        if several:
            return "not applicable: prefixes of the step are measured on one replica"
        driver = prefixes.build(subject, name)
        driver.calibrate(share)
        return finite(driver)

    def run() -> float:
        assert driver is not None  # built by the check
        return driver.run()

    return Contender(name, run, check=check)


def _end_to_end_contender(subject: Subject) -> Contender:
    driver = end_to_end(subject)

    def check() -> str:
        driver.calibrate()
        return finite(driver)

    return Contender(END_TO_END, driver.run, check=check, before=driver.drain)


def _facts(subject: Subject, plan: StagesPlan) -> dict[str, float]:
    """FLOPs of an image and the peaks of the device."""
    chosen = subject.prepared.runtime
    peak = compute.measure_peak(
        chosen.compute_dtype, on_gpu=bool(chosen.gpus), seconds=plan.peak_seconds
    )
    return {
        "forward_flops": float(compute.forward_flops(subject.prepared.model, subject.image_shape)),
        "peak_flops_per_s": peak.flops_per_s,
        "peak_bytes_per_s": peak.bytes_per_s,
    }


def rows(laps: dict[str, Lap], subject: Subject, facts: dict[str, float]) -> list[Row]:
    """Make the rows of all stages from what is known so far."""
    on_host = _on_host(subject)
    made = []
    for name in STAGES:
        if name == REDUCE:
            several = subject.prepared.runtime.replicas > 1
            why = "part of the step on several replicas" if several else "one replica"
            made.append(Row(REDUCE, check=f"not applicable: {why}"))
            continue
        seconds = _seconds(laps, name)
        if name in on_host and seconds is not None and _INPUT in laps:
            host = _difference(laps, _INPUT, ORDER)
            seconds = [a + b for a, b in zip(seconds, host or [], strict=False)]
        made.append(_row(name, laps, seconds, "host" if name in on_host else None))
    return _finish(made, laps, facts, on_host, subject.prepared.runtime.precision)


def _on_host(subject: Subject) -> frozenset[str]:
    """Which of `resize` and `augment` the host does; augmenting there is one resampling."""
    data = subject.config.data
    if data.augment_on == "host":
        return frozenset({prefixes.AUGMENT})
    return frozenset({prefixes.RESIZE} if data.resize_on == "host" else ())


def _seconds(laps: dict[str, Lap], stage: str) -> list[float] | None:
    """Seconds per image of a stage in each round, or None where it has none."""
    if stage in _DIFFERENCES:
        return _difference(laps, *_DIFFERENCES[stage])
    return laps[stage].seconds_per_image if laps[stage].running else None


def _difference(laps: dict[str, Lap], of: str, less: str) -> list[float] | None:
    one, other = laps[of], laps[less]
    if not (one.running and other.running):
        return None
    return [a - b for a, b in zip(one.seconds_per_image, other.seconds_per_image, strict=True)]


def _row(name: str, laps: dict[str, Lap], seconds: list[float] | None, where: str | None) -> Row:
    parts = [laps[part] for part in _DIFFERENCES.get(name, (name,))]
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
    }
    if where is not None:
        figures["where"] = where
    return Row(name, images_per_s=rate, figures=figures)


def _finish(
    made: list[Row],
    laps: dict[str, Lap],
    facts: dict[str, float],
    on_host: frozenset[str],
    precision: str,
) -> list[Row]:
    """Add what follows from several rows: shares, FLOPs, efficiency, verdict."""
    times = {row.name: row.figures["us_per_image"] for row in made if row.figures}
    step = times.get(prefixes.STEP)
    efficiency = measure.ratio(laps, END_TO_END, prefixes.STEP)
    more: dict[str, dict[str, Any]] = {row.name: {} for row in made}
    if step is not None:
        for name in (*prefixes.PREFIXES, UPDATE, END_TO_END):
            if name in times:
                more[name]["share_of_step"] = times[name] / step
    flops = {
        prefixes.FORWARD: facts["forward_flops"],
        prefixes.BACKWARD: facts["forward_flops"] * (compute.TRAINING_FACTOR - 1),
        prefixes.STEP: facts["forward_flops"] * compute.TRAINING_FACTOR,
    }
    for name, count in flops.items():
        if times.get(name, 0.0) > 0:
            achieved = count / times[name] * 1e6
            more[name] |= {
                "flops_per_image": count,
                "flops_per_s": achieved,
                "utilisation": achieved / facts["peak_flops_per_s"],
            }
    more[prefixes.STEP] |= {name: facts[name] for name in ("peak_flops_per_s", "peak_bytes_per_s")}
    more[END_TO_END] |= {
        "peak_host_bytes": environment.peak_host_bytes(),
        "peak_device_bytes": runtime.peak_device_bytes(),
    }
    if efficiency is not None:
        more[END_TO_END]["verdict"] = judge(times, efficiency, on_host=on_host, precision=precision)
    return [
        Row(
            row.name,
            row.images_per_s,
            row.check,
            row.error,
            {prefixes.STEP: efficiency} if row.name == END_TO_END and efficiency else {},
            row.figures | more[row.name],
        )
        for row in made
    ]
