"""The step's rows take turns in groups that fit, and say what XLA and precision buy."""

import pytest

from fastcifar import config_file
from fastcifar.bench import commands, compute, process_commands, record
from fastcifar.bench.processes.row_process import OutOfMemory
from fastcifar.bench.step_rates import StepPlan, measure_step
from fastcifar.errors import ConfigError
from tests.bench.handles import Canned, Local
from tests.bench.subjects import CONFIG, Rows

# µs an image.
TOOK = {
    "mixed_bfloat16 xla": 10,
    "mixed_bfloat16": 20,
    "tf32 xla": 30,
    "tf32": 45,
    "float32 xla": 50,
    "float32": 100,
    "batch 16": 8,
    "batch 32": 8,
}
GPU = ["mixed_bfloat16 xla", "mixed_bfloat16", "tf32 xla", "tf32", "float32 xla", "float32"]


def answering(gpus=("a GPU",), fails=None, took=TOOK, check="ok"):
    configs, most_open = {}, [0]

    def prepare(name, config, held):
        assert held
        most_open[0] = max(most_open[0], len(canned.open))
        configs[name] = config_file.from_dict(config)
        if fails and name in fails:
            raise fails[name]
        canned.clock.now += 3
        return {"gpus": list(gpus), "environment": {"gpus": list(gpus)}}

    def run(name):
        images = 100.0 * configs[name].global_batch_size
        canned.clock.now += took[name] / 1e6 * images
        return images

    canned = Canned(
        prepare=prepare,
        calibrate=lambda name, share: {"check": check, "steps": 100},
        peaks=lambda name: {"peak_host_bytes": 1, "peak_device_bytes": 2},
        arithmetic=lambda name: {
            "flops_per_image": 1e9,
            "peak_flops_per_s": 1e15,
            "peak_bytes_per_s": 1e12,
        },
        run=run,
    )
    canned.configs, canned.most_open = configs, most_open
    return canned


def measured(processes):
    rows = Rows()
    plan = StepPlan(seconds=1.0, rounds=3)
    measure_step(CONFIG, plan, rows, processes.start, processes.clock)
    assert not processes.open
    return rows


def test_all_precisions_with_and_without_xla_on_a_gpu():
    processes = answering()
    rows = measured(processes)
    assert list(rows) == [*GPU, "batch 16", "batch 32"]
    assert processes.most_open[0] == 3  # of one precision and the fastest
    runtimes = {name: config.runtime for name, config in processes.configs.items()}
    assert (runtimes["tf32"].precision, runtimes["tf32"].tf32) == ("float32", True)
    assert (runtimes["float32"].precision, runtimes["float32"].tf32) == ("float32", False)
    for name, runtime in runtimes.items():
        assert runtime.xla == ("on" if "xla" in name or "batch" in name else "off")
    assert rows.environment == {"gpus": ["a GPU"]}


def test_ratios_utilisation_and_memory():
    rows = measured(answering())
    best = rows["mixed_bfloat16 xla"]
    found = {name: ratio.median for name, ratio in best.ratios.items()}
    expected = {"mixed_bfloat16": 2, "tf32 xla": 3, "float32 xla": 5}
    assert found == pytest.approx(expected)
    assert rows["float32 xla"].ratios["float32"].median == pytest.approx(2)
    assert rows["tf32 xla"].ratios["tf32"].median == pytest.approx(1.5)
    assert best.images_per_s.median == pytest.approx(1e5)
    figures = best.figures
    assert figures["flops_per_s"] == pytest.approx(1e14)
    assert figures["utilisation"] == pytest.approx(0.1)
    assert figures["step_ms"] == pytest.approx(0.08)
    assert figures["peak_device_bytes"] == 2
    assert figures["global_batch_size"] == 8
    assert figures["startup_s"] >= 3


def test_batches_grow_while_that_gains():
    rows = measured(answering())
    assert rows["batch 16"].ratios["mixed_bfloat16 xla"].median == pytest.approx(1.25)
    assert rows["batch 32"].ratios["batch 16"].median == pytest.approx(1.0)  # and no further
    assert rows["batch 16"].figures["global_batch_size"] == 16


def test_a_batch_that_does_not_fit_is_a_row():
    rows = measured(answering(fails={"batch 16": OutOfMemory("OOM")}))
    assert rows["batch 16"].error == "OOM"
    assert "batch 32" not in rows
    assert rows["mixed_bfloat16 xla"].images_per_s is not None


def test_a_row_that_fails_leaves_the_others():
    rows = measured(answering(fails={"float32": OutOfMemory("OOM")}))
    assert rows["float32"].error == "OOM"
    assert "float32 xla" in rows["mixed_bfloat16 xla"].ratios
    assert "float32" not in rows["float32 xla"].ratios


def test_the_fastest_keeps_the_rate_of_its_first_comparison():
    processes = answering()
    usual = processes.answers["run"]
    before = []

    def run(name):
        if name == "mixed_bfloat16 xla":
            before.append(name)
            if len(before) > 6:  # in a later one it has no room beside the others
                raise OutOfMemory("OOM")
        return usual(name)

    processes.answers["run"] = run
    rows = measured(processes)
    assert rows["mixed_bfloat16 xla"].images_per_s.median == pytest.approx(1e5)
    assert rows["float32 xla"].images_per_s.median == pytest.approx(2e4)
    assert set(rows["mixed_bfloat16 xla"].ratios) == {"mixed_bfloat16"}


def test_a_cpu_has_no_tf32_and_tries_one_larger_batch():
    faster = TOOK | {"batch 16": 5}
    rows = measured(answering(gpus=(), took=faster))
    names = ["mixed_bfloat16 xla", "mixed_bfloat16", "float32 xla", "float32", "batch 16"]
    assert list(rows) == names


def test_a_wrong_answer_has_no_number():
    rows = measured(answering(check="failed: the loss must be finite. Received: nan"))
    assert all(row.images_per_s is None and not row.figures for row in rows.values())


def test_a_mistake_of_the_user_ends_it():
    with pytest.raises(ConfigError, match="no such folder"):
        measured(answering(fails={"mixed_bfloat16 xla": ConfigError("no such folder")}))


def test_what_it_sets_itself_is_refused():
    with pytest.raises(ConfigError, match="leave --xla out"):
        commands.run(["step", "quickstart", "--xla", "on"])


@pytest.mark.usefixtures("tiny_network", "short_pieces")
def test_the_real_step_on_a_held_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(process_commands.row_process, "start", Local)
    monkeypatch.setattr(
        compute, "measure_peak", lambda dtype, *, on_gpu, seconds: compute.Peak(1e13, 1e10)
    )
    out = tmp_path / "s.json"
    arguments = ["quickstart", "--synthetic-count", "64", "--synthetic-size", "8"]
    arguments += ["--image-size", "8", "--global-batch-size", "8", "--augment", "none"]
    arguments += ["--rounds", "2", "--seconds", "0.1", "--out", str(out)]
    assert commands.run(["step", *arguments]) == 0
    found = record.read(out)
    best = found.row("mixed_bfloat16 xla")
    assert best.images_per_s.n == 2
    assert 0 < best.figures["utilisation"] < 1
    assert found.row("float32 xla").ratios["float32"].n == 2
    assert found.environment["threads"]
