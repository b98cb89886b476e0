"""The record of a benchmark: what is written comes back, and nothing wrong carries a number."""

import json

import pytest

from fastcifar.bench import record
from fastcifar.bench.record import Estimate, Record, RecordFile, Row
from fastcifar.errors import ConfigError, RunDirError

RATE = Estimate(120.0, 110.5, 131.25, 7)
RATIO = Estimate(0.99, 0.97, 1.01, 7)


def make(*rows):
    return Record("fit", "fastcifar bench fit", {"cpu": "x"}, {"seed": 0}, rows)


def test_round_trip(tmp_path):
    whole = make(
        Row("end_to_end", RATE, ratios={"step": RATIO}, figures={"us_per_image": 8.3, "k": [1]}),
        Row("step", RATE),
        Row("fit", check="failed: wrong loss"),
        Row("torch", error="ImportError: no torch"),
        Row("transfer", check="not applicable: a CPU"),
    )
    record.write(tmp_path / "deep/r.json", whole)
    assert record.read(tmp_path / "deep/r.json") == whole


def test_the_file_has_the_documented_keys(tmp_path):
    record.write(tmp_path / "r.json", make(Row("step", RATE, figures={"startup_s": 2.5})))
    values = json.loads((tmp_path / "r.json").read_text())
    assert list(values) == ["schema", "kind", "command", "environment", "config", "rows"]
    assert values["schema"] == 1
    assert values["rows"] == [
        {
            "name": "step",
            "images_per_s": {"median": 120.0, "low": 110.5, "high": 131.25, "n": 7},
            "check": "ok",
            "error": None,
            "ratios": {},
            "startup_s": 2.5,
        }
    ]


@pytest.mark.parametrize(
    "fault", [{"check": "failed: twice"}, {"check": "not applicable: CPU"}, {"error": "ValueError"}]
)
def test_a_row_that_is_not_right_has_no_number(fault):
    row = Row("x", RATE, ratios={"step": RATIO}, figures={"us_per_image": 1.0}, **fault)
    assert row.images_per_s is None
    assert row.ratios == {}
    assert row.figures == {}


def test_a_figure_may_not_hide_a_field():
    with pytest.raises(ValueError, match="Received: check"):
        Row("x", figures={"check": "ok"})


def test_rows_are_on_disk_as_soon_as_they_are_put(tmp_path):
    file = RecordFile(tmp_path / "r.json", make())
    assert record.read(file.path).rows == ()
    file.put(Row("a", RATE), Row("b", RATE))
    file.put(Row("a", check="failed: x"))
    assert [row.name for row in record.read(file.path).rows] == ["a", "b"]
    assert record.read(file.path).row("a").check == "failed: x"
    assert record.read(file.path).row("c") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema": 2, "rows": []}', "must be of schema 1. Received: 2"),
        ('{"rows": []}', "must be of schema 1. Received: None"),
        ("[1]", "must be of schema 1. Received: None"),
        ("{", "must be JSON"),
        ('{"schema": 1, "rows": []}', "must have the keys of schema 1"),
        ('{"schema": 1, "rows": [{"name": "x"}]}', "must have the keys of schema 1"),
    ],
)
def test_another_schema_or_a_damaged_file_is_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        record.read(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.json cannot be read: No such file"):
        record.read(tmp_path / "none.json")


def test_a_disk_that_refuses_is_told_with_the_flag_that_mends_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirError, match=r"cannot be written: .* Choose another --out"):
        record.write(tmp_path / "file/r.json", make())
