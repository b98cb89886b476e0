"""Tuning finds what is fastest, survives what does not fit, and writes what `train` takes."""

import dataclasses

import pytest

from fastcifar import config_file
from fastcifar.arguments import parse_train
from fastcifar.bench import axes, commands, process_commands, record
from fastcifar.bench.measure import Described
from fastcifar.bench.processes.row_process import OutOfMemory
from fastcifar.bench.tune import RECIPE, TunePlan, measure_tune, write_config
from fastcifar.errors import ConfigError
from tests.bench.handles import Canned, Local
from tests.bench.subjects import CONFIG, Rows

MACHINE = {"on_gpu": False, "precision": "float32", "cores": 2}
IMAGE_S = 0.002 / 8


def answering(too_large=32, broken=None):
    """bfloat16 halves the time; a batch of `too_large` does not fit."""
    configs = {}

    def prepare(name, config):
        configs[name] = config_file.from_dict(config)
        if broken:
            raise broken
        if configs[name].global_batch_size >= too_large:
            raise OutOfMemory("ResourceExhaustedError: OOM when allocating")
        precision = configs[name].runtime.precision
        return {"gpus": [], "precision": precision, "environment": {"cpu": "x"}}

    def run(name):
        config = configs[name]
        slow = 1.0 if config.runtime.precision == "mixed_bfloat16" else 2.0
        canned.clock.now += IMAGE_S * slow * config.global_batch_size
        return float(config.global_batch_size)

    canned = Canned(
        prepare=prepare,
        calibrate=lambda name, share: {"check": "ok", "steps": 1},
        drain=lambda name: None,
        run=run,
    )
    return canned


@pytest.fixture
def hasty(monkeypatch):
    from fastcifar.bench import tune

    monkeypatch.setattr(tune, "_FIRST_S", 0.02)


def measured(processes, budget_s=20.0, **plan):
    rows = Rows()
    asked = TunePlan(budget_s=budget_s, seconds=0.1, **plan)
    found = measure_tune(CONFIG, asked, rows, processes.start, processes.clock)
    assert not processes.open
    return found, rows


def test_the_fastest_wins_and_what_does_not_fit_is_a_row(hasty):
    found, rows = measured(answering(), axes=(axes.PRECISION, axes.BATCH))
    assert found.runtime.precision == "mixed_bfloat16"
    assert rows[RECIPE].images_per_s is not None
    large = rows["global-batch-size 32"]
    assert large.error == "ResourceExhaustedError: OOM when allocating"
    assert large.images_per_s is None
    winner = rows["winner"]
    assert winner.ratios[RECIPE].median == pytest.approx(2)
    assert config_file.from_dict(winner.figures["config"]) == found
    assert "× the recipe" in winner.figures["verdict"]
    assert max(row.figures.get("stage", 0) for row in rows.values()) > 1


def test_another_batch_comes_with_a_caution(hasty):
    processes = answering()

    def run(name):
        processes.clock.now += 0.002  # however many images
        return 16.0 if "16" in name or name == "winner" else 8.0

    processes.answers["run"] = run
    found, rows = measured(processes, axes=(axes.BATCH,))
    assert found.global_batch_size == 16
    assert "learns otherwise: set --learning-rate" in rows["winner"].figures["verdict"]


def test_a_recipe_that_is_the_fastest_stays(hasty):
    found, rows = measured(answering(too_large=9), axes=(axes.CALLS,), budget_s=0.001)
    assert found == CONFIG
    assert "Nothing that was tried is faster" in rows["winner"].figures["verdict"]
    # What there was no time for is named.
    assert any(row.check == "not run: the budget was spent" for row in rows.values())


def test_a_winner_by_chance_does_not_stay(hasty):
    processes = answering()

    def run(name):
        # The recipe had bad luck while it was measured alone.
        alone = len(processes.open) == 1
        slow = name == "winner" or (name == RECIPE and alone)
        processes.clock.now += 0.004 if slow else 0.001
        return 8.0

    processes.answers["run"] = run
    found, rows = measured(processes, axes=(axes.CALLS,))
    assert found == CONFIG
    assert "beyond the noise: the recipe stays" in rows["winner"].figures["verdict"]


def test_a_recipe_that_does_not_run_ends_it(hasty):
    with pytest.raises(ConfigError, match="no such folder"):
        measured(answering(broken=ConfigError("no such folder")))
    with pytest.raises(Described, match="the recipe itself cannot be measured: InternalError"):
        measured(answering(broken=Described("InternalError: no")))


def test_combinations_are_legal_and_start_with_the_recipe():
    found = axes.trials(CONFIG, axes.AXES, **MACHINE)
    assert found[0].name == RECIPE
    assert found[0].config == CONFIG
    assert len({trial.name for trial in found}) == len(found)
    changes = [trial.name.count(",") for trial in found[1:]]
    assert found[1].name.startswith("precision ")
    assert changes[: changes.count(0)] == [0] * changes.count(0)  # single changes first
    assert "xla on" not in {trial.name for trial in found}  # a minute each, and lost on a CPU
    gpu = axes.trials(CONFIG, (axes.XLA, axes.CACHE, axes.AUGMENT), **MACHINE | {"on_gpu": True})
    names = {trial.name for trial in gpu}
    assert "xla on" in names
    assert "augment-on host, cache device" not in names  # refused by the configuration
    host = next(trial for trial in gpu if trial.name == "augment-on host")
    assert host.config.data.resize_on == "host"


@pytest.mark.usefixtures("tiny_network", "short_pieces", "hasty")
def test_the_file_is_what_train_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(process_commands.row_process, "start", Local)
    write_config(tmp_path / "recipe.json", CONFIG)
    out = tmp_path / "t.json"
    arguments = ["tune", "--config", str(tmp_path / "recipe.json"), "--budget", "0.001"]
    arguments += ["--axes", "parallel-map", "--seconds", "0.1", "--out", str(out)]
    assert commands.run(arguments) == 0
    (tmp_path / "t-config.json").read_text()
    order = parse_train(["--config", str(tmp_path / "t-config.json")])
    assert order.config.model == CONFIG.model
    found = record.read(out)
    assert found.row("winner") is not None
    assert dataclasses.asdict(found.row(RECIPE).images_per_s)["n"] >= 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--axes", "presicion"], "Received: 'presicion'. Did you mean 'precision'?"),
        (["--budget", "0"], "budget must be above 0 minutes. Received: 0.0"),
        (["--rounds", "3"], "leave --rounds out"),
    ],
)
def test_mistakes_are_one_line(given, said):
    with pytest.raises(ConfigError) as caught:
        commands.run(["tune", *given])
    assert said in str(caught.value)
