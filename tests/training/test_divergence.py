"""A run that diverges ends with advice or goes back, and never keeps what is not finite."""

import dataclasses
import json
import signal

import numpy as np
import pytest

from fastcifar.config import RunConfig
from fastcifar.errors import ConfigError, DivergenceError, RunDirError
from fastcifar.rundir import RunDir
from fastcifar.training import checkpoints, divergence, trainer
from fastcifar.training.checkpoints import Checkpoints, Progress
from fastcifar.training.step import StepMetrics
from fastcifar.training.trainer import train
from tests.training.small_run import STEPS_PER_EPOCH, small
from tests.training.test_trainer import StopAt

pytestmark = pytest.mark.usefixtures("two_stages")

GOOD = {"model/a": np.ones(3, np.float32), "updates": np.int64(1)}
FAR = {"learning_rate": 1e30}


def not_finite(name, value=np.nan):
    return GOOD | {name: np.array([1, value], np.float32)}


def metrics(skipped=0.0, bad=-1):
    return StepMetrics(loss=1.0, correct=1.0, images=8.0, skipped=skipped, first_bad_step=bad)


def refusal(call, *arguments):
    with pytest.raises(DivergenceError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["model/bn/moving_variance", "slots/v/a", "average/a"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_state_with_any_value_that_is_not_finite_is_refused(name, value):
    divergence.check_state(GOOD, 7)
    said = refusal(divergence.check_state, not_finite(name, value), 7)
    assert said == f"{name} was no longer finite after 7 steps"


def test_what_of_a_call_is_divergence():
    for fine in (metrics(), metrics(skipped=3.0)):
        divergence.check_call(fine, 9, 2.0)
    divergence.check_call(metrics(), 9, 1.0)  # float32 is not scaled
    assert "at step 5" in refusal(divergence.check_call, metrics(bad=5), 9, 1.0)
    assert "floor of 1 at step 9" in refusal(divergence.check_call, metrics(skipped=1.0), 9, 1.0)


def test_an_epoch_without_an_update_is_divergence_unless_it_is_short():
    divergence.check_epoch(1, 7, 16.0)
    divergence.check_epoch(1, 2, 0.0)
    assert "all 3 steps of epoch 1" in refusal(divergence.check_epoch, 1, 3, 0.0)


@pytest.fixture
def kept(tmp_path):
    return Checkpoints(tmp_path / "checkpoints")


def test_the_newest_good_checkpoint_is_found_behind_others(kept):
    kept.save(GOOD, Progress(step=3), best=True)
    kept.save(not_finite("model/a"), Progress(step=6), best=False)
    path, arrays, progress = kept.newest_good()
    assert (path.name, progress.step, set(arrays)) == ("step-00000003.npz", 3, set(GOOD))
    kept.save(not_finite("slots/a"), Progress(step=9), best=False)
    assert kept.newest_good()[0] == kept.best_path
    kept.drop_after(3)
    assert kept.paths() == []


def test_without_a_good_checkpoint_it_is_said(kept):
    kept.save(not_finite("model/a"), Progress(step=6), best=True)
    with pytest.raises(RunDirError, match=r"holds no good checkpoint.*--learning-rate"):
        kept.newest_good()


def test_the_way_back_counts_and_scales(kept):
    config = RunConfig(on_divergence="rollback", rollback_factor=0.1, max_rollbacks=2)
    said = refusal(divergence.way_back, DivergenceError("bad"), kept, Progress(step=5), config)
    assert said.endswith("there is no good checkpoint to go back to")
    stopping = RunConfig()
    said = refusal(divergence.way_back, DivergenceError("bad"), kept, Progress(step=5), stopping)
    assert "--resume --on-divergence rollback starts again" in said
    kept.save(GOOD, Progress(step=3), best=False)
    progress = Progress(step=5, warnings=["kept"])
    for times in (1, 2):
        _, progress = divergence.way_back(DivergenceError("bad"), kept, progress, config)
        assert progress.step == 3
        assert progress.rate_scale == pytest.approx(0.1**times)
        assert [r["to_step"] for r in progress.rollbacks] == [3] * times
        assert progress.warnings == ["kept"]
    said = refusal(divergence.way_back, DivergenceError("bad"), kept, progress, config)
    assert said.startswith("bad, after 2 rollbacks")
    assert str(kept.paths()[0]) in said


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"rollback_factor": 1.0}, "rollback-factor must be above 0 and below 1"),
        ({"rollback_factor": 0.0}, "rollback-factor must be above 0 and below 1"),
        ({"max_rollbacks": 0}, "max-rollbacks must be 1 or more"),
        ({"on_divergence": "stay"}, "on-divergence must be one of stop, rollback"),
    ],
)
def test_illegal_answers_are_refused(values, rule):
    with pytest.raises(ConfigError, match=rule):
        RunConfig(**values)


def all_finite(folder):
    """The steps of the checkpoints, each of which must be good."""
    found = []
    for path in Checkpoints(RunDir(folder).checkpoints_path).folder.glob("*.npz"):
        arrays, progress = checkpoints.load(path)
        divergence.check_state(arrays, progress.step)
        found.append(progress.step)
    return sorted(found)


def poisoned(monkeypatch, at):
    """Make a moving variance infinite after a number of steps, behind the loss's back."""
    count = trainer.Training._count

    def counted(self, *arguments):
        count(self, *arguments)
        if self.progress.step == at:
            statistic = self.prepared.state.statistics[-1]
            statistic.assign(np.full(statistic.shape, np.inf))

    monkeypatch.setattr(trainer.Training, "_count", counted)


def test_no_checkpoint_holds_what_is_not_finite_at_an_epochs_end(tmp_path, monkeypatch):
    poisoned(monkeypatch, 2 * STEPS_PER_EPOCH)
    folder = str(tmp_path / "run")
    with pytest.raises(DivergenceError) as caught:
        train(small(runtime={"steps_per_call": "1"}), folder)
    assert "was no longer finite after 14 steps" in str(caught.value)
    assert f"{folder}/checkpoints/step-00000007.npz (step 7)" in str(caught.value)
    assert set(all_finite(folder)) == {STEPS_PER_EPOCH}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nor_does_that_of_an_interrupt(tmp_path, monkeypatch, number):
    poisoned(monkeypatch, 2)
    folder = str(tmp_path / "run")
    with pytest.raises(DivergenceError, match="there is no good checkpoint"):
        train(small(runtime={"steps_per_call": "1"}), folder, display=StopAt(2, number))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_run_goes_back_and_on_at_a_lower_rate(tmp_path, monkeypatch):
    base = small(phase=FAR | {"epochs": 1})
    config = dataclasses.replace(base, on_divergence="rollback", rollback_factor=1e-32)
    folder = str(tmp_path / "run")
    summary = train(config, folder)
    (rollback,) = summary["rollbacks"]
    assert (rollback["to_step"], rollback["rate_scale"]) == (0, 1e-32)
    assert "stopped being finite" in rollback["reason"]
    assert any("back to step 0" in warning for warning in summary["warnings"])
    epochs = RunDir(folder).read_metrics()
    assert [e["epoch"] for e in epochs] == [1]
    assert max(e["learning_rate"] for e in epochs) < 0.1
    all_finite(folder)

    # Killed once it has gone back, it goes on at the lower rate: the same run.
    killed = str(tmp_path / "killed")
    run_phase, phases = trainer.Training._run_phase, []

    def dying(self, phase):
        phases.append(phase)
        if len(phases) == 2:
            raise RuntimeError("killed")
        run_phase(self, phase)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Training, "_run_phase", dying)
        with pytest.raises(RuntimeError, match="killed"):
            train(config, killed)
    resumed = train(config, killed, resume=True)
    assert resumed["weights_sha256"] == summary["weights_sha256"]
    assert resumed["rollbacks"] == summary["rollbacks"]


def test_float16_that_leaves_every_step_out_is_divergence(tmp_path):
    """After one update the weights are so large that no later step is finite."""
    folder = str(tmp_path / "run")
    config = small(phase=FAR, runtime={"precision": "mixed_float16", "steps_per_call": "1"})
    with pytest.raises(DivergenceError, match=r"left out all 7 steps of epoch 2.*step-00000007"):
        train(config, folder)
    assert all_finite(folder) == [STEPS_PER_EPOCH]  # and so no best one
    (epoch,) = RunDir(folder).read_metrics()
    assert epoch["validation_loss"] is None
    assert np.isfinite(epoch["loss"])  # that of the step that was made
    json.loads((tmp_path / "run" / "metrics.jsonl").read_text(), parse_constant=pytest.fail)


@pytest.mark.slow
def test_two_replicas_go_back_too(tmp_path):
    base = small(phase=FAR | {"epochs": 1}, runtime={"logical_devices": 2})
    config = dataclasses.replace(base, on_divergence="rollback", rollback_factor=1e-32)
    assert len(train(config, str(tmp_path / "run"))["rollbacks"]) == 1
