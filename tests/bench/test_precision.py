"""Precisions start from the same weights and batches, take turns, and are judged by losses."""

import dataclasses

import pytest
from PIL import Image

from fastcifar.bench import commands, pages, plots
from fastcifar.bench.measure import Described
from fastcifar.bench.precision import PrecisionPlan, measure_precision
from fastcifar.bench.record import Record
from fastcifar.errors import ConfigError
from tests.bench.handles import Canned, Local
from tests.bench.subjects import BATCH, CONFIG, Rows

NAMES = ["float32", "mixed_bfloat16", "mixed_float16", "float32_nudged"]


def measured(start, config=CONFIG, **plan):
    rows = Rows()
    measure_precision(config, PrecisionPlan(rounds=2, **plan), rows, start)
    return rows


@pytest.mark.usefixtures("tiny_network", "short_pieces")
def test_all_precisions_of_the_real_step(tmp_path):
    rows = measured(Local, steps=6, include_fp16=True)
    assert list(rows) == NAMES
    assert {row.check for row in rows.values()} == {"ok"}
    for name in NAMES[:3]:
        assert rows[name].images_per_s.n == (4 if name == "mixed_float16" else 2)
        assert rows[name].figures["peak_host_bytes"] > 1e6
        assert list(rows[name].ratios) == ([] if name == "float32" else ["float32"])
    assert len(rows["mixed_bfloat16"].figures["losses"]) == 6
    assert len(rows["mixed_float16"].figures["losses"]) == 5  # it is emulated
    first = [rows[name].figures["losses"][0] for name in NAMES]
    assert first == pytest.approx([first[0]] * 4, rel=1e-2)
    assert "× float32. Over 6 steps" in rows["mixed_bfloat16"].figures["verdict"]
    assert rows.environment["threads"]

    found = Record("precision", "c", {"cpu": "a CPU"}, {}, tuple(rows.values()))
    header = pages.table_of(found).splitlines()[0]
    assert "| largest deviation | at step | difference at the end | host peak MB |" in header
    written = plots.write_plots(tmp_path / "r.json", found)
    assert [path.name for path in written] == ["r.png", "r-losses.png"]
    for path in written:
        with Image.open(path) as image:
            assert image.width == 960


@pytest.mark.usefixtures("tiny_network", "short_pieces")
def test_float16_is_not_emulated_unless_asked_for():
    rows = measured(Local, steps=2)
    assert rows["mixed_float16"].check.startswith("not run: emulated on a CPU; --include-fp16")
    phases = (dataclasses.replace(CONFIG.phases[0], image_size=40),)
    rows = measured(Local, dataclasses.replace(CONFIG, phases=phases), steps=2, include_fp16=True)
    assert rows["mixed_float16"].check.startswith("not run: emulated on a CPU, where it is tried")


def answering(gpus=(), weights=None, losses=None):
    """Processes of which each learns by `losses`, on a machine with `gpus`."""
    configs = {}

    def prepare(name, config, keep_weights):
        assert keep_weights
        configs[name] = config["runtime"]
        sha = (weights or {}).get(name, "same")
        return {"weights_sha256": sha, "gpus": list(gpus), "environment": {"gpus": list(gpus)}}

    canned = Canned(
        prepare=prepare,
        begin=lambda name, nudged=False: None,
        losses=lambda name, steps: {"losses": (losses or {}).get(name, [2.0] * steps)},
        calibrate=lambda name: {"check": "ok", "steps": 4},
        peaks=lambda name: {"peak_host_bytes": 1e9, "peak_device_bytes": 2e9},
        drain=lambda name: None,
        run=lambda name: float(BATCH),
    )
    canned.configs = configs
    return canned


def test_a_gpu_has_tf32_and_float16():
    processes = answering(gpus=["A100"])
    rows = measured(processes.start, steps=3)
    assert list(rows) == [
        "float32",
        "tf32",
        "mixed_bfloat16",
        "mixed_float16",
        "float32_nudged",
    ]
    assert {row.check for row in rows.values()} == {"ok"}
    assert not processes.open
    chosen = {name: (c["precision"], c["tf32"]) for name, c in processes.configs.items()}
    assert chosen["float32"] == ("float32", False)
    assert chosen["tf32"] == ("float32", True)
    assert chosen["mixed_float16"] == ("mixed_float16", False)


def test_other_first_weights_show_no_number():
    rows = measured(answering(weights={"mixed_bfloat16": "other"}).start, steps=3)
    assert rows["mixed_bfloat16"].check == "failed: its first weights are not those of float32"
    assert rows["mixed_bfloat16"].images_per_s is None
    assert rows["mixed_bfloat16"].figures == {}


def test_a_precision_that_diverges_says_so():
    rows = measured(answering(losses={"mixed_bfloat16": [2.0, None, None]}).start, steps=3)
    assert "stopped being finite at step 1 of 3" in rows["mixed_bfloat16"].figures["verdict"]
    assert rows["mixed_bfloat16"].figures["largest_deviation"] is None


def test_a_mistake_of_the_user_ends_it():
    processes = answering()

    def refuse(name, **arguments):
        raise ConfigError("no such folder")

    processes.answers["prepare"] = refuse
    with pytest.raises(ConfigError, match="no such folder"):
        measured(processes.start, steps=3)
    assert not processes.open


ACCURACIES = {
    "float32": [0.90, 0.91, 0.92],
    "mixed_bfloat16": [0.91, 0.90, 0.917],
    "mixed_float16": [0.80, 0.81, 0.79],
}


def learning(found=ACCURACIES, **machine):
    """Processes that also run to the end, with these accuracies."""
    processes = answering(**machine)
    asked = []

    def train(name, seed, run_dir):
        run = found[name.partition(",")[0]][seed]
        if isinstance(run, Exception):
            raise run
        return {"test_accuracy": run}

    def prepare_runs(name, config):
        # The rates' processes have gone: a run has the device to itself.
        assert processes.open == {name}
        asked.append((name, config["runtime"]["precision"]))
        return {"environment": {}}

    processes.answers |= {"prepare_runs": prepare_runs, "train": train}
    processes.runs = asked
    return processes


def trained(processes, seeds=3):
    config = dataclasses.replace(CONFIG, seed=0)
    rows = measured(processes.start, config, steps=3, seeds=seeds)
    assert not processes.open
    return rows


def test_runs_over_seeds_tell_whether_a_precision_costs_accuracy(tmp_path):
    processes = learning(gpus=["A100"], found=ACCURACIES | {"tf32": [0.95, 0.951, 0.949]})
    rows = trained(processes)
    assert processes.runs == [
        ("float32, 3 runs", "float32"),
        ("tf32, 3 runs", "float32"),
        ("mixed_bfloat16, 3 runs", "mixed_bfloat16"),
        ("mixed_float16, 3 runs", "mixed_float16"),
    ]
    float32, same = rows["float32"].figures, rows["mixed_bfloat16"].figures
    assert float32["accuracy"]["median"] == pytest.approx(0.91)
    assert float32["deviation"] == pytest.approx(0.01)
    assert "accuracy_difference" not in float32
    assert "test accuracy 91.00% [88.52%, 93.48%], 3 seeds." in float32["verdict"]
    # Welch's interval by hand: variances 1e-4 and 7.3e-5, 3.9 degrees of freedom.
    assert same["accuracy_difference"]["median"] == pytest.approx(-0.001)
    half = 2.806 * (1e-4 / 3 + 7.3e-5 / 3) ** 0.5
    assert same["accuracy_difference"]["high"] == pytest.approx(-0.001 + half, rel=3e-3)
    assert same["test_accuracies"] == ACCURACIES["mixed_bfloat16"]
    assert (
        "3 seeds cannot tell whether it costs accuracy: difference from float32 -0.10 points ["
        in same["verdict"]
    )
    assert same["verdict"].startswith("mixed_bfloat16: ")
    assert (
        "It costs accuracy: difference from float32 -11.00"
        in (rows["mixed_float16"].figures["verdict"])
    )
    assert "It gains accuracy: difference from float32 +4.00" in rows["tf32"].figures["verdict"]
    assert "accuracy" not in rows["float32_nudged"].figures

    found = Record("precision", "c", {"cpu": "a CPU"}, {}, tuple(rows.values()))
    assert "| accuracy less that of float32 |" in pages.table_of(found).splitlines()[0]
    written = plots.write_plots(tmp_path / "r.json", found)
    assert [path.name for path in written] == ["r.png", "r-losses.png", "r-accuracy.png"]


def test_a_precision_whose_runs_fail_keeps_its_rate():
    lost = ACCURACIES | {
        "mixed_bfloat16": [0.9, Described("DivergenceError: at step 3"), Described("x")]
    }
    row = trained(learning(found=lost))["mixed_bfloat16"]
    assert row.images_per_s is not None
    assert "2 of 3 runs failed, seed 1: DivergenceError: at step 3." in row.figures["verdict"]
    assert row.figures["runs"] == 1
    assert "accuracy_difference" not in row.figures


def test_without_seeds_nothing_runs_to_the_end():
    processes = learning()
    rows = trained(processes, seeds=0)
    assert not processes.runs
    assert "test_accuracies" not in rows["mixed_bfloat16"].figures


@pytest.mark.usefixtures("tiny_network", "short_pieces")
def test_real_runs_over_seeds():
    rows = measured(Local, steps=2, seeds=2)
    for name in ("float32", "mixed_bfloat16"):
        assert len(rows[name].figures["test_accuracies"]) == 2
    assert "difference from float32" in rows["mixed_bfloat16"].figures["verdict"]
    assert "test_accuracies" not in rows["mixed_float16"].figures  # not timed here


def test_one_seed_is_refused():
    with pytest.raises(ConfigError, match=r"seeds must be 2 or more.* Received: 1"):
        commands.run(["precision", "--seeds", "1"])


@pytest.mark.parametrize("given", ["--precision=float32", "--no-tf32"])
def test_the_precision_is_not_the_users_to_choose(given):
    with pytest.raises(ConfigError, match=r"leave --(precision|no-tf32) out"):
        commands.run(["precision", given])
