"""The parts of a start, told apart; a cache that keeps nothing has no number."""

import dataclasses
from pathlib import Path

import pytest
from PIL import Image

from fastcifar import config_file
from fastcifar.bench import commands, pages, plots, record, tables
from fastcifar.bench.measure import Described
from fastcifar.bench.record import Record
from fastcifar.bench.startup import COLD, PLAIN, ROWS, WARM, StartupPlan, measure_startup
from fastcifar.errors import ConfigError
from tests.bench.handles import Canned
from tests.bench.subjects import CONFIG, Rows

COMPILE_S = {PLAIN: 1.0, COLD: 12.0, WARM: 3.0}


def start(loss=None, fails=None):
    """Processes that fill the cache, and take so long as `COMPILE_S` says."""
    configs = {}

    def prepare(name, config):
        configs[name] = config_file.from_dict(config).runtime
        if fails == name:
            raise Described("XlaError: no")
        cache = configs[name].compile_cache
        if name == COLD:
            assert not list(Path(cache).iterdir())
            (Path(cache) / "program").write_text("x")
        if name == WARM:
            assert list(Path(cache).iterdir())
        return {"import_s": 3.0, "build_s": 2.0, "precision": "float32", "environment": {"cpu": 1}}

    def first_step(name):
        return {
            "trace_s": 1.5,
            "compile_s": COMPILE_S[name],
            "step_s": 0.5,
            "startup_s": 8.0,
            "first_loss": (loss or {}).get(name, 2.3),
        }

    canned = Canned(prepare=prepare, first_step=first_step)
    canned.configs = configs
    return canned


def measured(processes, rounds=2):
    rows = Rows()
    measure_startup(CONFIG, StartupPlan(rounds=rounds), rows, processes.start)
    assert not processes.open
    return rows


def test_rows_take_turns_each_in_a_process_of_its_own():
    processes = start()
    rows = measured(processes)
    assert [name for name, do in processes.asked if do == "prepare"] == [*ROWS, *ROWS]
    assert processes.configs[PLAIN].xla == "off"
    assert processes.configs[PLAIN].compile_cache is None
    assert processes.configs[COLD].xla == processes.configs[WARM].xla == "on"
    assert processes.configs[COLD].compile_cache == processes.configs[WARM].compile_cache
    assert rows.environment == {"cpu": 1}
    assert {row.check for row in rows.values()} == {"ok"}
    assert rows[COLD].figures["compile_s"] == 12.0
    assert rows[COLD].figures["starts"] == 2
    assert rows[COLD].figures["each"]["compile_s"] == [12.0, 12.0]
    assert rows[WARM].figures["compile_to_cold"]["median"] == pytest.approx(0.25)
    assert rows[WARM].figures["compile_to_cold"]["n"] == 2


def test_a_cache_that_keeps_nothing_shows_no_number():
    processes = start()
    processes.answers["prepare"] = lambda name, config: {
        "import_s": 3.0,
        "build_s": 2.0,
        "precision": "float32",
        "environment": {},
    }
    rows = measured(processes)
    assert rows[COLD].check == "failed: nothing was kept in the compile cache"
    assert rows[COLD].figures == {}
    assert "compile_to_cold" not in rows[WARM].figures


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ({WARM: 2.4}, "failed: the loss of the first step is 2.40000, and 2.30000 without"),
        ({WARM: None}, "failed: the loss of the first step must be finite"),
    ],
)
def test_a_cached_program_that_answers_otherwise_shows_no_number(loss, said):
    processes = start(loss=loss)
    if loss[WARM] is None:
        first = processes.answers["first_step"]
        processes.answers["first_step"] = lambda name: {
            **first(name),
            "first_loss": None if name == WARM else 2.3,
        }
    rows = measured(processes)
    assert rows[WARM].check.startswith(said)
    assert rows[WARM].figures == {}
    assert rows[COLD].figures["starts"] == 2
    assert rows[COLD].figures["each"]["compile_s"] == [12.0, 12.0]


def test_what_fails_is_a_row_and_the_others_go_on():
    rows = measured(start(fails=COLD))
    assert rows[COLD].error == "XlaError: no"
    assert rows[PLAIN].figures["starts"] == 2


def test_a_mistake_of_the_user_ends_it():
    processes = start()

    def refuse(name, config):
        raise ConfigError("no such folder")

    processes.answers["prepare"] = refuse
    with pytest.raises(ConfigError, match="no such folder"):
        measured(processes)
    assert not processes.open


def test_table_and_plot(tmp_path):
    rows = measured(start())
    found = Record("startup", "fastcifar bench startup", {"cpu": "a CPU"}, {}, tuple(rows.values()))
    table = pages.table_of(found).splitlines()
    assert table[0] == (
        "|  | precision | import s | build s | trace s | compile s | step s | start-up s "
        "| compile, warm / cold | starts | check |"
    )
    assert table[4].startswith("| xla_warm | float32 | 3.00 | 2.00 | 1.50 | 3.00 | 0.500 | 8.0 |")
    assert "| 0.250 [0.250, 0.250] | 2 | ok |" in table[4]
    (picture,) = plots.write_plots(tmp_path / "r.json", found)
    with Image.open(picture) as image:
        assert image.width == 960
    failed = dataclasses.replace(found, rows=())
    assert plots.figures(failed) == {}
    assert not tables.failed(found)


@pytest.mark.slow
def test_end_to_end(tmp_path):
    out = tmp_path / "s.json"
    arguments = ["startup", "quickstart", "--synthetic-count", "300", "--rounds", "2"]
    assert commands.run([*arguments, "--out", str(out)]) == 0
    found = record.read(out)
    assert [row.name for row in found.rows] == list(ROWS)
    assert found.environment["threads"]
    warm, cold = found.row(WARM), found.row(COLD)
    assert warm.figures["compile_s"] < cold.figures["compile_s"]
