"""`fastcifar evaluate` on the folder of a real, small run."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastcifar.arguments import parse_evaluate
from fastcifar.cli import main
from fastcifar.data.sources.ingest import ReadOptions
from fastcifar.data.sources.preparation import prepare
from fastcifar.data.split import Examples
from fastcifar.errors import RunDirError, SourceError
from fastcifar.evaluation.evaluate import Evaluator
from fastcifar.rundir import RunDir
from fastcifar.training.evaluate_run import evaluate_run
from fastcifar.training.progress import Display
from fastcifar.training.trainer import train
from tests.training.small_run import small

pytestmark = pytest.mark.usefixtures("two_stages")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return str(folder), train(small(phase={"epochs": 2}), str(folder))


def test_its_weights_give_the_figures_of_the_summary(run):
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
    with pytest.raises(
        SourceError, match=r"those of the run .* Received: 4 classes in place of 10"
    ):
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


LAYOUTS = {
    "lone": ["{name}/{index}.png"],
    "a lone test folder": ["test/{name}/{index}.png"],
    "splits": ["Train/{name}/{index}.png", "Test/{name}/{index}.png"],
    "wrapped": ["set/seg_train/seg_train/{name}/{index}.png"],
    "csv": ["{index}.png"],
    "prepared": ["train/{name}/{index}.png", "test/{name}/{index}.png"],
}


def lay_out(root: Path, split: Examples, layout: str, classes: Sequence[str]) -> Path:
    """Write images of some classes as files, by turns in each of a layout's places."""
    rows = ["label,file,split"]
    images = split.in_memory().images
    for index, label in enumerate(split.labels.tolist()):
        name = split.class_names[label]
        earlier = np.count_nonzero(split.labels[:index] == label)
        if name in classes:
            place = LAYOUTS[layout][earlier % len(LAYOUTS[layout])].format(name=name, index=index)
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[index]).save(root / place)
            rows.append(f"{name},{place},{('train', 'test')[index % 2]}")
    if layout == "csv":
        (root / "labels.csv").write_text("\n".join(rows))
        return root / "labels.csv"
    if layout == "prepared":
        (line,) = prepare("image_folder", data_path=str(root), options=ReadOptions())
        return Path(line.split("'")[1])
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_labelled_images_of_a_folder_are_evaluated(run, tmp_path, capsys, layout):
    """The reference is the same images as the run itself evaluates them."""
    folder, _ = run
    own, splits = evaluate_run(folder, RunDir(folder).read_config())
    path = lay_out(tmp_path, splits.test, layout, splits.class_names)
    order = parse_evaluate([folder, "--data-path", str(path)])
    found, _ = evaluate_run(folder, order.config, whole=order.whole, display=Display())
    assert found.confusion.tolist() == own.confusion.tolist()
    assert found.loss == pytest.approx(own.loss, rel=1e-6)
    assert "evaluated: all 25 labelled images of" in capsys.readouterr().out


def test_a_folder_may_hold_some_of_the_classes(run, tmp_path, capsys):
    folder, _ = run
    own, splits = evaluate_run(folder, RunDir(folder).read_config())
    wanted = splits.class_names[1::2]  # their labels in the folder are not those of the run
    path = lay_out(tmp_path, splits.test, "lone", wanted)
    (path / "stray.txt").touch()
    (path / wanted[0] / "stray.txt").touch()
    assert main(["evaluate", folder, "--data-path", str(path)]) == 0
    said = capsys.readouterr().out
    rows = own.confusion[1::2]
    assert f"test accuracy {rows[:, 1::2].trace() / rows.sum():.4f}" in said
    assert f"evaluated: all {rows.sum()} labelled images of" in said
    assert f"of {len(wanted)} of the run's {len(splits.class_names)} classes" in said
    assert "1 file ignored" in said
    (path / wanted[0]).rename(path / "cat")
    assert main(["evaluate", folder, "--data-path", str(path)]) == 2
    assert "Received: class 'cat'" in capsys.readouterr().err


def test_one_class_alone_can_be_evaluated(run, tmp_path):
    folder, _ = run
    own, splits = evaluate_run(folder, RunDir(folder).read_config())
    path = lay_out(tmp_path, splits.test, "lone", splits.class_names[2:3])
    order = parse_evaluate([folder, "--data-path", str(path)])
    found, _ = evaluate_run(folder, order.config, whole=order.whole)
    assert found.confusion[2].tolist() == own.confusion[2].tolist()
    assert found.confusion.sum() == own.confusion[2].sum()


def test_the_runs_own_folder_is_evaluated_whole_where_it_is_named(tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        path = tmp_path / "set" / ("cat", "dog")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    data = {"source": "image_folder", "data_path": str(tmp_path / "set")}
    config = small(data={**data, "validation_fraction": 0.0}, phase={"epochs": 1})
    train(config, str(tmp_path / "run"))
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "evaluated: 2 images of the test split" in said
    assert "there is no test split: 10% of train" in said
    assert main(["evaluate", str(tmp_path / "run"), *("--data-path", str(tmp_path / "set"))]) == 0
    said = capsys.readouterr().out
    assert "evaluated: all 24 labelled images" in said
    assert "the run was trained on images of this folder" in said


@pytest.mark.slow
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
