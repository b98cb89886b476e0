"""What people see is made of the record alone, and shows no number that the record has not."""

import dataclasses
import io

import pytest
from PIL import Image
from rich.console import Console

from fastcifar.bench import plots, record, tables
from fastcifar.bench.record import Estimate, Record, Row

MACHINE = {"cpu": "Some CPU", "cores": 2, "versions": {"tensorflow": "2.21.0"}}


def row(name, us, **figures):
    rate = Estimate(1e6 / us, 0.9e6 / us, 1.1e6 / us, 12)
    return Row(name, rate, figures={"us_per_image": us, "us_high": 1.1 * us, **figures})


STAGES = Record(
    "stages",
    "fastcifar bench stages",
    MACHINE,
    {},
    (
        row("read", 9.0, paid="once a run"),
        row("decode", 3.0, paid="each step"),
        row("order", 1.6, paid="each step"),
        Row("transfer", check="not applicable: a CPU"),
        row("dispatch", 1.5, share_of_step=0.01),
        Row("augment", figures={"us_per_image": -0.4, "us_high": 0.7, "share_of_step": 0.0}),
        row("forward", 80.0, share_of_step=0.4, flops_per_s=2e11, utilisation=0.4, intensity=50.0),
        Row("backward", check="failed: the loss must be finite. Received: nan"),
        row(
            "step",
            200.0,
            share_of_step=1.0,
            flops_per_s=1e11,
            utilisation=0.2,
            intensity=50.0,
            peak_flops_per_s=5e11,
            peak_bytes_per_s=2e10,
        ),
        dataclasses.replace(
            row("end_to_end", 204.0, verdict="Bound by the device: [compute]."),
            ratios={"step": Estimate(0.98, 0.96, 1.01, 12)},
        ),
    ),
)
FIT = dataclasses.replace(
    STAGES, kind="fit", rows=(row("end_to_end", 200.0), Row("fit", error="ValueError: no"))
)


def printed(table):
    out = io.StringIO()
    Console(file=out, width=200).print(table)
    return out.getvalue()


def line(text, name):
    (found,) = [line for line in text.splitlines() if f"│ {name} " in line]
    return found


def test_a_table_has_every_row_with_its_numbers():
    text = printed(tables.table(STAGES))
    assert "Some CPU, 2 cores, TensorFlow 2.21.0" in text
    assert "5,000" in line(text, "step")
    assert "0.980 [0.960, 1.010]" in line(text, "end_to_end")
    assert "40.0%" in line(text, "forward")
    assert "< 0.70" in line(text, "augment")


def test_a_row_that_is_wrong_shows_why_and_no_number():
    text = line(printed(tables.table(STAGES)), "backward")
    assert "failed: the loss must be finite" in text
    assert not any(character.isdigit() for character in text)
    assert "error: ValueError: no" in printed(tables.table(FIT))


def test_what_a_row_does_otherwise_is_told():
    found = dataclasses.replace(FIT, rows=(row("grain", 9.0, differs="two threads"),))
    assert tables.words(found) == ["grain: two threads."]


def test_rates_have_three_digits_or_more():
    assert [tables.number(rate) for rate in (7.414, 74.14, 741.4, 74140.0)] == [
        "7.41",
        "74.1",
        "741",
        "74,140",
    ]


def test_the_verdict_stands_below_the_table(capsys):
    tables.show(STAGES)
    assert capsys.readouterr().out.rstrip().endswith("Bound by the device: [compute].")


@pytest.mark.parametrize(
    ("found", "names"), [(STAGES, ["r.png", "r-roofline.png"]), (FIT, ["r.png"])]
)
def test_plots_stand_beside_the_record(tmp_path, found, names):
    record.write(tmp_path / "r.json", found)
    # From the file: a plot needs nothing that the record does not hold.
    written = plots.write_plots(tmp_path / "r.json", record.read(tmp_path / "r.json"))
    assert [path.name for path in written] == names
    for path in written:
        with Image.open(path) as picture:
            assert picture.width == 960


def test_a_record_without_numbers_has_no_plots(tmp_path):
    empty = dataclasses.replace(FIT, rows=(Row("fit", error="ValueError: no"),))
    assert plots.write_plots(tmp_path / "r.json", empty) == []
    assert plots.figures(dataclasses.replace(STAGES, rows=())) == {}


def test_bars_are_as_long_as_the_figures():
    (axes,) = plots.figures(STAGES)[""].axes
    widths = [bar.get_width() for bar in axes.patches]
    # What is paid once a run is no part of a step.
    assert widths == pytest.approx([3.0, 1.6, 1.5, -0.4, 80.0, 200.0, 204.0])
    starts = [bar.get_x() for bar in axes.patches]
    # Stages start where the last one ends.
    assert starts == pytest.approx([0, 0, 0, 1.5, 1.1, 0, 0])


def test_the_roof_meets_where_memory_gives_enough_for_the_peak():
    (axes,) = plots.figures(STAGES)["roofline"].axes
    roof, *points = axes.lines
    (left, ridge, _), (low, peak, flat) = roof.get_data()
    assert ridge == pytest.approx(25)  # 5e11 FLOP/s over 2e10 bytes/s
    assert (peak, flat) == pytest.approx((0.5, 0.5))
    assert low / left == pytest.approx(0.02)
    assert [tuple(float(v[0]) for v in point.get_data()) for point in points] == [
        (50.0, pytest.approx(0.2)),
        (50.0, pytest.approx(0.1)),
    ]
