"""Averages of the weights over a run of two phases, held to their definition in NumPy."""

import dataclasses

import numpy as np
import pytest

from fastcifar.training import checkpoints, trainer
from fastcifar.training.checkpoints import Checkpoints
from fastcifar.training.interrupts import Interrupted
from fastcifar.training.trainer import train
from tests.training.small_run import small
from tests.training.test_trainer import StopAt

pytestmark = pytest.mark.usefixtures("two_stages")

DECAY, STEPS = 0.9, 2  # of an epoch: 40 images, 4 held out
SKIPPED = (1, 5)  # within an epoch: no checkpoint holds the scale that makes them overflow


def in_phases(*trainable, **changes):
    """Two epochs of two steps for each part of the network that is named."""
    data = {"synthetic_count": 40, "synthetic_classes": 2, **changes.pop("data", {})}
    base = small(data=data, **changes)
    phase = dataclasses.replace(base.phases[0], epochs=2, augment="none", learning_rate=0.03)
    return dataclasses.replace(
        base,
        optimizer=dataclasses.replace(base.optimizer, ema=DECAY),
        phases=tuple(dataclasses.replace(phase, trainable=each, name=each) for each in trainable),
    )


def watched(monkeypatch, config, folder):
    """Train, and return (the trainer, its state before the first and after each step, skipped)."""
    states, skipped, found = [], [], []

    class Watched(trainer.Training):
        def run(self):
            found.append(self)
            states.append(self.prepared.state.arrays())
            self.overflow()
            return super().run()

        def overflow(self):
            if config.runtime.precision == "mixed_float16":
                step = len(states) - 1
                self.prepared.state.loss_scale.assign(np.inf if step in SKIPPED else 256.0)

        def _count(self, steps, metrics, seconds):
            super()._count(steps, metrics, seconds)
            states.append(self.prepared.state.arrays())
            skipped.append(bool(metrics.skipped))
            self.overflow()

    monkeypatch.setattr(trainer, "Training", Watched)
    train(config, folder)
    return found[0], states, skipped


def reference(states, skipped, starts):
    """The averages after each step, by definition: in float64, one variable after the other."""
    averages, updates, found = {}, 0, []
    for step, left_out in enumerate(skipped):
        before, after = states[step], states[step + 1]
        weights = [name for name in before if name.startswith("model/")]
        if step in starts:
            averages, updates = {name: before[name].astype(np.float64) for name in weights}, 0
        if not left_out:
            updates += 1
            decay = min(DECAY, (1 + updates) / (10 + updates))
            averages = {
                name: decay * averages[name] + (1 - decay) * after[name] for name in weights
            }
        found.append(averages)
    return found


@pytest.mark.parametrize(
    ("phases", "cache", "precision"),
    [
        (("all", "head"), "off", "float32"),
        pytest.param(("all", "head"), "memory", "mixed_float16", marks=pytest.mark.slow),
        pytest.param(("head", "from:conv3", "head"), "off", "float32", marks=pytest.mark.slow),
    ],
)
def test_averages_over_phases_are_those_of_the_definition(
    tmp_path, monkeypatch, phases, cache, precision
):
    runtime = {"precision": precision, "steps_per_call": "1"}
    config = in_phases(*phases, data={"feature_cache": cache}, runtime=runtime)
    training, states, skipped = watched(monkeypatch, config, str(tmp_path))
    expected_skips = SKIPPED if precision == "mixed_float16" else ()
    assert np.flatnonzero(skipped).tolist() == list(expected_skips)
    starts = range(0, len(skipped), 2 * STEPS)
    for after, averages in zip(states[1:], reference(states, skipped, starts), strict=True):
        for name, expected in averages.items():
            received = after[name.replace("model/", "average/", 1)]
            np.testing.assert_allclose(received, expected, rtol=2e-5, atol=1e-6, err_msg=name)
    # What validates is the network with these averages, from features as well.
    evaluate = training._evaluator(training.phases[-1])
    loss = evaluate(training.prepared.splits.validation).loss
    reported = training.progress.epochs[-1]["validation_loss"]
    assert reported == pytest.approx(loss, rel=1e-2 if precision == "mixed_float16" else 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 4, 5])
def test_averages_of_a_run_stopped_around_a_phase_are_those_of_one_that_was_not(tmp_path, step):
    config = in_phases("all", "head", runtime={"steps_per_call": "1"})
    train(config, str(tmp_path / "whole"))
    with pytest.raises(Interrupted):
        train(config, str(tmp_path / "stopped"), display=StopAt(step))
    train(config, str(tmp_path / "stopped"), resume=True)
    whole, stopped = (
        checkpoints.load(Checkpoints(tmp_path / name / "checkpoints").newest())[0]
        for name in ("whole", "stopped")
    )
    assert any(name.startswith("average/") for name in whole)
    for name, array in whole.items():
        np.testing.assert_array_equal(stopped[name], array, err_msg=name)
