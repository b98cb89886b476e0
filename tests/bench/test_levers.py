"""Levers take turns with the default, each in its own environment."""

import pytest

from fastcifar import config_file
from fastcifar.bench import commands, record
from fastcifar.bench.levers import DEFAULT, LEVERS, Lever, LeversPlan, measure_levers
from fastcifar.bench.measure import Described
from fastcifar.errors import ConfigError
from tests.bench.handles import Canned
from tests.bench.subjects import CONFIG, Rows

PRIVATE = "TF_GPU_THREAD_MODE=gpu_private"


def answering(gpus=("a GPU",), fails=None):
    environments, batches = {}, {}

    def prepare(name, config):
        batches[name] = config_file.from_dict(config).global_batch_size
        if fails and name in fails:
            raise fails[name]
        canned.clock.now += 7 if name == DEFAULT else 5
        return {"gpus": list(gpus), "environment": {"gpus": list(gpus)}}

    def run(name):
        canned.clock.now += 0.8 if name == PRIVATE else 1.0
        return 1000.0

    canned = Canned(
        prepare=prepare,
        calibrate=lambda name, share: {"check": "ok"},
        drain=lambda name: None,
        run=run,
    )
    canned.environments, canned.batches = environments, batches
    return canned


def measured(processes):
    rows = Rows()

    def start(name, environment=None):
        processes.environments[name] = environment
        return processes.start(name)

    measure_levers(CONFIG, LeversPlan(rounds=3), rows, start, processes.clock)
    assert not processes.open
    return rows


def test_each_has_an_environment_of_its_own(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--of_the_host")
    processes = answering()
    rows = measured(processes)
    assert list(rows) == [DEFAULT, *(lever.name for lever in LEVERS)]
    assert processes.environments[DEFAULT] is None
    assert processes.environments[PRIVATE] == {
        "TF_GPU_THREAD_MODE": "gpu_private",
        "TF_GPU_THREAD_COUNT": "2",
    }
    # What the host needs there stays.
    flags = processes.environments["xla_gpu_autotune_level=0"]["XLA_FLAGS"]
    assert flags == "--of_the_host --xla_gpu_autotune_level=0"
    assert processes.batches["batch × 2"] == 2 * CONFIG.global_batch_size


def test_gains_are_against_the_default():
    rows = measured(answering())
    assert rows[PRIVATE].ratios[DEFAULT].median == pytest.approx(1.25)
    assert rows[PRIVATE].figures["startup_s"] >= 5
    assert rows[DEFAULT].figures["startup_s"] == pytest.approx(7)
    assert rows["batch × 2"].ratios[DEFAULT].median == pytest.approx(1.0)


def test_a_cpu_has_none_of_a_gpus():
    rows = measured(answering(gpus=()))
    assert rows[PRIVATE].check == "not applicable: it is for GPUs"
    assert rows["batch × 2"].images_per_s is not None


def test_a_lever_that_breaks_is_a_row():
    rows = measured(answering(fails={PRIVATE: Described("no such thread mode")}))
    assert rows[PRIVATE].error == "no such thread mode"
    assert rows["xla_gpu_autotune_level=0"].images_per_s is not None


def test_a_mistake_of_the_user_ends_it():
    with pytest.raises(ConfigError, match="no such folder"):
        measured(answering(fails={DEFAULT: ConfigError("no such folder")}))


def test_xla_flags_are_added_to_none():
    lever = Lever("x", {"XLA_FLAGS": "--a=1"})
    assert lever.variables({}) == {"XLA_FLAGS": "--a=1"}


@pytest.mark.slow
def test_end_to_end(tmp_path):
    out = tmp_path / "l.json"
    arguments = ["levers", "quickstart", "--synthetic-count", "600", "--rounds", "2"]
    assert commands.run([*arguments, "--seconds", "1", "--out", str(out)]) == 0
    found = record.read(out)
    assert found.row("batch × 2").ratios[DEFAULT].n == 2
    assert found.environment["variables"] == {} or found.environment["variables"]
