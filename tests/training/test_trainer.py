"""Whole runs of a small network: results, exact resume, interrupts, refusals."""

import dataclasses
import json
import os
import signal
import threading

import numpy as np
import pytest

from fastcifar.errors import ConfigError, DivergenceError, RunDirError, SourceError
from fastcifar.rundir import RunDir
from fastcifar.training import calls, checkpoints
from fastcifar.training.checkpoints import Checkpoints
from fastcifar.training.evaluate_run import evaluate_run
from fastcifar.training.interrupts import Interrupted
from fastcifar.training.progress import Display
from fastcifar.training.trainer import train
from tests.training.small_run import STEPS_PER_EPOCH, small

pytestmark = pytest.mark.usefixtures("two_stages")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One uninterrupted run, for comparison: (its folder, its summary)."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return RunDir(folder), train(small(), str(folder))


def test_a_run_leaves_its_whole_folder(finished):
    run, summary = finished
    assert run.read_config() == small()
    assert run.read_environment()["versions"]["tensorflow"]
    epochs = run.read_metrics()
    assert [e["epoch"] for e in epochs] == [1, 2, 3]
    assert set(epochs[0]) == {
        *("epoch", "step", "phase", "objective", "loss", "accuracy"),
        *("validation_loss", "validation_accuracy"),
        *("learning_rate", "rate_scale", "images_per_s", "train_s", "paused_s"),
    }
    assert run.read_summary() == json.loads(json.dumps(summary))
    assert {
        *("test_accuracy", "test_loss", "validation_accuracy", "train_accuracy", "images_per_s"),
        *("startup_s", "train_s", "wall_s", "epochs", "steps", "replicas", "precision", "xla"),
        *("parameters", "peak_host_bytes", "peak_device_bytes", "warnings", "weights_sha256"),
    } <= set(summary)
    assert summary["steps"] == 3 * STEPS_PER_EPOCH
    assert np.sum(summary["confusion_matrix"]) == 128 // 5
    assert summary["wall_s"] >= summary["train_s"] + summary["startup_s"]
    assert [p.name for p in Checkpoints(run.checkpoints_path).paths()] == [
        "step-00000014.npz",
        "step-00000021.npz",
    ]
    assert (run.checkpoints_path / "best.npz").exists()
    assert list(run.tensorboard_path.glob("events.*"))
    samples = run.read_samples()
    assert samples["images"].shape == (25, 16, 16, 3)


def test_the_same_run_gives_the_same_bits(finished, tmp_path):
    again = train(small(), str(tmp_path / "again"))
    assert again["weights_sha256"] == finished[1]["weights_sha256"]


def test_smoothing_and_mixing_change_the_objective_and_no_other_loss(finished, tmp_path):
    base = small(phase={"epochs": 1, "augment": "flip+mixup"})
    smooth = dataclasses.replace(base.optimizer, label_smoothing=0.4)
    folder = str(tmp_path / "run")
    summary = train(dataclasses.replace(base, optimizer=smooth), folder)
    (epoch,) = RunDir(folder).read_metrics()
    said = "cross-entropy of mixed labels with label smoothing 0.4"
    assert epoch["objective"] == summary["objective"] == said
    assert epoch["loss"] == summary["train_loss"]
    assert finished[1]["objective"] == "cross-entropy"
    # Evaluated as if nothing had been smoothed: the same figures.
    evaluation, _ = evaluate_run(folder, base)
    assert evaluation.loss == pytest.approx(summary["test_loss"], rel=1e-6)


def test_another_seed_gives_other_bits(finished, tmp_path):
    other = train(small(seed=1, phase={"epochs": 1}), str(tmp_path / "other"))
    assert other["weights_sha256"] != finished[1]["weights_sha256"]


class StopAt(Display):
    """Asks the process to stop once a number of steps is done, as Ctrl-C would."""

    def __init__(self, step, number=signal.SIGINT):
        super().__init__(quiet=True)
        self.left, self.number = step, number

    def step(self, steps, **figures):
        self.left -= steps
        if self.left <= 0 and self.left + steps > 0:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("step", "number", "status"),
    [
        (10, signal.SIGINT, 130),
        pytest.param(7, signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_stopped_and_resumed_equals_never_stopped(finished, tmp_path, step, number, status):
    folder = str(tmp_path / "run")
    with pytest.raises(Interrupted, match="--resume") as caught:
        train(small(runtime={"steps_per_call": "1"}), folder, display=StopAt(step, number))
    assert caught.value.exit_status == status
    newest = Checkpoints(RunDir(folder).checkpoints_path).newest()
    assert newest.name == f"step-{step:08d}.npz"
    summary = train(small(), folder, resume=True)
    assert summary["weights_sha256"] == finished[1]["weights_sha256"]
    same = ("epoch", "loss", "accuracy", "validation_loss", "validation_accuracy", "learning_rate")
    for mine, whole in zip(RunDir(folder).read_metrics(), finished[0].read_metrics(), strict=True):
        assert {k: mine[k] for k in same} == pytest.approx({k: whole[k] for k in same}, rel=1e-9)


def averaged(**optimizer):
    """A run in two parts a batch whose weights are averaged."""
    base = small(phase={"epochs": 2})
    options = {"ema": 0.9, "accumulate": 2, **optimizer}
    return dataclasses.replace(base, optimizer=dataclasses.replace(base.optimizer, **options))


@pytest.fixture(scope="module")
def averaged_run(tmp_path_factory):
    """A run whose weights are averaged: (its folder, its summary)."""
    folder = tmp_path_factory.mktemp("runs") / "averaged"
    return str(folder), train(averaged(), str(folder))


def test_averages_are_what_is_evaluated(averaged_run, tmp_path):
    folder, summary = averaged_run
    arrays, _ = checkpoints.load(Checkpoints(RunDir(folder).checkpoints_path).newest())
    assert any(name.startswith("average/") for name in arrays)
    evaluation, _ = evaluate_run(folder, averaged())
    assert evaluation.loss == pytest.approx(summary["test_loss"], rel=1e-6)
    # The hash is that of the weights themselves, which averaging leaves alone.
    without = train(averaged(ema=None), str(tmp_path / "without"))
    assert without["weights_sha256"] == summary["weights_sha256"]
    assert without["test_loss"] != pytest.approx(summary["test_loss"], rel=1e-3)


@pytest.mark.slow
def test_averages_are_resumed(averaged_run, tmp_path):
    config, folder = averaged(), str(tmp_path / "stopped")
    singly = dataclasses.replace(config.runtime, steps_per_call="1")
    with pytest.raises(Interrupted):
        train(dataclasses.replace(config, runtime=singly), folder, display=StopAt(5))
    resumed = train(config, folder, resume=True)
    assert resumed["test_loss"] == pytest.approx(averaged_run[1]["test_loss"], rel=1e-6)
    assert resumed["weights_sha256"] == averaged_run[1]["weights_sha256"]


def synchronised(**runtime):
    layout = {"logical_devices": 2, **runtime}
    return small(phase={"epochs": 1}, model={"sync_batch_norm": True}, runtime=layout)


@pytest.mark.slow
def test_synchronised_batch_norm_trains(tmp_path):
    assert train(synchronised(), str(tmp_path / "run"))["replicas"] == 2


def test_synchronised_batch_norm_refuses_xla(tmp_path):
    compiled = synchronised(xla="on")
    with pytest.raises(ConfigError, match="sync-batch-norm needs xla off on 2 replicas"):
        train(compiled, str(tmp_path / "compiled"))


def test_two_replicas_train(tmp_path):
    config = small(phase={"epochs": 1}, runtime={"logical_devices": 2})
    summary = train(config, str(tmp_path / "run"))
    assert summary["replicas"] == 2
    assert summary["steps"] == STEPS_PER_EPOCH


def test_phases_follow_one_another(tmp_path):
    base = small()
    phases = tuple(
        dataclasses.replace(base.phases[0], name=name, epochs=1, image_size=size, augment=policy)
        for name, size, policy in (("low", 8, "flip"), ("high", 16, "none"))
    )
    folder = str(tmp_path / "run")
    summary = train(dataclasses.replace(base, phases=phases), folder)
    assert summary["steps"] == 2 * STEPS_PER_EPOCH
    assert [e["phase"] for e in RunDir(folder).read_metrics()] == ["low", "high"]


def test_divergence_stops_the_run_and_says_where(tmp_path):
    folder = str(tmp_path / "run")
    with pytest.raises(DivergenceError, match=r"step \d+.*--learning-rate"):
        train(small(phase={"learning_rate": 1e30, "epochs": 2}), folder)
    assert RunDir(folder).read_summary() is None


def test_a_used_folder_is_refused_before_any_work(finished):
    before = {p: p.stat().st_mtime_ns for p in finished[0].path.rglob("*")}
    with pytest.raises(RunDirError, match="already holds a run"):
        train(small(), str(finished[0].path))
    assert {p: p.stat().st_mtime_ns for p in finished[0].path.rglob("*")} == before


def test_refusals_leave_no_run_folder(tmp_path):
    folder = tmp_path / "run"
    for config, words in (
        (dataclasses.replace(small(), global_batch_size=4096), "at most the 115 training images"),
        (small(phase={"augment": "flipp"}), "flip"),
        (
            dataclasses.replace(small(runtime={"logical_devices": 2}), global_batch_size=15),
            "14 or 16",
        ),
        (
            dataclasses.replace(
                averaged(accumulate=3), runtime=small(runtime={"logical_devices": 2}).runtime
            ),
            "multiple of the 2 replicas times the 3 parts of --accumulate, such as 12 or 18",
        ),
        (averaged(accumulate=3), "multiple of the 3 parts of --accumulate, such as 15 or 18"),
    ):
        with pytest.raises(ConfigError, match=words):
            train(config, str(folder))
        assert not folder.exists()


def test_resume_with_other_data_is_refused(tmp_path):
    folder = str(tmp_path / "run")
    with pytest.raises(Interrupted):
        train(small(runtime={"steps_per_call": "1"}), folder, display=StopAt(1))
    other = small(data={"synthetic_count": 256})
    with pytest.raises(SourceError, match="train: 115 images before, 230 now"):
        train(other, folder, resume=True)
    with pytest.raises(ConfigError, match="7 steps per epoch"):
        train(other, folder, resume=True, allow_changed_data=True)
    with pytest.raises(RunDirError, match="does not fit"):
        train(small(model={"width": 8}), folder, resume=True)


def test_a_disk_that_refuses_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    real = os.fsync

    def full(descriptor):
        if len(list((folder / "checkpoints").glob("step-*"))) >= 1:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunDirError, match="No space left"):
        train(small(), str(folder))
    arrays, progress = checkpoints.load(Checkpoints(folder / "checkpoints").newest())
    assert progress.step == STEPS_PER_EPOCH
    assert arrays


def test_steps_per_call_do_not_change_the_run(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(calls, "CALL_S", 1e-9)  # one step a call
    assert train(small(), str(tmp_path / "1"))["weights_sha256"] == finished[1]["weights_sha256"]


def test_training_outside_the_main_thread_works(tmp_path):
    found = []
    thread = threading.Thread(
        target=lambda: found.append(train(small(phase={"epochs": 1}), str(tmp_path / "run")))
    )
    thread.start()
    thread.join()
    assert found[0]["epochs"] == 1


def test_images_may_grow_within_a_phase(tmp_path):
    phase = {"epochs": 2, "image_size": 16, "start_image_size": 8, "augment": "trivial"}
    summary = train(small(phase=phase), str(tmp_path / "run"))
    assert summary["epochs"] == 2
    assert [e["phase"] for e in RunDir(tmp_path / "run").read_metrics()] == ["train", "train"]


@pytest.mark.slow
def test_stopped_while_images_grow_and_resumed_is_the_same(tmp_path):
    config = small(
        phase={"epochs": 2, "image_size": 16, "start_image_size": 8},
        runtime={"steps_per_call": "1"},
    )
    whole = train(config, str(tmp_path / "whole"))
    with pytest.raises(Interrupted):
        train(config, str(tmp_path / "run"), display=StopAt(9))
    resumed = train(config, str(tmp_path / "run"), resume=True)
    assert resumed["weights_sha256"] == whole["weights_sha256"]


def test_a_few_steady_steps_are_traced_for_tensorboard(finished, tmp_path):
    folder = tmp_path / "run"
    summary = train(small(runtime={"profile": 2}), str(folder))
    assert list((folder / "tensorboard").rglob("*.xplane.pb"))
    # It leaves no trace in what is computed.
    assert summary["weights_sha256"] == finished[1]["weights_sha256"]
    assert summary["steps"] == finished[1]["steps"]
