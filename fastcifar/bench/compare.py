"""`fastcifar bench compare OLD NEW`: what has become faster or slower, better or worse, beyond the
noise.

Each figure that two rows of a name both have is a line. What noise is, the records say:

    images/s                    the quartiles over the rounds (`statistics.rate_ratio`)
    accuracy, seconds           the values of the runs or starts: Welch's 95 % interval of the
                                difference of their means (`statistics.mean_difference`)
    anything else               nothing: the ratio is shown, and memory is held to a tolerance

A change is called one at the 5 % level, so that of forty lines without a change about one is called
a regression; measure again what looks like one. Where the interval holds both no change and one
that matters the verdict is that the records cannot tell: measure more rounds, or more seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from fastcifar.bench import tables
from fastcifar.bench.accuracy import recipe_of, run_rows
from fastcifar.bench.record import EACH, Record, Row
from fastcifar.bench.statistics import mean_difference, rate_ratio
from fastcifar.errors import ConfigError

# Two runs of the same code on the same machine differ by about this much, however small the spread
# within each is: other memory addresses, another temperature.
TOLERANCE = 0.03
# Peaks of memory differ by when garbage is collected.
_MEMORY_TOLERANCE = 0.1
FASTER, SLOWER, BETTER, WORSE = "faster", "slower", "better", "worse"
LESS, MORE = "less", "more"
SAME, CANNOT_TELL = "within the noise", "cannot tell"
NO_SPREAD = "no verdict: a single value has no spread"
# What makes two machines different, and what two installations.
_MACHINE = ("cpu", "cores", "gpus", "threads", "platform")
_SOFTWARE = ("versions", "python", "driver")


@dataclass(frozen=True)
class Figure:
    """What of a row can be compared.

    Attributes:
        heading: what it is called.
        written: how it is written.
        gain, loss: what a higher and a lower value is called.
        higher_is_better: or a lower one.
        points: a share, of which the difference is told in points and not the ratio.
        tolerance: by which two values of the same code differ, as a share.
        judged_alone: it has a verdict without a spread, by the tolerance.
    """

    heading: str
    written: Callable[[float], str]
    gain: str = FASTER
    loss: str = SLOWER
    higher_is_better: bool = False
    points: bool = False
    tolerance: float = TOLERANCE
    judged_alone: bool = False


def _seconds(value: float) -> str:
    return f"{value:,.2f}"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:,.0f}"


def _memory(heading: str) -> Figure:
    return Figure(heading, _megabytes, LESS, MORE, tolerance=_MEMORY_TOLERANCE, judged_alone=True)


RATE = Figure("images/s", tables.number, higher_is_better=True)
# The others, by their key in a row.
FIGURES = {
    "test_accuracy": Figure(
        "test accuracy", lambda share: f"{share:.2%}", BETTER, WORSE, True, points=True, tolerance=0
    ),
    "train_s": Figure("training s", _seconds),
    "target_s": Figure("training s to target", _seconds),
    "import_s": Figure("import s", _seconds),
    "build_s": Figure("build s", _seconds),
    "trace_s": Figure("trace s", _seconds),
    "compile_s": Figure("compile s", _seconds),
    "first_use_s": Figure("first use s", _seconds),
    "second_use_s": Figure("second use s", _seconds),
    "call_ms": Figure("call ms", _seconds),
    "peak_host_bytes": _memory("host peak MB"),
    "peak_device_bytes": _memory("device peak MB"),
}
# A figure of a start; of other rows it is what came before the clock, once.
_STARTUP = {"startup_s": Figure("start-up s", _seconds)}


@dataclass(frozen=True)
class Change:
    """One figure of one row in two records.

    Attributes:
        name: of the row.
        figure: which.
        old, new: its values, None where a record has none.
        ratio: new over old, or None.
        points: new less old in points, of a share, or None.
        verdict: `faster`, `slower` …; `within the noise`, where the interval leaves no room for a
            change that matters; `cannot tell` with the interval, where it does; or why there is
            none.
        regression: slower, worse, more; or a number that is lost.
    """

    name: str
    figure: Figure
    old: float | None
    new: float | None
    ratio: float | None
    verdict: str
    regression: bool
    points: float | None = None


def compare(old: Record, new: Record, tolerance: float = TOLERANCE) -> list[Change]:
    """Compare the rows of two records by name, in the order of the new one.

    A figure has changed where it did beyond the noise and by more than `tolerance`. The runs of a
    recipe are compared together, in the line of the recipe.

    Raises:
        ConfigError: if the records are of different kinds.
    """
    if old.kind != new.kind:
        raise ConfigError(
            f"two records of one kind can be compared. Received: {old.kind} and {new.kind}"
        )
    names = dict.fromkeys([row.name for row in (*new.rows, *old.rows)])
    return [
        change
        for name in names
        for change in _changes(name, (old, old.row(name)), (new, new.row(name)), tolerance)
    ]


_Found = tuple[Record, Row | None]


def _changes(name: str, old: _Found, new: _Found, tolerance: float) -> Iterator[Change]:
    before, after = old[1], new[1]
    if before is None or after is None:
        which = "the new" if before is None else "the old"
        yield _without(name, before, after, f"only in {which} record", False)
        return
    if _is_run(old[0], before) and _is_run(new[0], after) and _numbers(after):
        return  # in the line of its recipe
    shared = [key for key in _numbers(before) if key in _numbers(after)]
    if not shared:
        lost = bool(_numbers(before))
        if lost:
            why = f"no number any more: {after.error or after.check}"
        else:
            why = "a number where there was none" if _numbers(after) else "no number in either"
        yield _without(name, before, after, why, lost)
        return
    if "" in _numbers(before) and "" not in shared:
        yield _without(name, before, after, "no number any more", True)
    if "target_s" in _numbers(before) and "reached" in after.figures and "target_s" not in shared:
        reached = f"reached in {after.figures['reached']} of {after.figures['runs']} runs"
        value = before.figures["target_s"]
        why = f"no number any more: {reached}"
        yield Change(name, FIGURES["target_s"], value, None, None, why, True)
    for key in shared:
        if not key:
            yield _rates(name, before, after, tolerance)
        else:
            yield _values(name, key, (old[0], before), (new[0], after))


def _is_run(record: Record, row: Row) -> bool:
    recipe = recipe_of(row.name)
    return recipe is not None and record.row(recipe) is not None


def _numbers(row: Row) -> dict[str, Figure]:
    """What of a row can be compared, by its key; the rate has an empty one."""
    rate = {"": RATE} if row.images_per_s is not None else {}
    known = FIGURES | (_STARTUP if "starts" in row.figures else {})
    found = {key: known[key] for key in known if row.figures.get(key) is not None}
    return rate | found


def _value(row: Row | None, key: str) -> float | None:
    if row is None:
        return None
    if key:
        return row.figures.get(key)
    return None if row.images_per_s is None else row.images_per_s.median


def _without(name: str, before: Row | None, after: Row | None, why: str, lost: bool) -> Change:
    """One line for a row that has numbers in one record at most."""
    numbers = {k: f for row in (before, after) if row is not None for k, f in _numbers(row).items()}
    key, figure = next(iter(numbers.items()), ("", RATE))
    return Change(name, figure, _value(before, key), _value(after, key), None, why, lost)


def _rates(name: str, old: Row, new: Row, tolerance: float) -> Change:
    before, after = old.images_per_s, new.images_per_s
    assert before is not None
    assert after is not None
    ratio = rate_ratio(after, before)
    gap = None
    if ratio is not None:
        gap = before.median * (ratio.low - 1), before.median * (ratio.high - 1)
    return _judged(name, RATE, before.median, after.median, gap, tolerance)


def _values(name: str, key: str, old: tuple[Record, Row], new: tuple[Record, Row]) -> Change:
    figure = _numbers(new[1])[key]
    values = old[1].figures[key], new[1].figures[key]
    one, other = (samples(record, row, key) for record, row in (old, new))
    if min(len(one), len(other)) < 2:
        change = values[1] - values[0]
        return _judged(name, figure, *values, (change, change) if figure.judged_alone else None)
    gap = mean_difference(other, one)
    return _judged(name, figure, *values, (gap.low, gap.high))


def _judged(
    name: str,
    figure: Figure,
    old: float,
    new: float,
    gap: tuple[float, float] | None,
    tolerance: float | None = None,
) -> Change:
    """The line of two values, by the interval of new less old; None where none is known."""
    ratio = None if figure.points or not old else new / old
    points = 100 * (new - old) if figure.points else None
    allowed = (figure.tolerance if tolerance is None else tolerance) * abs(old)
    regression = False
    if gap is None:
        verdict = SAME if new == old else NO_SPREAD
    elif gap[0] <= 0 <= gap[1] and max(-gap[0], gap[1]) > allowed:
        verdict = f"{CANNOT_TELL}: {_between(figure, old, *gap)}"
    elif abs(new - old) <= allowed:
        verdict = SAME
    else:
        regression = (new < old) == figure.higher_is_better
        verdict = figure.loss if regression else figure.gain
    return Change(name, figure, old, new, ratio, verdict, regression, points)


def _between(figure: Figure, old: float, low: float, high: float) -> str:
    if figure.points:
        return f"{100 * low:+.2f} to {100 * high:+.2f} points"
    return f"{low / old:+.0%} to {high / old:+.0%}" if old else f"{low:+.3g} to {high:+.3g}"


def samples(record: Record, row: Row, key: str) -> Sequence[float]:
    """The values that a figure of a row was taken from: of each start, call or run.

    Returns:
        one value or more; few or none where the record does not hold them.
    """
    each = row.figures.get(EACH, {})
    if key in each:
        return each[key]
    if key == "test_accuracy" and "test_accuracies" in row.figures:
        return row.figures["test_accuracies"]
    runs = [run.figures.get(key) for run in run_rows(record, row.name)]
    return [value for value in runs if value is not None]


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
    made.add_column("figure")
    for heading in ("old", "new", "new / old"):
        made.add_column(heading, justify="right")
    made.add_column("verdict")
    for change in changes:
        values = ["-" if v is None else change.figure.written(v) for v in (change.old, change.new)]
        # As text: what stands in brackets would be taken for markup.
        name, verdict = Text(change.name), Text(change.verdict)
        made.add_row(name, change.figure.heading, *values, _difference(change), verdict)
    return made


def _difference(change: Change) -> str:
    if change.points is not None:
        return f"{change.points:+.2f} points"
    return "" if change.ratio is None else f"{change.ratio:.3f}"
