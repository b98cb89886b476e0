"""`fastcifar bench augment`: one mistake, one line; a record and tables at the end, or so far."""

import subprocess
import sys

import pytest

from fastcifar.bench import record
from fastcifar.bench.augmentation import command
from fastcifar.bench.record import Estimate, Row
from fastcifar.errors import ConfigError

SMALL = ["--image-size", "8", "--source-size", "8", "--global-batch-size", "8", "--rounds", "2"]
RATE = Estimate(1.0, 1.0, 1.0, 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--image-size", "4"], "image-size must be 8 or more. Received: 4"),
        (["--global-batch-size", "12"], "a multiple of 8, the groups of some policies"),
        (["--parts", "operation"], "Received: 'operation'. Did you mean 'operations'?"),
        (["--only", "Flip,Rotat"], "Received: 'Rotat'. Did you mean 'Rotate'?"),
        (["--batch", "128"], "bench augment takes --out, --seconds"),
        (["--seconds", "0"], "seconds must be above 0"),
    ],
)
def test_a_mistake_is_one_line_before_tensorflow_starts(arguments, said):
    def start():
        raise AssertionError("too late")

    with pytest.raises(ConfigError) as caught:
        command.run(arguments, start)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parsing_does_not_import_tensorflow():
    code = (
        "import sys; from fastcifar.bench.augmentation import command; command.parse([]);"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_end_to_end(tmp_path, capsys):
    out = tmp_path / "a.json"
    arguments = [*SMALL, "--parts", "operations", "--only", "Flip", "--out", str(out)]
    assert command.run(arguments) == 0
    found = record.read(out)
    assert found.kind == "augment"
    assert found.command == f"fastcifar bench augment {' '.join(arguments)}"
    assert (found.config["image_size"], found.config["only"]) == (8, "Flip")
    assert found.environment["versions"]["keras-cv"]
    assert len(found.rows) == 6
    printed = capsys.readouterr().out
    assert "| `Flip` |" in printed
    assert str(out) in printed


def test_the_step_is_that_of_a_recipe():
    given = command.parse(["--image-size", "224", "--global-batch-size", "16"])
    config = command.step_config(given)
    assert config.global_batch_size == 16
    assert config.phases[0].image_size == 224
    assert config.model.depth == 50
    assert config.data.synthetic_size == 32


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (Row("operations/Flip/Keras", check="failed: wrong"), 0),
        (Row("operations/Flip/KerasCV", error="ValueError: no"), 0),
        (Row("operations/Flip/fastcifar", check="failed: wrong"), 1),
        (Row("input/map", error="ValueError: no"), 1),
    ],
)
def test_the_exit_status_tells_of_a_row_of_ours_that_failed(tmp_path, monkeypatch, row, status):
    monkeypatch.setattr(command, "measure", lambda given, runtime, put: put(row))
    assert command.run(["--out", str(tmp_path / "r.json")]) == status


def test_an_interrupted_benchmark_keeps_and_shows_its_rows(tmp_path, monkeypatch, capsys):
    def work(given, runtime, put):
        put(Row("policies/flip/fastcifar", RATE))
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "measure", work)
    with pytest.raises(KeyboardInterrupt):
        command.run(["--out", str(tmp_path / "r.json")])
    assert len(record.read(tmp_path / "r.json").rows) == 1
    assert "`flip`" in capsys.readouterr().out
