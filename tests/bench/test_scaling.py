"""Replicas are compared only where they compute the same thing."""

import dataclasses

import pytest
from PIL import Image

from fastcifar.bench import commands, pages, plots
from fastcifar.bench.record import Record
from fastcifar.bench.scaling import Layout, ScalingPlan, layouts, measure_scaling, overlapped
from fastcifar.errors import ConfigError
from tests.bench.handles import Canned, Local
from tests.bench.subjects import CONFIG, Rows

NAMES = ["1", "weak/2", "weak/4", "strong/2", "strong/4"]


def measured(start, config=CONFIG, replicas=(2, 4)):
    rows = Rows()
    measure_scaling(config, ScalingPlan(replicas, rounds=2), rows, start)
    return rows


def test_overlapped_rows_are_the_weak_ones_once_more():
    assert overlapped(layouts(128, (2, 4))) == [
        Layout("weak/2/overlapped", 2, 256, "overlapped"),
        Layout("weak/4/overlapped", 4, 512, "overlapped"),
    ]


def test_layouts_keep_the_batch_of_each_or_the_global_one():
    assert layouts(128, (2, 4)) == [
        Layout("1", 1, 128),
        Layout("weak/2", 2, 256),
        Layout("weak/4", 4, 512),
        Layout("strong/2", 2, 128),
        Layout("strong/4", 4, 128),
    ]


@pytest.mark.usefixtures("tiny_network", "short_pieces")
def test_two_replicas_of_the_real_step(tmp_path):
    rows = measured(Local, replicas=(2,))
    assert list(rows) == ["1", "weak/2", "strong/2"]
    assert {row.check for row in rows.values()} == {"ok"}
    assert rows["weak/2"].figures["per_replica_batch_size"] == CONFIG.global_batch_size
    assert rows["strong/2"].figures["per_replica_batch_size"] == CONFIG.global_batch_size // 2
    for name in ("weak/2", "strong/2"):
        # Two logical devices are one device: efficiency is not halved.
        assert rows[name].figures["efficiency"]["median"] == rows[name].ratios["1"].median
        assert rows[name].figures["reduction_share"]["median"] > 0
    words = rows["1"].figures["verdict"]
    assert "logical devices of one CPU" in words
    assert "not a speed-up" in words
    assert "weak/2" in words

    found = Record("scaling", "c", {"cpu": "a CPU", "gpus": []}, {}, tuple(rows.values()))
    header = pages.table_of(found).splitlines()[0]
    assert "| replicas | batch of each | efficiency | share of reduction |" in header
    (picture,) = plots.write_plots(tmp_path / "r.json", found)
    with Image.open(picture) as image:
        assert image.width == 960


def answering(gpus=0, agree=True, losses=None, fails=None, xla=False):
    """Processes of a machine with `gpus`."""
    configs = {}

    def prepare(name, config):
        configs[name] = config
        if name == fails:
            raise ConfigError("global-batch-size must be a multiple of the 4 replicas")
        environment = {"cpu": "x"}
        found = {"gpus": ["A100"] * gpus, "precision": "float32", "environment": environment}
        return found | {"xla": xla}

    canned = Canned(
        prepare=prepare,
        first_step=lambda name: {"first_loss": (losses or {}).get(name, 2.3), "step_s": 0.5},
        calibrate=lambda name, step_s: {"check": "ok", "steps": round(1 / step_s)},
        replicas_agree=lambda name: agree or name == "1",
        drain=lambda name: None,
        run=lambda name: 128.0,
        reduction=lambda name: 128.0,
    )
    canned.configs = configs
    return canned


def test_on_gpus_efficiency_is_of_each_device():
    processes = answering(gpus=4)
    rows = measured(processes.start)
    assert list(rows) == NAMES
    assert not processes.open
    for name in NAMES[1:]:
        share = rows[name].ratios["1"].median / rows[name].figures["replicas"]
        assert rows[name].figures["efficiency"]["median"] == pytest.approx(share)
    assert rows["1"].figures["verdict"].startswith("Efficiency: weak/2")
    chosen = {name: config["runtime"] for name, config in processes.configs.items()}
    assert chosen["1"]["strategy"] == "none"
    assert (chosen["weak/4"]["devices"], chosen["weak/4"]["logical_devices"]) == (4, 1)
    assert processes.configs["weak/4"]["global_batch_size"] == 4 * CONFIG.global_batch_size


@pytest.mark.parametrize(("gpus", "xla", "more"), [(2, True, 2), (2, False, 0), (1, True, 0)])
def test_on_several_gpus_with_xla_both_ways_to_reduce_are_measured(gpus, xla, more):
    processes = answering(gpus=gpus, xla=xla)
    rows = measured(processes.start)
    asked = [name for name, config in processes.configs.items() if is_overlapped(config)]
    assert [name for name in rows if name.endswith("/overlapped")] == [
        "weak/2/overlapped",
        "weak/4/overlapped",
    ][:more]
    assert asked == ["weak/2/overlapped"][:more]  # there is no second pair of GPUs


def is_overlapped(config):
    return config["runtime"]["reduction"] == "overlapped"


def test_more_replicas_than_gpus_are_not_run():
    rows = measured(answering(gpus=2).start)
    assert rows["weak/4"].check == "not run: this machine has 2 GPUs"
    assert rows["weak/2"].images_per_s is not None
    assert "weak/4" not in rows["1"].figures["verdict"]


def test_replicas_that_drift_apart_show_no_number():
    rows = measured(answering(agree=False).start)
    assert rows["weak/2"].check.startswith("failed: the replicas hold different weights")
    assert rows["weak/2"].images_per_s is None
    assert rows["1"].images_per_s is not None


def test_a_batch_that_cannot_be_split_is_a_row():
    rows = measured(answering(fails="strong/4").start)
    assert "must be a multiple of the 4 replicas" in rows["strong/4"].error
    assert rows["strong/2"].images_per_s is not None


@pytest.mark.parametrize(("synchronised", "ok"), [(True, False), (False, True)])
def test_the_first_loss_is_that_of_one_replica_where_batch_norm_is_synchronised(synchronised, ok):
    model = dataclasses.replace(CONFIG.model, sync_batch_norm=synchronised)
    config = dataclasses.replace(CONFIG, model=model)
    rows = measured(answering(losses={"strong/2": 2.4}).start, config)
    assert (rows["strong/2"].check == "ok") == ok
    assert rows["weak/2"].check == rows["strong/4"].check == "ok"


def test_an_interrupt_keeps_the_rows_and_closes_every_process():
    processes = answering()
    pieces = []

    def run(name):
        pieces.append(name)
        if len(pieces) > 12:
            raise KeyboardInterrupt
        return 128.0

    processes.answers["run"] = run
    rows = Rows()
    with pytest.raises(KeyboardInterrupt):
        measure_scaling(CONFIG, ScalingPlan((2, 4)), rows, processes.start)
    assert not processes.open
    assert rows["strong/4"].images_per_s.n == 1


def test_a_mistake_of_the_user_ends_it():
    processes = answering(fails="1")
    with pytest.raises(ConfigError, match="must be a multiple"):
        measured(processes.start)
    assert not processes.open


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--replicas", "1,two"], "replicas takes whole numbers joined by commas"),
        (["--replicas", "1"], "one of them 2 or more"),
        (["--logical-devices", "2"], "leave --logical-devices out, and use --replicas"),
    ],
)
def test_mistakes_are_one_line(given, said):
    with pytest.raises(ConfigError, match=said):
        commands.run(["scaling", *given])
