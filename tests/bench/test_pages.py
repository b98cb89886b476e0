"""Tables of the documentation are those of the records."""

from pathlib import Path

import pytest

from fastcifar.bench import pages, record
from fastcifar.bench.record import Estimate, Record, Row
from fastcifar.errors import ConfigError

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "cpu": "a CPU",
    "cores": 2,
    "commit": "abc",
    "versions": {"fastcifar": "0.1", "tensorflow": "2.21.0", "keras": "3.15.1"},
}


def rate(median, n=5):
    return Estimate(float(median), 0.9 * median, 1.1 * median, n)


def made(kind, *rows):
    return Record(kind, f"fastcifar bench {kind} --out r.json", ENVIRONMENT, {}, rows)


AUGMENT = made(
    "augment",
    Row(
        "operations/Flip/fastcifar",
        rate(20_000),
        ratios={"operations/Flip/KerasCV": Estimate(2.0, 1.9, 2.1, 5)},
    ),
    Row("operations/Flip/KerasCV", rate(10_000), figures={"differs": "one draw; inside"}),
    Row("operations/Flip/Keras", check="failed: values must lie in 0..255"),
    Row("operations/Invert/fastcifar", rate(30_000)),
    Row("operations/Invert/KerasCV", error="ValueError: a | b"),
    Row(
        "operations_xla/Flip/fastcifar",
        rate(50_000),
        ratios={"operations/Flip/fastcifar": Estimate(2.5, 2.4, 2.6, 5)},
    ),
    Row("operations_xla/Flip/KerasCV", check="not applicable: Crop has no XLA kernel"),
    Row("policies/flip/fastcifar", rate(9)),
    Row("input/map", rate(1_000), figures={"bytes_per_image": 600_000}),
    Row(
        "input/device_float32",
        rate(4_000),
        ratios={
            "input/map": Estimate(4.0, 3.9, 4.1, 5),
            "input/copy_float32": Estimate(0.5, 0.4, 0.6, 5),
        },
        figures={"bytes_per_image": 600_000},
    ),
    Row("transform/standard", rate(2_000)),
    Row(
        "step/standard",
        rate(200.0),
        ratios={
            "transform/standard": Estimate(0.1, 0.09, 0.112, 5),
            "step/none": Estimate(0.9, 0.85, 1.02, 5),
        },
    ),
)


def lines(section):
    return pages.table_of(AUGMENT, section).splitlines()


def test_operations_against_libraries():
    header, _, flip, invert, *rest = lines("operations")
    assert header.startswith("|  | fastcifar, images/s | KerasCV, images/s | Keras, images/s |")
    assert flip == ("| `Flip` | 20,000 | 10,000 (a, b) | failed (c) | 2.00 [1.90, 2.10] |  | 5 |")
    assert invert == "| `Invert` | 30,000 | error (d) | - |  |  | 5 |"
    assert rest[1] == (
        "(a) one draw. (b) inside. (c) values must lie in 0..255. (d) ValueError: a | b."
    )


def test_what_does_not_compile_says_why():
    header, _, flip, _, notes, *_ = lines("operations_xla")
    assert header.endswith("| × KerasCV | × Keras | × uncompiled | n |")
    assert flip == "| `Flip` | 50,000 | no (a) | - |  |  | 2.50 [2.40, 2.60] | 5 |"
    assert notes == "(a) Crop has no XLA kernel."


def test_ways_of_input():
    _, _, mapped, device, *_ = lines("input")
    assert mapped == "| `input/map` | 1,000 [900, 1,100] | 0.60 |  |  | 5 |"
    assert device == (
        "| `input/device_float32` | 4,000 [3,600, 4,400] | 2.40 | 4.00 [3.90, 4.10] "
        "| 0.50 [0.40, 0.60] | 5 |"
    )


def test_shares_of_the_step():
    assert lines("step")[2] == (
        "| `standard` | 200.0 | 10.00% [9.00%, 11.20%] | 10.00% [-2.00%, 15.00%] | 5 |"
    )


def test_every_table_says_on_what_and_how_it_was_measured():
    for section in ("operations", "policies", "input", "step"):
        assert lines(section)[-1] == (
            "a CPU, 2 cores; tensorflow 2.21.0, keras 3.15.1; fastcifar 0.1, commit abc. "
            "Repeat: `fastcifar bench augment --out r.json`"
        )


def test_any_record_has_a_table():
    ratio = {"textbook": Estimate(3.0, 2.5, 3.5, 4)}
    pipelines = made("pipelines", Row("ours", rate(300, 4), ratios=ratio), Row("textbook"))
    table = pages.table_of(pipelines).splitlines()
    assert table[0] == "|  | images/s | quartiles | n | × textbook | check |"
    assert table[2] == "| ours | 300 | 270 to 330 | 4 | 3.000 [2.500, 3.500] | ok |"
    stages = made("stages", Row("step", rate(1), figures={"verdict": "Bound by the device."}))
    assert "Bound by the device." in pages.table_of(stages)


def test_a_single_row_has_a_table_of_its_own():
    ladder = made(
        "ladder",
        Row("naive", rate(100)),
        Row("order permutation", rate(200), figures={"outcome": "kept"}),
    )
    for name in ("order_permutation", "order permutation"):
        table = pages.table_of(ladder, name).splitlines()
        assert table[2] == "| order permutation | 200 | 180 to 220 | 5 | kept | ok |"
        assert "naive" not in table[2:4]
    scaling = made("scaling", Row("1", rate(9)), Row("weak/2", rate(8)), Row("weak/4", rate(7)))
    assert len(pages.table_of(scaling, "weak").splitlines()) == 6
    assert pages.table_of(scaling, "weak/2").splitlines()[2].startswith("| weak/2 | 8.00 |")
    assert pages.table_of(scaling, "strong") == pages.NOT_MEASURED


PAGE = """# Title

<!-- table: fake/step -->
old
<!-- end -->

between

<!-- table: absent -->
<!-- end -->
"""


def test_pages_are_filled_and_filling_again_changes_nothing(tmp_path):
    record.write(tmp_path / "fake.json", AUGMENT)
    filled = pages.fill(PAGE, tmp_path)
    assert pages.marked(filled) == ["fake/step", "absent"]
    assert "old" not in filled
    assert filled.startswith("# Title\n\n<!-- table: fake/step -->\n|  | step, images/s |")
    assert f"<!-- table: absent -->\n{pages.NOT_MEASURED}\n<!-- end -->\n" in filled
    assert "\n\nbetween\n\n" in filled
    assert pages.fill(filled, tmp_path) == filled


def test_a_damaged_record_is_an_error(tmp_path):
    (tmp_path / "fake.json").write_text("{")
    with pytest.raises(ConfigError, match=r"fake\.json must be JSON"):
        pages.fill(PAGE, tmp_path)


def test_main_writes_what_has_changed(tmp_path, capsys):
    results = tmp_path / pages.RESULTS
    results.mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("no table here\n")
    (tmp_path / "docs" / "a.md").write_text(PAGE)
    record.write(results / "fake.json", AUGMENT)
    pages.main(tmp_path)
    assert "`standard`" in (tmp_path / "docs" / "a.md").read_text()
    assert "a.md: fake/step, absent" in capsys.readouterr().out
    pages.main(tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("page", "name"),
    [
        (page.relative_to(ROOT), name)
        for page in pages.pages(ROOT)
        for name in pages.marked(page.read_text(encoding="utf-8"))
    ],
)
def test_the_committed_pages_are_those_of_the_committed_records(page, name):
    text = (ROOT / page).read_text(encoding="utf-8")
    start = text.index(f"<!-- table: {name} -->")
    table = text[start : text.index("<!-- end -->", start)]
    assert table in pages.fill(text, ROOT / pages.RESULTS), "run scripts/tables"
