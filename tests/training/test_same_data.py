"""A run knows its data: what was renamed, replaced, added or seen before is said in one line."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastcifar.cli import main
from fastcifar.config import DataConfig, RunConfig
from fastcifar.errors import SourceError
from fastcifar.rundir import RunDir
from fastcifar.training import checkpoints
from fastcifar.training.checkpoints import Checkpoints
from fastcifar.training.evaluate_run import evaluate_run
from fastcifar.training.interrupts import Interrupted
from fastcifar.training.trainer import train
from tests.training.small_run import small
from tests.training.test_trainer import StopAt
from tests.training.test_weights import Lines

pytestmark = pytest.mark.usefixtures("two_stages")

CLASSES = ("ant", "bee", "cow")
EACH, TRAIN, HELD_OUT = 14, 34, 4  # images of a class; to train on; for validation and test each


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def of_folder(folder: Path, seed: int = 0, **data: object) -> RunConfig:
    base = small(phase={"epochs": 2, "image_size": 8, "augment": "none"}, seed=seed)
    source = DataConfig(source="image_folder", data_path=str(folder))
    runtime = dataclasses.replace(base.runtime, steps_per_call="1")
    source = dataclasses.replace(source, **data)
    return dataclasses.replace(base, data=source, global_batch_size=8, runtime=runtime)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `images` and a run on it, `run`, stopped after two steps."""
    folder = tmp_path_factory.mktemp("data")
    for number in range(3 * EACH):
        draw(folder / "images" / CLASSES[number % 3] / f"{number:02d}.png", number)
    with pytest.raises(Interrupted):
        train(of_folder(folder / "images"), str(folder / "run"), display=StopAt(2))
    return folder


@pytest.fixture
def copy(stopped: Path, tmp_path: Path) -> Path:
    shutil.copytree(stopped, tmp_path / "copy")
    return tmp_path / "copy"


def first_of(folder: Path, name: str) -> Path:
    return sorted((folder / "images" / name).iterdir())[0]


def rename(folder: Path) -> None:
    (folder / "images/ant").rename(folder / "images/zebra")


def replace(folder: Path) -> None:
    for path in (folder / "images").glob("*/*.png"):
        draw(path, 1000 + int(path.stem))


def add(folder: Path) -> None:
    for number in range(30):
        draw(folder / "images/bee" / f"more-{number}.png", 100 + number)


def relabel(folder: Path) -> None:
    one, other = first_of(folder, "bee"), first_of(folder, "cow")
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


CHANGES = [
    (rename, r"those of the run .*Received: class 0 was 'ant' and is 'bee', and 2 more differ"),
    (
        replace,
        r"Received: train: 34 images, the content of some is another; .*test: 4 images, the ",
    ),
    (add, r"Received: train: 34 images before, \d+ now; .*test: 4 images before, \d+ now"),
    (relabel, r"Received: (train|validation|test): .*--allow-changed-data"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_a_run_is_not_resumed_with_other_data(
    copy: Path, change: Callable[[Path], None], message: str
) -> None:
    change(copy)
    with pytest.raises(SourceError, match=message) as refused:
        train(of_folder(copy / "images"), str(copy / "run"), resume=True)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("change", "message"), CHANGES[:2])
def test_a_stopped_run_is_not_evaluated_on_other_data(
    copy: Path, change: Callable[[Path], None], message: str
) -> None:
    change(copy)
    run = RunDir(copy / "run")
    at_home = dataclasses.replace(run.read_config(), data=of_folder(copy / "images").data)
    run.write_config(at_home)
    with pytest.raises(
        SourceError,
        match=message.replace("train: 34 images, the content of some is another; .*", ""),
    ):
        evaluate_run(str(run.path), at_home)


def test_other_images_may_be_allowed_and_are_a_warning(copy: Path) -> None:
    replace(copy)
    folder, run = str(copy / "images"), str(copy / "run")
    command = ["train", "--resume", "--run-dir", run, "--data-path", folder]
    assert main([*command]) == 2
    assert main([*command, "--allow-changed-data"]) == 0
    summary = RunDir(run).read_summary()
    assert summary is not None
    (warning,) = summary["warnings"]
    assert warning.startswith("resumed at step 2 with other images: train: 34 images, the content")
    # From here on these are the run's images, and those before have been seen as well.
    assert main([*command]) == 0
    stored = RunDir(run).read_data()
    assert stored is not None
    assert len(stored["seen"]) == 2 * TRAIN


def test_the_same_data_elsewhere_is_the_same(copy: Path, stopped: Path) -> None:
    again = train(of_folder(copy / "images"), str(copy / "run"), resume=True)
    assert again["warnings"] == []
    moved = dataclasses.replace(of_folder(copy / "images"), seed=0)
    display = Lines()
    evaluate_run(str(copy / "run"), moved, display=display)
    assert not [line for line in display.shown if "trained on" in line]


def test_every_checkpoint_and_the_folder_tell_the_data(stopped: Path) -> None:
    run = RunDir(stopped / "run")
    assert run.read_summary() is None
    _, progress = checkpoints.load(Checkpoints(run.checkpoints_path).newest())
    assert progress.data["class_names"] == list(CLASSES)
    assert {name: s["images"] for name, s in progress.data["splits"].items()} == {
        "train": TRAIN,
        "validation": HELD_OUT,
        "test": HELD_OUT,
    }
    stored = run.read_data()
    assert stored is not None
    assert len(stored["seen"]) == TRAIN


def from_run(copy: Path, **changes: object) -> RunConfig:
    base = of_folder(copy / "images", **changes)
    model = dataclasses.replace(base.model, weights=str(copy / "run"))
    phase = dataclasses.replace(base.phases[0], epochs=1)
    return dataclasses.replace(base, model=model, phases=(phase,))


def test_weights_are_not_tested_on_what_they_were_trained_on(copy: Path, tmp_path: Path) -> None:
    """The folder has grown a test folder meanwhile, of images that were training images."""
    (tmp_path / "grown").mkdir()
    shutil.copytree(copy / "images", tmp_path / "grown/train")
    shutil.copytree(copy / "images", tmp_path / "grown/test")
    for name in CLASSES:  # what is only in one of the two
        for path in sorted((tmp_path / "grown/train" / name).iterdir())[:4]:
            path.unlink()
        for path in sorted((tmp_path / "grown/test" / name).iterdir())[4:]:
            path.unlink()
    config = from_run(copy)
    grown = dataclasses.replace(config.data, data_path=str(tmp_path / "grown"))
    config = dataclasses.replace(config, data=grown, global_batch_size=4)
    with pytest.raises(
        SourceError, match=r"new to the weights. Received: \d+ of the 12 test images"
    ):
        train(config, str(tmp_path / "next"))
    assert not (tmp_path / "next").exists()
    summary = train(config, str(tmp_path / "next"), allow_changed_data=True)
    assert "test images are ones that" in summary["warnings"][0]


def test_the_same_folder_under_another_seed_is_new_to_the_weights(
    copy: Path, tmp_path: Path
) -> None:
    summary = train(from_run(copy, seed=1), str(tmp_path / "next"))
    assert summary["warnings"] == []


def test_a_head_of_a_stopped_run_is_not_taken_for_other_classes(copy: Path, tmp_path: Path) -> None:
    rename(copy)
    display = Lines()
    train(from_run(copy), str(tmp_path / "next"), allow_changed_data=True, display=display)
    assert any("the head starts fresh" in line for line in display.shown)


def test_a_run_without_a_checkpoint_knows_its_data_too(copy: Path) -> None:
    shutil.rmtree(copy / "run/checkpoints")
    rename(copy)
    with pytest.raises(SourceError, match="class 0 was 'ant' and is 'bee'"):
        train(of_folder(copy / "images"), str(copy / "run"), resume=True)


def test_a_run_of_an_older_version_is_resumed_with_a_note(copy: Path) -> None:
    run = RunDir(copy / "run")
    run.data_path.unlink()
    kept = Checkpoints(run.checkpoints_path)
    arrays, progress = checkpoints.load(kept.newest())
    progress.data = {}
    kept.save(arrays, progress, best=False)
    display = Lines()
    train(of_folder(copy / "images"), str(run.path), resume=True, display=display)
    assert any("does not say what it was trained on" in line for line in display.shown)
