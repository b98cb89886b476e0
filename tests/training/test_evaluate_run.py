"""`fastcifar evaluate` on the folder of a real, small run."""

import dataclasses

import pytest

from fastcifar.cli import main
from fastcifar.errors import RunDirError, SourceError
from fastcifar.evaluation.evaluate import Evaluator
from fastcifar.rundir import RunDir
from fastcifar.training.evaluate_run import evaluate_run
from fastcifar.training.trainer import train
from tests.training.small_run import small


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return str(folder), train(small(phase={"epochs": 2}), str(folder))


def test_last_weights_give_the_figures_of_the_summary(run):
    folder, summary = run
    evaluation, splits = evaluate_run(folder, RunDir(folder).read_config())
    assert evaluation.accuracy == summary["test_accuracy"]
    assert evaluation.loss == pytest.approx(summary["test_loss"], rel=1e-6)
    assert list(splits.class_names) == summary["class_names"]


def test_best_weights_and_views(run):
    folder, _ = run
    config = RunDir(folder).read_config()
    best, _ = evaluate_run(folder, config, checkpoint="best")
    views, _ = evaluate_run(folder, config, checkpoint="best", views="flip-shift")
    assert best.loss != views.loss
    assert best.confusion.sum() == views.confusion.sum() == 25


def test_other_classes_are_refused(run):
    folder, _ = run
    config = small(data={"synthetic_classes": 4})
    with pytest.raises(SourceError, match="classes of the run: disc"):
        evaluate_run(folder, config)


def test_another_network_is_refused(run):
    folder, _ = run
    with pytest.raises(RunDirError, match="does not fit"):
        evaluate_run(folder, small(model={"width": 8}))


def test_a_run_without_validation_has_no_best(tmp_path):
    config = small(phase={"epochs": 1}, data={"validation_fraction": 0.0})
    summary = train(config, str(tmp_path))
    assert summary["validation_accuracy"] is None
    with pytest.raises(RunDirError, match="no best checkpoint"):
        evaluate_run(str(tmp_path), config, checkpoint="best")


def test_the_command_prints_each_class(run, capsys):
    folder, summary = run
    assert main(["evaluate", folder, "--test-time-augmentation", "flip"]) == 0
    said = capsys.readouterr().out
    assert "test accuracy" in said
    for name in summary["class_names"]:
        assert f"  {name} " in said


def test_a_smaller_source_can_be_evaluated(run):
    folder, _ = run
    config = RunDir(folder).read_config()
    fewer = dataclasses.replace(config, data=dataclasses.replace(config.data, limit_test=20))
    evaluation, _ = evaluate_run(folder, fewer)
    assert evaluation.confusion.sum() == 20


def test_views_are_for_the_test_reading_alone(run, tmp_path, capsys, monkeypatch):
    _, without = run
    config = small(phase={"epochs": 2}, test_time_augmentation="flip-shift")
    looked = set()
    call = Evaluator.__call__

    def watched(self, split):
        looked.add((self._views, len(split)))
        return call(self, split)

    with monkeypatch.context() as patched:
        patched.setattr(Evaluator, "__call__", watched)
        summary = train(config, str(tmp_path / "run"))
    assert looked == {("none", 13), ("flip-shift", 25)}  # validation images, test images
    assert summary["test_time_augmentation"] == "flip-shift"
    assert without["test_time_augmentation"] == "none"
    # The same training with the same validation; another look at the test images.
    assert summary["weights_sha256"] == without["weights_sha256"]
    assert summary["validation_accuracy"] == without["validation_accuracy"]
    assert summary["test_loss"] != without["test_loss"]
    by_hand, _ = evaluate_run(str(tmp_path / "run"), config, views="flip-shift")
    assert summary["test_loss"] == pytest.approx(by_hand.loss, rel=1e-6)
    # What evaluates the run later looks at them in the same way, unless it is told otherwise.
    for arguments, expected in (([], summary), (["--test-time-augmentation", "none"], without)):
        assert main(["evaluate", str(tmp_path / "run"), *arguments]) == 0
        assert f"test loss {expected['test_loss']:.4f}" in capsys.readouterr().out
