"""Every record has its pictures, drawn from it alone."""

import dataclasses
from pathlib import Path

import pytest
from PIL import Image

from fastcifar.bench import pages, pictures, plots, record
from fastcifar.bench.record import Estimate, Record, Row

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / pages.RESULTS
RECORDS = list(pictures.records(RESULTS))
MACHINE = {"cpu": "a CPU", "cores": 2, "versions": {"tensorflow": "2.21.0"}}


def drawn(path, folder):
    """The pictures of a record, drawn into another folder."""
    return plots.write_plots(folder / path.name, record.read(path))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_committed_record_has_its_pictures(path, tmp_path):
    """By name and size: their bytes are those of one version of matplotlib."""
    found = drawn(path, tmp_path)
    assert found, "no figure is drawn for this kind of record"
    for picture in found:
        committed = RESULTS / picture.name
        assert committed.exists(), "run scripts/tables"
        with Image.open(picture) as one, Image.open(committed) as other:
            assert one.size == other.size, "run scripts/tables"


@pytest.mark.slow
def test_no_picture_is_without_its_record(tmp_path):
    known = {picture.name for path in RECORDS for picture in drawn(path, tmp_path)}
    others = {path.with_suffix(".png").name for path in {*RESULTS.glob("*.json")} - {*RECORDS}}
    committed = {path.name for path in RESULTS.glob("*.png")}
    assert committed == known | others, "remove what no record has any more"


def rate(median):
    return Estimate(float(median), 0.9 * median, 1.1 * median, 5)


AUGMENT = (
    Row("operations/Flip/fastcifar", rate(2e4)),
    Row("operations/Flip/KerasCV", rate(1e4)),
    Row("operations_xla/Flip/fastcifar", rate(5e4)),
    Row("operations_xla/Flip/KerasCV", check="not applicable: no kernel"),
    Row("policies/standard/fastcifar", rate(3e4)),
    Row("policies/standard/Keras", error="ValueError: no"),
    Row("input/map", rate(1e3), figures={"bytes_per_image": 600_000}),
    Row("transform/standard", rate(2e3)),
    Row("step/standard", rate(2e2), ratios={"transform/standard": Estimate(0.1, 0.09, 0.11, 5)}),
)
KINDS = {
    "augment": (AUGMENT, ["-policies", "-operations", "-input", "-step"]),
    "overheads": (
        (
            Row("reduce/packed", rate(1e4), figures={"us_per_image": 100.0}),
            Row("call", figures={"call_ms": 5.0, "step_ms": 100.0}),
        ),
        [""],
    ),
    "sources": (
        (Row("csv", rate(9e3), figures={"first_use_s": 9.0, "second_use_s": 3.0}),),
        ["", "-use"],
    ),
    "transfer": (
        (
            Row("pretraining", figures={"test_accuracy": 0.7, "test_accuracies": [0.7]}),
            Row("head/100", figures={"test_accuracy": 0.5, "test_accuracies": [0.4, 0.6]}),
            Row("head/500", figures={"test_accuracy": 0.6, "test_accuracies": [0.6, 0.6]}),
        ),
        [""],
    ),
    "accuracy": (
        (Row("none", figures={"test_accuracy": 0.7, "validation_by_epoch": [0.5, 0.6]}),),
        [""],
    ),
}


def made(kind, rows=None):
    rows = KINDS[kind][0] if rows is None else rows
    return Record(kind, "c", MACHINE, {"global_batch_size": 50}, tuple(rows))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_figures_and_none_where_nothing_was_measured(tmp_path, kind):
    found = plots.write_plots(tmp_path / "r.json", made(kind))
    assert [path.name for path in found] == [f"r{suffix}.png" for suffix in KINDS[kind][1]]
    assert plots.figures(made(kind, ())) == {}
    failed = [dataclasses.replace(row, error="ValueError: no") for row in KINDS[kind][0]]
    assert plots.figures(made(kind, failed)) == {}


def test_marks_stand_at_the_rates():
    figure = plots.figures(made("augment"))["operations"]
    graphs, compiled = figure.axes
    assert [label.get_text() for label in graphs.get_yticklabels()] == ["Flip"]

    def marks(axes):
        return {line.get_label(): list(line.get_xdata()) for line in axes.lines}

    assert marks(graphs) == {"fastcifar": [2e4], "KerasCV": [1e4], "Keras": []}
    assert marks(compiled) == {"fastcifar": [5e4], "KerasCV": [], "Keras": []}


@pytest.mark.parametrize(("slow", "scale"), [(5e3, "linear"), (50.0, "log")])
def test_no_bar_stands_on_a_logarithmic_axis(slow, scale):
    """It has no zero, so that a bar's length would be that of an arbitrary start."""
    rows = [Row("fast", rate(1e4)), Row("slow", rate(slow))]
    (axes,) = plots.figures(made("pipelines", rows))[""].axes
    assert axes.get_xscale() == scale
    assert len(axes.patches) == (2 if scale == "linear" else 0)
    points = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert points == ([] if scale == "linear" else [1e4, slow])


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_committed_records_have_no_bars_on_logarithmic_axes(path):
    for figure in plots.figures(record.read(path)).values():
        for axes in figure.axes:
            assert "log" not in (axes.get_xscale(), axes.get_yscale()) or not axes.patches


def test_a_step_of_reductions_is_told_in_milliseconds():
    (axes,) = plots.figures(made("overheads"))[""].axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([5.0, 5.0])


def test_drawing_again_changes_nothing(tmp_path, capsys):
    results = tmp_path / pages.RESULTS
    results.mkdir(parents=True)
    record.write(results / "a.json", made("sources"))
    (results / "curve.json").write_text("{}")  # not of a benchmark
    pictures.main(tmp_path)
    shown = capsys.readouterr().out.split()
    assert [Path(path).name for path in shown] == ["a.png", "a-use.png"]
    before = {path: path.read_bytes() for path in results.glob("*.png")}
    pictures.main(tmp_path)
    assert capsys.readouterr().out == ""
    assert {path: path.read_bytes() for path in results.glob("*.png")} == before
