"""Two records: a change is called one only beyond the noise."""

import dataclasses

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
        ((100, 80, 120, 9), (90, 70, 110, 9), "within the noise", False),
        # The notches are apart, but two runs of the same code differ by as much.
        ((100, 99.9, 100.1, 50), (98, 97.9, 98.1, 50), "within the noise", False),
        ((100, 99, 101, 25), (100, 99, 101, 25), "within the noise", False),
    ],
)
def test_verdicts(old, new, said, regression):
    assert verdict(old, new) == (said, regression)


def test_the_same_code_measured_twice_is_seldom_called_a_regression():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(500):
        old, new = (spread(rng.normal(100, 8, size=20)) for _ in range(2))
        said, _ = verdict(dataclasses.astuple(old), dataclasses.astuple(new))
        wrong += said != compare.SAME
    assert wrong / 500 < 0.06


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
