"""A run that starts from the weights of another one: what is loaded, said and settled."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fastcifar.errors import ConfigError, UserError
from fastcifar.rundir import RunDir
from fastcifar.training import checkpoints
from fastcifar.training.checkpoints import Checkpoints
from fastcifar.training.progress import Display
from fastcifar.training.trainer import train
from tests.training.small_run import small

pytestmark = pytest.mark.usefixtures("two_stages")


class Lines(Display):
    """Keeps what is shown."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.shown: list[str] = []

    def line(self, text: str) -> None:
        self.shown.append(text)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("runs") / "first")
    train(small(phase={"epochs": 2}), folder)
    return folder


def from_weights(weights: str, *, model: dict | None = None, **changes):
    return small(model={"weights": weights, **(model or {})}, **changes)


def arrays(folder: str | Path) -> dict[str, np.ndarray]:
    return checkpoints.load(Checkpoints(RunDir(folder).checkpoints_path).newest())[0]


def test_a_frozen_backbone_keeps_the_weights_of_the_other_run(first: str, tmp_path: Path) -> None:
    config = from_weights(f"{first}:last", phase={"epochs": 1, "trainable": "head"})
    train(config, str(tmp_path / "run"))
    before, after = arrays(first), arrays(tmp_path / "run")
    for name, value in before.items():
        if name.startswith("model/"):
            same = np.array_equal(value, after[name])
            assert same == ("predictions" not in name), name


def test_a_head_for_other_classes_is_replaced_and_said_so(first: str, tmp_path: Path) -> None:
    config = from_weights(first, phase={"epochs": 1}, data={"synthetic_classes": 4})
    display = Lines()
    train(config, str(tmp_path / "run"), display=display)
    assert any("the head starts fresh" in line and "classes" in line for line in display.shown)


@pytest.mark.slow
def test_the_weights_settle_what_is_left_to_them(first: str, tmp_path: Path) -> None:
    open_questions = {"stem": "auto", "stride_version": "auto", "batch_norm_epsilon": None}
    model = {**open_questions, "normalise": "auto"}
    unit = train(small(phase={"epochs": 1}, model={"normalise": "unit"}), str(tmp_path / "unit"))
    assert unit["warnings"] == []
    train(
        from_weights(str(tmp_path / "unit"), model=model, phase={"epochs": 1}), str(tmp_path / "b")
    )
    settled = RunDir(tmp_path / "b").read_config().model
    assert (settled.normalise, settled.stem) == ("unit", "imagenet")
    # What it says can be trained again as it stands.
    again = train(RunDir(tmp_path / "b").read_config(), str(tmp_path / "c"))
    assert again["weights_sha256"] == RunDir(tmp_path / "b").read_summary()["weights_sha256"]


def test_pixels_that_the_weights_do_not_know_are_a_warning(first: str, tmp_path: Path) -> None:
    config = from_weights(first, model={"normalise": "caffe"}, phase={"epochs": 1})
    summary = train(config, str(tmp_path / "run"))
    (warning,) = summary["warnings"]
    assert warning.startswith("normalise caffe is not what the weights were trained with, cifar")


def test_a_stem_of_random_filters_that_nobody_trains_is_a_warning(
    first: str, tmp_path: Path
) -> None:
    phase = {"epochs": 1, "trainable": "head"}
    summary = train(
        from_weights(first, model={"stem": "cifar"}, phase=phase), str(tmp_path / "run")
    )
    (warning,) = summary["warnings"]
    assert warning.startswith(
        "conv1_conv starts fresh under the stem cifar, and no phase trains it"
    )


def test_a_resumed_run_needs_its_weights_no_more(first: str, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(first, other)
    config = from_weights(str(other), phase={"epochs": 1})
    summary = train(config, str(tmp_path / "run"))
    shutil.rmtree(other)
    again = train(RunDir(tmp_path / "run").read_config(), str(tmp_path / "run"), resume=True)
    assert again["weights_sha256"] == summary["weights_sha256"]


@pytest.mark.slow
def test_a_run_that_averaged_hands_its_averages_on(tmp_path: Path) -> None:
    base = small(phase={"epochs": 1})
    averaged = dataclasses.replace(base, optimizer=dataclasses.replace(base.optimizer, ema=0.5))
    train(averaged, str(tmp_path / "averaged"))
    config = from_weights(str(tmp_path / "averaged"), phase={"epochs": 1, "trainable": "head"})
    train(config, str(tmp_path / "run"))
    given, taken = arrays(tmp_path / "averaged"), arrays(tmp_path / "run")
    name = "conv1_conv/kernel"
    np.testing.assert_array_equal(taken[f"model/{name}"], given[f"average/{name}"])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": {"weights": "/none.h5"}}, UserError, "/none.h5"),
        ({"model": {"weights": "FIRST", "depth": 26}}, UserError, "conv2_block2"),
        ({"model": {"weights": "FIRST", "stride_version": "v1.5"}}, ConfigError, "stride-version"),
        ({"phase": {"trainable": "from:conv9"}}, ConfigError, "from:LAYER must name a layer"),
        ({"phase": {"trainable": "tail"}}, ConfigError, "trainable must be all, head or from"),
    ],
)
def test_what_does_not_fit_is_one_line(changes, error, message, first: str, tmp_path: Path) -> None:
    if changes.get("model", {}).get("weights") == "FIRST":
        changes = {"model": {**changes["model"], "weights": first}}
    with pytest.raises(error, match=message) as refused:
        train(small(**changes), str(tmp_path / "run"))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()
