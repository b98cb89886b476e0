"""The weights whose test figures count: the best by validation, or the last; and who says so."""

import dataclasses

import numpy as np
import pytest

from fastcifar.cli import main
from fastcifar.errors import ConfigError
from fastcifar.evaluation.evaluate import Evaluator
from fastcifar.rundir import RunDir
from fastcifar.training import checkpoints, trainer
from fastcifar.training.assembly import read_weights
from fastcifar.training.checkpoints import Checkpoints
from fastcifar.training.evaluate_run import evaluate_run
from fastcifar.training.progress import Display
from fastcifar.training.trainer import train
from tests.training.small_run import small

pytestmark = pytest.mark.usefixtures("two_stages")


class Lines(Display):
    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def config(**changes):
    """Two epochs, the first of which is made the best by `first_is_best`."""
    base = small(phase={"epochs": 2, "learning_rate": 0.03})
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def first_is_best(tmp_path_factory):
    """A run with averages whose first epoch validates best: (folder, summary)."""
    base = config()
    ema = dataclasses.replace(base.optimizer, ema=0.9)
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        falling(patch)
        return str(folder), train(dataclasses.replace(base, optimizer=ema), str(folder))


def falling(patch):
    """Let each reading of the validation split look worse than the one before."""
    call, accuracies = Evaluator.__call__, [0.9, 0.8]

    def seen(self, split):
        found = call(self, split)
        if len(split) == 13:
            found = dataclasses.replace(found, accuracy=accuracies.pop(0))
        return found

    patch.setattr(Evaluator, "__call__", seen)


def test_the_best_weights_are_tested_where_there_is_validation(first_is_best):
    folder, summary = first_is_best
    assert (summary["test_weights"], summary["test_epoch"], summary["best_epoch"]) == ("best", 1, 1)
    assert summary["best_validation_accuracy"] == 0.9
    said = {}
    for which in ("auto", "best", "last"):
        display = Lines()
        found, _ = evaluate_run(
            folder, RunDir(folder).read_config(), checkpoint=which, display=display
        )
        said[which] = display.lines[0]
        same = found.loss == pytest.approx(summary["test_loss"], rel=1e-6)
        assert same == (which != "last")
    assert said["auto"] == said["best"]
    assert "best weights, of epoch 1 (step 7)" in said["best"]
    assert "last weights, of epoch 2 (step 14)" in said["last"]


def test_the_hash_is_that_of_the_last_weights(first_is_best, tmp_path):
    folder, summary = first_is_best
    base = RunDir(folder).read_config()
    with pytest.MonkeyPatch.context() as patch:
        falling(patch)
        last = train(dataclasses.replace(base, test_weights="last"), str(tmp_path / "run"))
    assert last["weights_sha256"] == summary["weights_sha256"]
    assert (last["test_weights"], last["test_epoch"]) == ("last", 2)
    assert last["test_loss"] != pytest.approx(summary["test_loss"], rel=1e-4)
    assert last["weights_sha256_of"].startswith("the last step's weights")


def test_a_finished_run_is_not_evaluated_again(first_is_best, monkeypatch, capsys):
    folder, summary = first_is_best
    monkeypatch.setattr(trainer, "prepare", lambda *_, **__: pytest.fail("it was prepared"))
    again = train(RunDir(folder).read_config(), folder, resume=True)
    assert again == RunDir(folder).read_summary()
    assert again["test_loss"] == summary["test_loss"]
    assert main(["train", "--resume", "--run-dir", folder]) == 0
    shown = capsys.readouterr().out
    assert "not evaluated again" in shown
    assert f"test accuracy {summary['test_accuracy']:.4f}" in shown
    assert "best weights, of epoch 1" in shown


def test_weights_of_a_run_are_its_best_unless_it_is_told_otherwise(first_is_best):
    folder, _ = first_is_best
    kept = Checkpoints(RunDir(folder).checkpoints_path)
    files = {"": kept.best_path, ":best": kept.best_path, ":last": kept.newest()}
    for suffix, path in files.items():
        model = dataclasses.replace(RunDir(folder).read_config().model, weights=folder + suffix)
        weights = read_weights(model)
        kernel = weights.layers["predictions"]["kernel"]
        expected = checkpoints.load(path)[0]["average/predictions/kernel"]
        np.testing.assert_array_equal(kernel, expected)
        assert str(path) in weights.origin
        assert f"{'last' if suffix == ':last' else 'best'} weights" in weights.origin


def test_without_validation_the_last_weights_are_tested_and_the_best_refused(tmp_path):
    base = small(phase={"epochs": 1}, data={"validation_fraction": 0.0})
    summary = train(base, str(tmp_path / "run"))
    assert (summary["test_weights"], summary["test_epoch"]) == ("last", 1)
    assert summary["best_validation_accuracy"] is None
    with pytest.raises(ConfigError, match="test-weights best needs validation images"):
        train(dataclasses.replace(base, test_weights="best"), str(tmp_path / "best"))
    assert not (tmp_path / "best").exists()


def test_the_phase_of_an_epoch():
    base = small()
    phases = tuple(
        dataclasses.replace(base.phases[0], name=name, epochs=epochs)
        for name, epochs in (("a", 2), ("b", 1))
    )
    run = dataclasses.replace(base, phases=phases)
    assert [run.phase_at(epoch).name for epoch in (1, 2, 3)] == ["a", "a", "b"]
