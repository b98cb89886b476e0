"""`fastcifar bench …`: one mistake, one line; a record and a table at the end, or so far."""

import subprocess
import sys

import pytest

from fastcifar.bench import commands, record
from fastcifar.bench.flags import DEFAULT_RECIPE, MeasureFlags, run_config, split
from fastcifar.bench.record import Estimate, Row
from fastcifar.bench.recording import measure_into_record
from fastcifar.errors import ConfigError, UserError

SMALL = ["--images", "100", "--image-size", "16", "--global-batch-size", "50", "--seconds", "0.1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "bench needs one of"),
        (["fits"], "Received: 'fits'. Did you mean 'fit'?"),
        (["pipelines", "--image", "3"], "Received: '--image'. Did you mean '--images'?"),
        (["pipelines", "--image-size", "4"], "image-size must be 16 or more"),
        (["pipelines", "--images", "0"], "images must be 1 or more. Received: 0"),
        (["pipelines", "--images", "9"], "at most the 9 images. Received: 512"),
        (["pipelines", "--seconds"], "the flag --seconds needs a value"),
        (["pipelines", "--seconds", "soon"], "seconds must be a number. Received: 'soon'"),
        (["pipelines", "--seconds", "-1"], "seconds must be above 0. Received: -1.0"),
        (["pipelines", "--rounds=1"], "rounds must be 2 or more. Received: 1"),
        (["startup", "quickstart", "--augment", "standrad"], "Did you mean 'standard'?"),
        (["startup", "--round", "3"], "there is no flag --round"),
        (["fit", "--resume"], "bench fit starts no run: leave --resume out"),
        (["fit", "quickstrat"], "Did you mean 'quickstart'?"),
        (["fit", "--epochs", "-3"], "epochs must be 1 or more. Received: -3"),
    ],
)
def test_a_mistake_is_one_line_before_tensorflow_starts(arguments, said):
    def start():
        raise AssertionError("too late")

    with pytest.raises(UserError) as caught:
        commands.run(arguments, start)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parsing_does_not_import_tensorflow():
    code = (
        "import sys; from fastcifar.bench import commands; commands.run(['--help']);"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "fastcifar bench KIND" in done.stdout


def test_the_help_names_every_kind():
    with pytest.raises(ConfigError) as caught:
        commands.run([])
    kinds = str(caught.value).removeprefix("bench needs one of ").partition(";")[0].split(", ")
    assert len(kinds) >= 10
    for kind in kinds:
        assert f"\n  {kind} " in commands.HELP


def test_a_recipe_and_its_overrides_are_those_of_train():
    assert run_config([], "bench fit").recipe == DEFAULT_RECIPE
    assert run_config(["quickstart", "--seed", "7"], "bench fit").seed == 7
    assert run_config(["--seed", "7", "quickstart"], "bench fit").recipe == "quickstart"
    assert run_config(["--source", "synthetic"], "bench fit").data.source == "synthetic"


def test_own_flags_are_taken_out_of_the_arguments():
    given, rest = split(["quickstart", "--rounds=3", "--seed", "1", "--out", "x"], MeasureFlags)
    assert given == MeasureFlags(out="x", rounds=3)
    assert rest == ["quickstart", "--seed", "1"]
    with pytest.raises(ConfigError, match="needs a value"):
        split(["--out", "--rounds", "3"], MeasureFlags)


def test_pipelines_end_to_end(short_pieces, tmp_path, capsys, monkeypatch):
    from fastcifar.bench import pipelines

    monkeypatch.setattr(
        pipelines, "all_candidates", lambda split, size, _: pipelines.candidates(split, size)[:3]
    )
    out = tmp_path / "p.json"
    assert commands.run(["pipelines", *SMALL, "--out", str(out)]) == 0
    found = record.read(out)
    assert found.kind == "pipelines"
    assert found.command.startswith("fastcifar bench pipelines --images 100")
    assert found.config["global_batch_size"] == 50
    assert found.environment["versions"]["tensorflow"]
    printed = capsys.readouterr().out
    assert "permutation" in printed
    assert str(out) in printed.replace("\n", "")


def measure(work, tmp_path):
    given = MeasureFlags(out=str(tmp_path / "r.json"))
    return measure_into_record("fit", [], given, {"cpu": "a CPU"}, {}, work)


def test_an_interrupted_benchmark_keeps_and_shows_its_rows(tmp_path, capsys):
    def work(put):
        put(Row("first", Estimate(123.0, 120.0, 125.0, 4)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(work, tmp_path)
    (row,) = record.read(tmp_path / "r.json").rows
    assert row.images_per_s.n == 4
    assert "123" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (Row("a", Estimate(1.0, 1.0, 1.0, 2)), 0),
        (Row("a", check="not applicable: one replica"), 0),
        (Row("a", check="not run: install fastcifar[peers]"), 0),
        (Row("a", check="failed: wrong"), 1),
        (Row("a", error="MemoryError: no"), 1),
    ],
)
def test_the_exit_status_tells_of_a_row_that_failed(tmp_path, capsys, row, status):
    assert measure(lambda put: put(row), tmp_path) == status
    shown = capsys.readouterr().out
    assert (row.error or row.check) in shown
