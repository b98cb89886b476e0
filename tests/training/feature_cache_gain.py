"""What the feature cache saves: a recipe's head, trained through the backbone and on its features.

As a program it takes what `fastcifar train` takes, and trains the head alone in the recipe's first
phase, twice; it prints where the time went and the ratio:

    python -m tests.training.feature_cache_gain RECIPE [FLAGS]

Counted are the pass that computes the features, with all that it compiles, the training and the
validation of all epochs. Not counted, because both ways pay it alike: start-up, checkpoints, and
the test split at the end.
"""

import dataclasses
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple


class Seconds(NamedTuple):
    """Where the time of a run went; `rest` is checkpoints and the test split."""

    features: float
    training: float
    validation: float
    rest: float

    @property
    def counted(self):
        return self.features + self.training + self.validation

    def __str__(self):
        return (
            f"{self.counted:.1f} s (features {self.features:.1f}, training {self.training:.1f}, "
            f"validation {self.validation:.1f}), and {self.rest:.1f} s for checkpoints and the test"
        )


class Gain(NamedTuple):
    """The same epochs of the head both ways, and the largest difference of their losses."""

    through_backbone: Seconds
    on_features: Seconds
    loss_deviation: float

    @property
    def ratio(self):
        return self.through_backbone.counted / self.on_features.counted


def head_alone(config, cache):
    """The first phase of a configuration, at its final size, training the head."""
    phase = dataclasses.replace(config.phases[0], trainable="head", start_image_size=None)
    data = dataclasses.replace(config.data, feature_cache=cache)
    return dataclasses.replace(config, phases=(phase,), data=data)


def timed(config, folder, display):
    """Train; return (seconds, the loss of each epoch)."""
    from fastcifar.rundir import RunDir
    from fastcifar.training.trainer import train

    summary = train(config, str(folder), display=display)
    epochs = RunDir(folder).read_metrics()
    features, training = summary["features_s"], sum(entry["train_s"] for entry in epochs)
    validation = sum(entry["paused_s"] for entry in epochs)
    accounted = features + training + validation + summary["startup_s"]
    seconds = Seconds(features, training, validation, summary["wall_s"] - accounted)
    return seconds, [entry["loss"] for entry in epochs]


def measure(config, display=None):
    """Train the head of a configuration both ways."""
    kept = "memory" if config.data.feature_cache == "off" else config.data.feature_cache
    with tempfile.TemporaryDirectory() as folder:
        through, losses = timed(head_alone(config, "off"), Path(folder) / "off", display)
        on, others = timed(head_alone(config, kept), Path(folder) / kept, display)
    pairs = zip(losses, others, strict=True)
    return Gain(through, on, max(abs(one - other) for one, other in pairs))


def main():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from fastcifar import arguments, runtime

    config = arguments.parse_train(sys.argv[1:]).config
    runtime.prepare_environment(config.runtime)
    from fastcifar.training.progress import Display

    gain = measure(config, Display())
    epochs = f"{config.phases[0].epochs} epochs of the head"
    print(f"{epochs} through the frozen backbone: {gain.through_backbone}")
    print(f"{epochs} on cached features: {gain.on_features}")
    print(f"ratio: {gain.ratio:.1f}; losses differ by {gain.loss_deviation:.1e} at most")


if __name__ == "__main__":
    main()
