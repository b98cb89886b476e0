"""Two records: a change is called one only beyond the noise."""

import dataclasses
import re

import numpy as np
import pytest

from fastcifar.bench import commands, compare, record
from fastcifar.bench.record import Estimate, Record, Row
from fastcifar.bench.statistics import spread
from fastcifar.errors import ConfigError

MACHINE = {"cpu": "x", "cores": 2, "gpus": [], "versions": {"keras": "3"}, "commit": "abc"}


def make(environment=MACHINE, **rates):
    rows = [
        rate if isinstance(rate, Row) else Row(name, rate and Estimate(*rate))
        for name, rate in rates.items()
    ]
    return Record("fit", "fastcifar bench fit", environment, {}, tuple(rows))


def verdict(old, new):
    (change,) = compare.compare(make(step=old), make(step=new))
    return change.verdict, change.regression


@pytest.mark.parametrize(
    ("old", "new", "said", "regression"),
    [
        ((100, 99, 101, 25), (90, 89, 91, 25), "slower", True),
        ((100, 99, 101, 25), (110, 109, 111, 25), "faster", False),
        ((100, 80, 120, 9), (90, 70, 110, 9), "cannot tell", False),
        ((100, 90, 110, 2), (80, 70, 90, 2), "cannot tell", False),
        ((100, 99, 101, 1), (90, 90, 90, 25), compare.NO_SPREAD, False),
        # The intervals are apart, but two runs of the same code differ by as much.
        ((100, 99.9, 100.1, 50), (98, 97.9, 98.1, 50), "within the noise", False),
        ((100, 99, 101, 25), (100, 99, 101, 25), "within the noise", False),
    ],
)
def test_verdicts(old, new, said, regression):
    found = verdict(old, new)
    assert (found[0].partition(":")[0], found[1]) == (said.partition(":")[0], regression)
    assert re.fullmatch(r"cannot tell: -\d+% to \+\d+%", found[0]) or "cannot" not in said


@pytest.mark.parametrize("rounds", [2, 3, 5, 7, 20])
def test_the_same_code_measured_twice_is_seldom_called_faster_or_slower(rounds):
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(500):
        old, new = (spread(rng.normal(100, 8, size=rounds)) for _ in range(2))
        said, _ = verdict(dataclasses.astuple(old), dataclasses.astuple(new))
        wrong += said in (compare.FASTER, compare.SLOWER)
    assert wrong <= 25 + 3 * (500 * 0.05 * 0.95) ** 0.5  # 5 %, and what chance adds


def test_a_row_that_lost_its_number_is_a_regression():
    old = make(a=(100, 99, 101, 5), b=(100, 99, 101, 5), c=None, d=(1, 1, 1, 5))
    new = make(a=Row("a", check="failed: twice"), b=Row("b", error="X: y"), c=(9, 9, 9, 5), e=None)
    found = {change.name: change for change in compare.compare(old, new)}
    assert (found["a"].verdict, found["a"].regression) == (
        "no number any more: failed: twice",
        True,
    )
    assert (found["b"].verdict, found["b"].regression) == ("no number any more: X: y", True)
    assert (found["c"].verdict, found["c"].regression) == ("a number where there was none", False)
    assert (found["d"].verdict, found["d"].regression) == ("only in the old record", False)
    assert (found["e"].verdict, found["e"].regression) == ("only in the new record", False)


def starts(compile_s, startup_s, **more):
    """The row of a start, with the values of each."""
    each = {"compile_s": compile_s, "startup_s": startup_s}
    medians = {key: float(np.median(values)) for key, values in each.items()}
    return Row("plain", figures={**medians, "starts": len(startup_s), "each": each, **more})


def changes(old, new, kind="startup"):
    """The lines of two records by (row, figure)."""
    records = (Record(kind, "c", MACHINE, {}, tuple(rows)) for rows in (old, new))
    return {(c.name, c.figure.heading): c for c in compare.compare(*records)}


def test_each_part_of_a_start_is_compared_by_its_starts():
    old = starts([1.0, 1.1, 0.9, 1.0], [10.0, 11.0, 9.0, 10.0])
    new = starts([2.0, 2.1, 1.9, 2.0], [10.5, 11.5, 9.5, 10.5])
    found = changes([old], [new])
    assert list(found) == [("plain", "compile s"), ("plain", "start-up s")]
    slower = found["plain", "compile s"]
    assert (slower.old, slower.new, slower.ratio) == (1.0, 2.0, 2.0)
    assert (slower.verdict, slower.regression) == ("slower", True)
    same = found["plain", "start-up s"]
    assert (same.ratio, same.verdict, same.regression) == (1.05, "cannot tell: -9% to +19%", False)
    found = changes([new], [old])
    faster = found["plain", "compile s"]
    assert (faster.verdict, faster.regression) == ("faster", False)


def test_a_start_of_a_record_without_the_values_has_a_ratio_and_no_verdict():
    """Records that were made before starts were kept one by one."""
    new = starts([2.0, 2.0], [9.0, 9.0])
    old = starts([1.0, 1.0], [9.0, 9.0])
    del old.figures["each"]
    found = changes([old], [new])["plain", "compile s"]
    assert (found.ratio, found.verdict, found.regression) == (2.0, compare.NO_SPREAD, False)


def test_what_came_before_the_clock_is_no_figure_of_other_rows():
    rows = [[Row("a", Estimate(9, 9, 9, 5), figures={"startup_s": s})] for s in (1.0, 9.0)]
    assert list(changes(*rows, kind="fit")) == [("a", "images/s")]


def runs(accuracies, seconds=(10.0, 10.1), target=None, recipe="r", **more):
    """Rows of `bench accuracy`."""
    mean = {"test_accuracy": float(np.mean(accuracies)), "train_s": float(np.mean(seconds))}
    if target is not None:
        more |= {"reached": len(target)}
        more |= {"target_s": float(np.mean(target))} if len(target) == len(accuracies) else {}
    yield Row(recipe, figures={**mean, "runs": len(accuracies), **more})
    for seed, accuracy in enumerate(accuracies):
        own = {"test_accuracy": accuracy, "train_s": seconds[seed % len(seconds)], "startup_s": 1.0}
        own |= {"target_s": target[seed]} if target is not None and seed < len(target) else {}
        yield Row(f"{recipe}/seed {seed}", figures=own)


@pytest.mark.parametrize(
    ("new", "points", "said", "regression"),
    [
        ([0.90, 0.902, 0.898], -2.0, "worse", True),
        ([0.94, 0.942, 0.938], 2.0, "better", False),
        # Deviations 0.0721 and 0.002, n 3: error 0.0417; t of 2.003 degrees of freedom 4.30.
        ([0.85, 0.99, 0.89], -1.0, "cannot tell: -18.90 to +16.90 points", False),
    ],
)
def test_accuracies_are_compared_over_seeds(new, points, said, regression):
    found = changes(runs([0.92, 0.922, 0.918]), runs(new), "accuracy")
    # The runs are in the line of their recipe.
    assert list(found) == [("r", "test accuracy"), ("r", "training s")]
    change = found["r", "test accuracy"]
    assert change.points == pytest.approx(points)
    assert (change.ratio, change.verdict, change.regression) == (None, said, regression)
    assert found["r", "training s"].verdict == "within the noise"


def test_times_of_runs_are_compared_over_seeds():
    old = runs([0.9, 0.9], [10.0, 10.1], target=[5.0, 5.1])
    new = list(runs([0.9, 0.9], [12.0, 12.1], target=[4.0, 4.1]))
    found = changes(old, new, "accuracy")
    assert (found["r", "training s"].verdict, found["r", "training s"].regression) == (
        "slower",
        True,
    )
    assert found["r", "training s to target"].verdict == "faster"
    lost = changes(new, runs([0.9, 0.9], [12.0, 12.1], target=[4.0]), "accuracy")
    change = lost["r", "training s to target"]
    assert change.verdict == "no number any more: reached in 1 of 2 runs"
    assert change.regression


def test_one_run_tells_no_spread():
    found = changes(runs([0.9]), runs([0.5]), "accuracy")["r", "test accuracy"]
    assert (found.points, found.verdict, found.regression) == (-40.0, compare.NO_SPREAD, False)
    rows = [[Row("precision", figures={"test_accuracy": v, "test_accuracies": [v, v]})] for v in
            (0.9, 0.5)]  # fmt: skip
    (kept,) = changes(*rows, "precision").values()  # a row that holds the values of its runs
    assert (kept.verdict, kept.regression) == ("worse", True)


def test_a_run_that_is_lost_is_a_regression():
    old = list(runs([0.9, 0.91]))
    new = [*old[:2], Row("r/seed 1", error="DivergenceError: at step 3")]
    change = changes(old, new, "accuracy")["r/seed 1", "test accuracy"]
    assert change.verdict == "no number any more: DivergenceError: at step 3"
    assert change.regression


@pytest.mark.parametrize(
    ("new", "said", "regression"),
    [(1.05e9, "within the noise", False), (1.2e9, "more", True), (0.5e9, "less", False)],
)
def test_memory_is_held_to_a_tolerance(new, said, regression):
    rows = [
        [Row("a", Estimate(9, 9, 9, 5), figures={"peak_host_bytes": value})] for value in (1e9, new)
    ]
    change = changes(*rows, "precision")["a", "host peak MB"]
    assert (change.verdict, change.regression) == (said, regression)


def test_what_stands_in_brackets_is_shown(tmp_path, capsys):
    paths = [tmp_path / "old.json", tmp_path / "new.json"]
    record.write(paths[0], make(grain=(9, 9, 9, 5)))
    record.write(paths[1], make(grain=Row("grain", check="not run: install fastcifar[peers]")))
    assert commands.run(["compare", *map(str, paths)]) == 1
    assert "no number any more: not run: install fastcifar[peers]" in capsys.readouterr().out


def test_the_command_compares_starts(tmp_path, capsys):
    paths = [tmp_path / "old.json", tmp_path / "new.json"]
    for path, seconds in zip(paths, ([1.0, 1.1], [2.0, 2.1]), strict=True):
        found = Record("startup", "c", MACHINE, {}, (starts(seconds, [9.0, 9.1]),))
        record.write(path, found)
    assert commands.run(["compare", *map(str, paths)]) == 1
    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if "compile s" in line]
    assert [cell.strip() for cell in line.split("│")[1:-1]] == [
        "plain",
        "compile s",
        "1.05",
        "2.05",
        "1.952",
        "slower",
    ]


def test_records_of_different_kinds_are_refused():
    other = dataclasses.replace(make(), kind="stages")
    with pytest.raises(ConfigError, match="Received: fit and stages"):
        compare.compare(make(), other)


@pytest.mark.parametrize(
    ("new", "status"), [((99, 98, 100, 25), 0), ((50, 49, 51, 25), 1), ((200, 199, 201, 25), 0)]
)
def test_the_command_exits_with_1_on_a_regression(tmp_path, capsys, new, status):
    paths = [tmp_path / "old.json", tmp_path / "new.json"]
    record.write(paths[0], make(step=(100, 99, 101, 25)))
    record.write(paths[1], make(step=new))
    assert commands.run(["compare", *map(str, paths)]) == status
    assert "warning" not in capsys.readouterr().out


def test_different_machines_are_a_warning_in_the_table(tmp_path, capsys):
    paths = [tmp_path / "old.json", tmp_path / "new.json"]
    record.write(paths[0], make(step=(100, 99, 101, 25)))
    other = MACHINE | {"cpu": "y", "cores": 64, "versions": {"keras": "4"}}
    record.write(paths[1], make(other, step=(100, 99, 101, 25)))
    assert commands.run(["compare", *map(str, paths)]) == 0
    shown = capsys.readouterr().out
    assert "warning: different machines: cpu x and y; cores 2 and 64" in shown
    assert "warning: different software: versions keras 3 and keras 4" in shown


@pytest.mark.parametrize("arguments", [[], ["a"], ["a", "b", "c"], ["a", "--b"]])
def test_anything_but_two_records_is_refused(arguments):
    with pytest.raises(ConfigError, match="takes two records, OLD and NEW"):
        commands.run(["compare", *arguments])
