"""`fastcifar bench compare OLD NEW`: what has become faster or slower beyond the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from fastcifar.bench.record import Record, Row
from fastcifar.bench.statistics import noise_interval
from fastcifar.errors import ConfigError

# Two runs of the same code on the same machine differ by about this much, however small the spread
# within each is: other memory addresses, another temperature.
TOLERANCE = 0.03
FASTER, SLOWER, SAME = "faster", "slower", "within the noise"
# What makes two machines different, and what two installations.
_MACHINE = ("cpu", "cores", "gpus", "threads", "platform")
_SOFTWARE = ("versions", "python", "driver")


@dataclass(frozen=True)
class Change:
    """One row in two records.

    Attributes:
        name: of the row.
        old, new: images/s, None where a record has no number.
        ratio: new over old, or None.
        verdict: `faster`, `slower`, `within the noise`, or why there is no ratio.
        regression: slower, or a number that is lost.
    """

    name: str
    old: float | None
    new: float | None
    ratio: float | None
    verdict: str
    regression: bool


def compare(old: Record, new: Record, tolerance: float = TOLERANCE) -> list[Change]:
    """Compare the rows of two records by name, in the order of the new one.

    A rate has changed where the notches of the two medians do not overlap
    (`fastcifar.bench.statistics.noise_interval`) and they differ by more than `tolerance`.

    Raises:
        ConfigError: if the records are of different kinds.
    """
    if old.kind != new.kind:
        raise ConfigError(
            f"two records of one kind can be compared. Received: {old.kind} and {new.kind}"
        )
    names = dict.fromkeys([row.name for row in (*new.rows, *old.rows)])
    return [_change(name, old.row(name), new.row(name), tolerance) for name in names]


def _change(name: str, old: Row | None, new: Row | None, tolerance: float) -> Change:
    before = old.images_per_s if old else None
    after = new.images_per_s if new else None
    if before is None or after is None:
        old_rate, new_rate = (rate.median if rate else None for rate in (before, after))
        lost = before is not None and new is not None
        if old is None or new is None:
            why = f"only in {'the new' if old is None else 'the old'} record"
        elif before is None:
            why = "no number in either" if after is None else "a number where there was none"
        else:
            why = f"no number any more: {new.error or new.check}"
        return Change(name, old_rate, new_rate, None, why, lost)
    ratio = after.median / before.median
    (old_low, old_high), (new_low, new_high) = noise_interval(before), noise_interval(after)
    apart = new_high < old_low or old_high < new_low
    if not apart or abs(ratio - 1) <= tolerance:
        verdict = SAME
    else:
        verdict = FASTER if ratio > 1 else SLOWER
    return Change(name, before.median, after.median, ratio, verdict, verdict == SLOWER)


def warnings(old: Record, new: Record) -> list[str]:
    """What else differs between two records than the speed, one line each."""
    found = []
    for what, keys in (("machines", _MACHINE), ("software", _SOFTWARE)):
        differing = [
            f"{key} {_short(old.environment.get(key))} and {_short(new.environment.get(key))}"
            for key in keys
            if old.environment.get(key) != new.environment.get(key)
        ]
        if differing:
            found.append(f"warning: different {what}: {'; '.join(differing)}")
    if old.config != new.config:
        found.append("warning: different configurations were measured")
    return found


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "unknown"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def table(old: Record, new: Record, changes: list[Change]) -> Table:
    """Lay the changes out, with the warnings below."""
    commits = [r.environment.get("commit") or "unknown" for r in (old, new)]
    made = Table(
        title=f"{new.kind}: {commits[0]} to {commits[1]}",
        title_justify="left",
        caption="\n".join(warnings(old, new)) or None,
        caption_justify="left",
    )
    made.add_column("", no_wrap=True)
    for heading in ("old images/s", "new images/s", "new / old"):
        made.add_column(heading, justify="right")
    made.add_column("verdict")
    for change in changes:
        rates = ["-" if rate is None else f"{rate:,.0f}" for rate in (change.old, change.new)]
        ratio = "" if change.ratio is None else f"{change.ratio:.3f}"
        made.add_row(change.name, *rates, ratio, change.verdict)
    return made
