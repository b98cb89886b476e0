"""The reference projects' recipes, end to end on real images, with weights in the published format.

The published ImageNet weights are not at hand, so the file holds random values: what is shown is
that everything these recipes name works together, not what they reach.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcifar import recipes
from fastcifar.cli import main
from fastcifar.rundir import RunDir
from tests.models.keras_applications import random_resnet50, write_h5

# Sizes at which a few steps take seconds on two cores; flags that the recipes have by default.
SMALL = {
    "upsample-rmsprop": ["--limit-train", "240", "--limit-test", "20", "--epochs", "1"],
    "freeze-then-finetune": ["--limit-train", "400", "--limit-test", "40", "--epochs", "2,1"],
    "frozen-backbone": ["--limit-train", "240", "--limit-test", "20", "--epochs", "1"],
    "cifar10-finetune": [
        *("--limit-train", "80", "--limit-test", "20", "--epochs", "1,2"),
        *("--global-batch-size", "24", "--image-size", "64,32:64"),
    ],
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet50_notop.h5"
    return write_h5(path, random_resnet50())


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_recipe_runs_on_real_images(
    name: str, weights: Path, real_images_dir: Path, tmp_path: Path, capsys: Any
) -> None:
    run = RunDir(tmp_path / "run")
    source = ["--source", "image_folder", "--data-path", str(real_images_dir)]
    flags = [*SMALL[name], *source, "--weights", str(weights), "--run-dir", str(run.path)]
    assert main(["train", name, *flags]) == 0
    said = capsys.readouterr().out
    summary = run.read_summary()
    assert summary is not None
    config = run.read_config()
    # Settled by the weights, or against them with a warning.
    assert (config.model.stem, config.model.stride_version) == ("imagenet", "v1")
    if recipes.get(name).model.normalise == "unit":
        (warning,) = summary["warnings"]
        assert warning.startswith("normalise unit is not what the weights were trained with, caffe")
        assert warning in said
    else:
        assert config.model.normalise == "caffe"
        assert summary["warnings"] == []
    assert [e["phase"] for e in run.read_metrics()] == [
        phase.name for phase in config.phases for _ in range(phase.epochs)
    ]
    assert (run.plots_path / "accuracy.png").exists()
    assert main(["evaluate", str(run.path), "--test-time-augmentation", "flip"]) == 0
    assert np.isfinite(summary["test_loss"])


def test_references_are_validated_on_images_held_out() -> None:
    for name in SMALL:
        assert recipes.get(name).data.validation_fraction > 0


def test_a_recipe_survives_its_file(tmp_path: Path) -> None:
    from fastcifar import config_file

    for name in recipes.names():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(config_file.to_dict(recipes.get(name))))
        assert config_file.read(path) == recipes.get(name)
