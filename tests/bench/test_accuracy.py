"""Runs over seeds are runs of the trainer, and their figures those of the runs."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from fastcifar.bench import commands, pages, plots
from fastcifar.bench.accuracy import AccuracyPlan, measure_accuracy, time_to
from fastcifar.bench.measure import Described
from fastcifar.bench.record import Record
from fastcifar.bench.seeded import SeededRuns
from fastcifar.errors import ConfigError
from fastcifar.training.trainer import train
from tests.bench.handles import Canned, Local
from tests.bench.subjects import CONFIG, Rows
from tests.training.small_run import small

PHASE = dataclasses.replace(CONFIG.phases[0], epochs=2, augment="flip-crop", schedule="constant")
RUNS = dataclasses.replace(CONFIG, phases=(PHASE,), seed=5)


@pytest.mark.usefixtures("tiny_network")
def test_a_seeded_run_is_that_of_train_bit_for_bit(tmp_path):
    trained = train(RUNS, str(tmp_path / "train"))
    runs = SeededRuns(RUNS)
    first = runs.run(5, tmp_path / "a")
    assert first["weights_sha256"] == trained["weights_sha256"]
    assert first["test_accuracy"] == trained["test_accuracy"]
    # Another seed is another run, compiled no more; then the first again, from the same weights.
    other = runs.run(6, tmp_path / "b")
    again = runs.run(5, tmp_path / "c")
    assert other["weights_sha256"] != first["weights_sha256"]
    assert again["weights_sha256"] == first["weights_sha256"]
    assert {step.traces for step in runs._steps.values()} == {1}
    # A run that compiles nothing has no call left out of its time.
    assert all(epoch["train_s"] > 0 for epoch in other["metrics"])


@pytest.mark.usefixtures("tiny_network")
def test_another_seed_is_the_run_of_that_seed(tmp_path):
    """Weights, order and augmentation of a later seed are those of a first run with it."""
    after = SeededRuns(RUNS)
    after.run(5, tmp_path / "a")
    later = after.run(6, tmp_path / "b")
    alone = SeededRuns(RUNS).run(6, tmp_path / "c")
    assert later["weights_sha256"] == alone["weights_sha256"]


@pytest.fixture
def folder(tmp_path):
    """Images that no seed chooses: 24 of each of two classes to train on."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for name in ("a", "b"):
            place = tmp_path / "images" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path / "images"


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["memory", "off"])
def test_the_run_of_any_seed_is_that_of_train_with_dropout(tmp_path, folder, cache):
    """Through a head that trains on cached features, whose batches hold no images."""
    config = small(
        seed=5,
        data={
            "source": "image_folder",
            "data_path": str(folder),
            "validation_fraction": 0.0,
            "feature_cache": cache,
        },
        model={"dropout": 0.5},
        phase={"epochs": 1},
    )
    head = dataclasses.replace(config.phases[0], trainable="head", name="head")
    config = dataclasses.replace(config, phases=(head, config.phases[0]))
    runs = SeededRuns(config)
    found = [runs.run(seed, tmp_path / f"run {seed}") for seed in (5, 6)]
    assert {step.traces for step in runs._steps.values()} == {1}
    trained = train(dataclasses.replace(config, seed=6), str(tmp_path / "train"))
    assert found[1]["weights_sha256"] == trained["weights_sha256"]
    assert found[0]["weights_sha256"] != trained["weights_sha256"]


def test_features_that_do_not_fit_are_refused_before_a_run():
    config = small(data={"feature_cache": "memory", "memory_budget": "1kB"})
    phase = dataclasses.replace(config.phases[0], trainable="head")
    with pytest.raises(ConfigError, match="feature-cache memory needs"):
        SeededRuns(dataclasses.replace(config, phases=(phase,)))


@pytest.mark.usefixtures("tiny_network")
def test_rows_of_real_runs():
    rows = Rows()
    measure_accuracy({"custom": RUNS}, AccuracyPlan(2, target=0.01), rows, Local)
    assert list(rows) == ["custom", "custom/seed 5", "custom/seed 6"]
    assert rows["custom"].figures["runs"] == 2
    assert 0 <= rows["custom"].figures["reached"] <= 2
    assert rows.environment["threads"]


def run_of(accuracy, *epochs):
    metrics = [{"train_s": s, "validation_accuracy": a} for s, a in epochs]
    return {
        "test_accuracy": accuracy,
        "validation_accuracy": epochs[-1][1],
        "train_s": sum(s for s, _ in epochs),
        "startup_s": 5.0,
        "precision": "float32",
        "metrics": metrics,
    }


def answering(runs):
    def train_seed(name, seed, run_dir):
        found = runs[name][seed]
        if isinstance(found, Exception):
            raise found
        return found

    return Canned(prepare_runs=lambda name, config: {"environment": {"cpu": "x"}}, train=train_seed)


A = [run_of(0.90, (10, 0.80), (10, 0.92)), run_of(0.92, (10, 0.93), (10, 0.94))]
B = [run_of(0.80, (5, 0.70), (5, 0.79)), run_of(0.82, (5, 0.71), (5, 0.80))]


def measured(runs, **plan):
    rows = Rows()
    processes = answering(runs)
    config = dataclasses.replace(CONFIG, seed=0)
    measure_accuracy(dict.fromkeys(runs, config), AccuracyPlan(2, **plan), rows, processes.start)
    assert not processes.open
    return rows


def test_mean_spread_and_time_to_the_target(tmp_path):
    rows = measured({"a": A, "b": B}, target=0.9)
    assert rows["a/seed 0"].figures["target_s"] == 20
    assert rows["a/seed 1"].figures["target_s"] == 10
    assert rows["b/seed 0"].figures["target_s"] is None
    assert rows["a"].figures["accuracy"]["median"] == pytest.approx(0.91)
    assert rows["a"].figures["deviation"] == pytest.approx(0.01 * 2**0.5)
    assert rows["a"].figures["target_s"] == 15
    assert "target_s" not in rows["b"].figures
    assert "reached in 2 of 2 runs, after 15.0 s" in rows["a"].figures["verdict"]
    assert "reached in 0 of 2 runs." in rows["b"].figures["verdict"]
    assert "Against a: -10.00 points [" in rows["b"].figures["verdict"]

    found = Record("accuracy", "c", {"cpu": "a CPU"}, {}, tuple(rows.values()))
    header = pages.table_of(found).splitlines()[0]
    assert "| test accuracy | mean accuracy | standard deviation | runs |" in header
    assert "images/s" not in header
    (picture,) = plots.write_plots(tmp_path / "r.json", found)
    with Image.open(picture) as image:
        assert image.width == 960


def test_recipes_that_do_not_differ_say_so():
    rows = measured({"a": A, "b": [A[1], A[0]]})
    assert "these seeds cannot tell" in rows["b"].figures["verdict"]


def test_a_run_that_diverges_is_a_row_and_the_others_go_on():
    rows = measured({"a": [Described("DivergenceError: at step 3"), A[1]]})
    assert rows["a/seed 0"].error == "DivergenceError: at step 3"
    assert rows["a"].figures["runs"] == 1
    assert "tells no spread" in rows["a"].figures["verdict"]


def test_time_to_a_target():
    metrics = A[0]["metrics"]
    assert time_to(0.8, metrics) == 10
    assert time_to(0.9, metrics) == 20
    assert time_to(0.95, metrics) is None
    assert time_to(0.1, [{"train_s": 1, "validation_accuracy": None}]) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--seeds", "0"], "seeds must be 1 or more. Received: 0"),
        (["--target", "94"], "target must be above 0 and at most 1. Received: 94.0"),
        (["--seconds", "5"], "runs to the end: use --seeds and --epochs"),
        (["quickstart", "quickstrat"], "Received: 'quickstart' and 'quickstrat'"),
    ],
)
def test_mistakes_are_one_line(given, said):
    with pytest.raises(ConfigError, match=said):
        commands.run(["accuracy", *given])
