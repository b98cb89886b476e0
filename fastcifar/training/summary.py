"""The end of a run as one dict: what RUN/summary.json holds."""

from __future__ import annotations

import math
from typing import Any

import keras

from fastcifar import environment, runtime
from fastcifar.config import RunConfig
from fastcifar.evaluation.evaluate import Evaluation
from fastcifar.training.checkpoints import Progress
from fastcifar.training.preparation import Prepared
from fastcifar.training.state import weights_sha256


def summarise(
    config: RunConfig,
    prepared: Prepared,
    progress: Progress,
    seconds: dict[str, float],
    test: Evaluation,
) -> dict[str, Any]:
    """Sum up a finished run.

    Args:
        config: of the run, settled.
        prepared: its parts, in their last state.
        progress: at its end.
        seconds: of the clock's accounts.
        test: of the test split.
    """
    epochs, chosen = progress.epochs, prepared.runtime
    train_s = sum(entry["train_s"] for entry in epochs)
    timed_images = sum((e["images_per_s"] or 0.0) * e["train_s"] for e in epochs)
    validated = progress.best_epoch is not None
    return {
        "recipe": config.recipe,
        "test_accuracy": test.accuracy,
        "test_loss": finite(test.loss),
        "test_time_augmentation": config.test_time_augmentation,
        "validation_accuracy": epochs[-1]["validation_accuracy"],
        "best_epoch": progress.best_epoch,
        "best_validation_accuracy": progress.best_accuracy if validated else None,
        "train_accuracy": epochs[-1]["accuracy"],
        "train_loss": epochs[-1]["loss"],
        "objective": epochs[-1]["objective"],
        "images_per_s": ratio(timed_images, train_s),
        "startup_s": seconds["startup"],
        "features_s": seconds["features"],
        "train_s": train_s,
        "wall_s": sum(seconds.values()),
        "epochs": len(epochs),
        "steps": progress.step,
        "skipped_steps": progress.skipped_steps,
        "rollbacks": progress.rollbacks,
        "loss_scale": float(prepared.state.loss_scale.numpy()),
        "replicas": chosen.replicas,
        "workers": 1 if chosen.cluster is None else len(chosen.cluster.addresses),
        "precision": chosen.precision,
        "xla": chosen.xla,
        "parameters": parameters(prepared.model),
        "peak_host_bytes": environment.peak_host_bytes(),
        "peak_device_bytes": runtime.peak_device_bytes(),
        "warnings": progress.warnings,
        "notes": list(prepared.notes),
        "weights_sha256": weights_sha256(prepared.model),
        "weights_sha256_of": "the last step's weights, whatever was evaluated; without averages",
        "class_names": list(prepared.splits.class_names),
        "confusion_matrix": test.confusion.tolist(),
    }


def parameters(model: keras.Model) -> int:
    """Trainable parameters."""
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def ratio(amount: float, whole: float) -> float | None:
    """The amount for one of the whole; None for nothing of nothing."""
    return amount / whole if whole else None


def finite(value: float) -> float | None:
    """The value, or None where JSON has no form for it."""
    return value if math.isfinite(value) else None
