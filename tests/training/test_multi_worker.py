"""Whole runs of two workers on this host, started as a user would start them."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastcifar import config_file
from fastcifar.training import checkpoints
from fastcifar.training.checkpoints import Checkpoints
from fastcifar.training.trainer import train
from tests.training.small_run import STEPS_PER_EPOCH, small

REPOSITORY = Path(__file__).resolve().parents[2]


def start(folder, config, *flags):
    """Start two workers on `config` into `folder`."""
    path = folder.with_suffix(".json")
    path.write_text(json.dumps(config_file.to_dict(config)))
    what = ["--resume"] if "--resume" in flags else ["--config", str(path)]
    return subprocess.Popen(
        [
            *(sys.executable, "scripts/launch_workers", "2", sys.executable, "-m", "fastcifar"),
            *("train", *what, "--strategy", "multi_worker", "--run-dir", str(folder)),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def on_two_replicas(tmp_path, config):
    runtime = dataclasses.replace(config.runtime, strategy="mirrored", logical_devices=2)
    return train(dataclasses.replace(config, runtime=runtime), str(tmp_path / "mirrored"))


def test_two_workers_give_the_bits_of_two_replicas(tmp_path):
    config = small(phase={"epochs": 1})
    folder = tmp_path / "run"
    out, _ = start(folder, config).communicate(timeout=110)
    found, expected = summary(folder), on_two_replicas(tmp_path, config)
    same = ("weights_sha256", "test_accuracy", "validation_accuracy", "confusion_matrix", "steps")
    assert {key: found[key] for key in same} == {key: expected[key] for key in same}
    assert (found["workers"], found["replicas"]) == (2, 2)
    # Both say the same, one writes the folder, each keeps its log.
    epochs = re.findall(r"^\[([01])\] (epoch 1/1  .*?validation accuracy [\d.]+)", out, re.M)
    assert sorted(index for index, _ in epochs) == ["0", "1"]
    assert len({line for _, line in epochs}) == 1
    assert out.count("results: ") == 1
    for index in (0, 1):
        log = (folder / "logs" / f"worker-{index}.log").read_text()
        assert f"(worker {index} of 2, by TF_CONFIG)" in log
        assert "epoch 1/1" in log


@pytest.mark.slow
def test_two_workers_that_diverge_go_back_to_one_checkpoint(tmp_path):
    base = small(phase={"epochs": 2, "learning_rate": 1e30})
    config = dataclasses.replace(base, on_divergence="rollback", rollback_factor=1e-32)
    folder = tmp_path / "run"
    _, said = start(folder, config).communicate(timeout=170)
    assert (folder / "summary.json").exists(), said
    found, expected = summary(folder), on_two_replicas(tmp_path, config)
    assert [rollback["to_step"] for rollback in found["rollbacks"]] == [0]
    for key in ("weights_sha256", "rollbacks", "test_accuracy", "test_epoch"):
        assert found[key] == expected[key]


def worker(launcher, index):
    """The process id of a worker."""
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(launcher.pid)], capture_output=True, text=True
    )
    for pid in map(int, children.stdout.split()):
        environ = Path(f"/proc/{pid}/environ").read_bytes().decode()
        if f'"index": {index}}}' in environ:
            return pid
    raise AssertionError(f"worker {index} does not run")


def wait_for(path, text):
    end = time.monotonic() + 100
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < end, f"{text!r} did not appear"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "left"), [(1, 0), (0, 1)])
def test_a_lost_worker_is_named_and_the_run_goes_on_to_the_same_bits(tmp_path, lost, left):
    config = small(phase={"epochs": 30})
    folder = tmp_path / "run"
    launcher = start(folder, config)
    wait_for(folder / "metrics.jsonl", '"epoch": 2,')
    os.kill(worker(launcher, lost), signal.SIGKILL)
    _, err = launcher.communicate(timeout=100)
    assert launcher.returncode == 128 + signal.SIGKILL
    assert re.search(
        rf"^\[{left}\] fastcifar: error: worker {lost} \(localhost:\d+\) has died", err, re.M
    )
    _, progress = checkpoints.load(Checkpoints(folder / "checkpoints").newest())
    assert 2 * STEPS_PER_EPOCH <= progress.step < 30 * STEPS_PER_EPOCH

    resumed = start(folder, config, "--resume")
    _, err = resumed.communicate(timeout=110)
    assert resumed.returncode == 0, err
    assert summary(folder)["weights_sha256"] == on_two_replicas(tmp_path, config)["weights_sha256"]


@pytest.mark.slow
def test_a_signal_stops_all_workers_at_one_step(tmp_path):
    folder = tmp_path / "run"
    launcher = start(folder, small(phase={"epochs": 200}))
    wait_for(folder / "metrics.jsonl", '"epoch": 2,')
    os.kill(worker(launcher, 1), signal.SIGTERM)  # one of them is asked, both stop
    _, err = launcher.communicate(timeout=60)
    assert launcher.returncode == 128 + signal.SIGTERM
    stops = re.findall(r"^\[([01])\] fastcifar: stopped at step (\d+)", err, re.M)
    assert sorted(index for index, _ in stops) == ["0", "1"]
    assert len({step for _, step in stops}) == 1
    _, progress = checkpoints.load(Checkpoints(folder / "checkpoints").newest())
    assert progress.step == int(stops[0][1])
